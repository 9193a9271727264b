// Discovery jobs, and starting one.
import { useState } from "react";
import { Link } from "react-router";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Select } from "../../design/field";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { seconds, When } from "../../design/time";
import { Listing, useFilter } from "../../list/keyset";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { Who } from "../../session/who";
import { useTitle } from "../../shell/title";
import { Schedules } from "./schedule";
import { StartDialog } from "./start";

type Job = Schemas["Job"];

const STATUSES = ["queued", "running", "completed", "partial", "failed", "cancelled"];

export default function JobsPage() {
  useTitle("Jobs");
  const tenant = useTenant();
  const { slug } = tenant;
  const [status, setStatus] = useFilter("status");
  const [starting, setStarting] = useState(false);
  const filters = status ? { status } : {};
  const columns: Column<Job>[] = [
    { head: "Plugin", kind: "main", cell: (it) => <Link to={to.job(slug, it.id)}>{it.plugin}</Link> },
    { head: "Status", cell: (it) => <Badge word={it.status} /> },
    {
      head: "Steps",
      cell: (it) =>
        it.total > 0 ? (
          <>
            <progress value={it.done} max={it.total} aria-label={`Progress of ${it.plugin}`} />
            <span className="small muted">
              {it.done} of {it.total}
            </span>
          </>
        ) : (
          <span className="muted">not known yet</span>
        ),
    },
    { head: "Asked for by", cell: (it) => <Who id={it.requested_by} /> },
    { head: "Asked", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
    { head: "Took", kind: "nowrap", cell: (it) => seconds(it.started_at, it.finished_at) },
  ];
  const start = (look?: "primary") => (
    <Button kind={look} reason={tenant.lacks("jobs:manage")} onClick={() => setStarting(true)}>
      Run a job
    </Button>
  );
  return (
    <>
      <Head title="Jobs" about="One job reads one source once. What it no longer sees is closed, never deleted.">
        {start("primary")}
      </Head>
      <div className="filters">
        <Select label="Status" value={status} onChange={(event) => setStatus(event.target.value)}>
          <option value="">All</option>
          {STATUSES.map((it) => (
            <option key={it}>{it}</option>
          ))}
        </Select>
      </div>
      <section className="panel">
        <Listing
          name="Jobs"
          queryKey={["tenant", slug, "jobs", filters]}
          load={(page, signal) =>
            take(api.GET("/api/v1/tenants/{tenant}/jobs", { params: { path: { tenant: slug }, query: { ...filters, ...page } }, signal }))
          }
          every={5_000}
          columns={columns}
          rowKey={(it) => it.id}
          exported={({ id, plugin, status, requested_by, created_at, started_at, finished_at, error }) => ({
            id,
            plugin,
            status,
            requested_by,
            created_at,
            started_at,
            finished_at,
            error,
          })}
          empty={
            <Empty
              title="No jobs here"
              action={start()}
            >
              A job of the plugin “host” reads the server’s own machine and needs nothing else.
            </Empty>
          }
        />
      </section>
      <Schedules start={start()} />
      {starting && <StartDialog onClose={() => setStarting(false)} />}
    </>
  );
}

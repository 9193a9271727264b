// What runs now and how far it is, what waits, and how the newest jobs ended.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { Link } from "react-router";
import { api, type Schemas, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Panel } from "../../design/panel";
import { Empty, Failed, Loading } from "../../design/state";
import { Table } from "../../design/table";
import { seconds, When } from "../../design/time";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";

type Job = Schemas["Job"];

/** How many of the newest are looked through for what still runs. */
const LOOKED_AT = "30";
const ENDED = 5;
const BUSY_MS = 2_000;
const QUIET_MS = 10_000;

const goesOn = (job: Job) => job.status === "running" || job.status === "queued";

function Progress({ job }: { job: Job }) {
  if (!goesOn(job)) return <span className="small muted">took {seconds(job.started_at, job.finished_at) || "no time"}</span>;
  if (job.status === "queued") return <span className="small muted">waits for a server</span>;
  if (job.total === 0) return <span className="small muted">how much there is to do is not known yet</span>;
  return (
    <>
      <progress value={job.done} max={job.total} aria-label={`Progress of ${job.plugin}`} />
      <span className="small muted">
        {job.done.toLocaleString("en")} of {job.total.toLocaleString("en")} steps
      </span>
    </>
  );
}

export function Jobs() {
  const { slug } = useTenant();
  const client = useQueryClient();
  const query = useQuery({
    queryKey: ["tenant", slug, "jobs", "newest"],
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/tenants/{tenant}/jobs", { params: { path: { tenant: slug }, query: { limit: LOOKED_AT } }, signal })),
    refetchInterval: (query) => (query.state.data?.items.some(goesOn) ? BUSY_MS : QUIET_MS),
  });
  // What a job brought is on this page too: it is asked for when one has ended.
  const going = query.data?.items.filter(goesOn).length;
  const before = useRef(going);
  useEffect(() => {
    if (before.current !== undefined && going !== undefined && going < before.current)
      for (const part of ["changes", "posture", "finding-counts", "findings", "node-counts"])
        void client.invalidateQueries({ queryKey: ["tenant", slug, part] });
    before.current = going;
  }, [client, slug, going]);
  if (query.isPending || lost(query)) {
    return (
      <Panel title="Discovery">
        {query.isPending ? <Loading rows={3} /> : <Failed {...told(query.error)} onRetry={() => void query.refetch()} />}
      </Panel>
    );
  }
  const all = query.data.items;
  const rows = [...all.filter(goesOn), ...all.filter((it) => !goesOn(it)).slice(0, ENDED)];
  return (
    <Panel title={going ? `Discovery: ${going} ${going === 1 ? "job goes" : "jobs go"} on` : "Discovery"} flush action={<Link to={to.jobs(slug)}>All jobs</Link>}>
      {rows.length === 0 ? (
        <Empty title="No job ran yet">
          <code>cairn jobs run --plugin host --wait</code> reads the server’s own machine.
        </Empty>
      ) : (
        <Table
          name="Jobs"
          rows={rows}
          rowKey={(it) => it.id}
          columns={[
            {
              head: "Plugin",
              kind: "main",
              cell: (it) => (
                <>
                  <Link to={to.job(slug, it.id)}>{it.plugin}</Link>
                  {it.error && <div className="under">{it.error}</div>}
                </>
              ),
            },
            { head: "Status", cell: (it) => <Badge word={it.status} /> },
            { head: "How far", cell: (it) => <Progress job={it} /> },
            { head: "Asked", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
          ]}
        />
      )}
    </Panel>
  );
}

// The log of a job: live while it goes on, by level, task and scope. What is in it is text, whoever wrote it.
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "react-router";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Select } from "../../design/field";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { Listing, useFilter } from "../../list/keyset";
import { SearchField } from "../../list/search";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";

type Line = Schemas["JobLine"];

const LEVELS = ["debug", "info", "warn", "error"];
const clock = new Intl.DateTimeFormat("en-GB", { dateStyle: "short", timeStyle: "medium" });

export default function JobLogPage() {
  const { job: id = "" } = useParams();
  const { slug } = useTenant();
  const path = { tenant: slug, job: id };
  const [level, setLevel] = useFilter("level");
  const [task, setTask] = useFilter("task");
  const [scope, setScope] = useFilter("scope");
  const job = useQuery({
    queryKey: ["tenant", slug, "job", id],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/jobs/{job}", { params: { path }, signal })),
    refetchInterval: (of) => (of.state.data && !["queued", "running"].includes(of.state.data.status) ? false : 2_000),
  });
  const plugin = job.data?.plugin ?? "job";
  const live = job.data !== undefined && ["queued", "running"].includes(job.data.status);
  useTitle(`Log of ${plugin}`);
  const filters = Object.fromEntries(Object.entries({ level, task, scope }).filter(([, of]) => of));
  const columns: Column<Line>[] = [
    { head: "At", kind: "nowrap", cell: (it) => <time dateTime={it.at}>{clock.format(new Date(it.at))}</time> },
    { head: "Level", cell: (it) => <Badge word={it.level} /> },
    { head: "Task", cell: (it) => it.task ?? "" },
    {
      head: "What",
      kind: "main",
      cell: (it) => (
        <>
          {it.text}
          {it.scope && <div className="under mono">{it.scope}</div>}
        </>
      ),
    },
  ];
  return (
    <>
      <nav className="crumbs" aria-label="Where you are">
        <Link to={to.jobs(slug)}>Jobs</Link> <span aria-hidden="true">/</span> <Link to={to.job(slug, id)}>{plugin}</Link>{" "}
        <span aria-hidden="true">/</span> <span>Log</span>
      </nav>
      <Head title={`Log of ${plugin}`} about="The newest line first. Lines are kept for 30 days, and go when a job ends after that.">
        {job.data && <Badge word={job.data.status} />}
      </Head>
      <div className="filters">
        <Select label="Level" value={level} onChange={(event) => setLevel(event.target.value)}>
          <option value="">All</option>
          {LEVELS.slice(1).map((it) => (
            <option key={it} value={it}>
              {it === "error" ? it : `${it} and above`}
            </option>
          ))}
        </Select>
        <Select label="Task" value={task} onChange={(event) => setTask(event.target.value)}>
          <option value="">All</option>
          {job.data?.tasks.map((it) => (
            <option key={it.id}>{it.key}</option>
          ))}
        </Select>
        <SearchField label="Scope begins with" text={scope} onSearch={setScope} />
      </div>
      <section className="panel">
        <Listing
          name="Log"
          queryKey={["tenant", slug, "job", id, "log", filters, live]}
          load={(page, signal) => {
            const params = { path, query: { ...filters, ...page } };
            return take(api.GET("/api/v1/tenants/{tenant}/jobs/{job}/log", { params, signal }));
          }}
          {...(live ? { every: 1_500 } : {})}
          columns={columns}
          rowKey={(it) => it.id}
          exported={({ at, level, task, scope, text }) => ({ at, level, task, scope, text })}
          empty={<Empty title="No lines here">A line comes with each thing that begins, ends, or cannot be read.</Empty>}
        />
      </section>
    </>
  );
}

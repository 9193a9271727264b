// One job, as it goes on: the server sends each change.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Link, useParams } from "react-router";
import { api, type Schemas, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { count } from "../../design/count";
import { Facts, Json } from "../../design/facts";
import { Head, Panel } from "../../design/panel";
import { Empty, Failed, Loading } from "../../design/state";
import { type Column, Table } from "../../design/table";
import { Moment, seconds, When } from "../../design/time";
import { Select } from "../../design/field";
import { useChange } from "../../list/change";
import { Listing, useFilter } from "../../list/keyset";
import { lost } from "../../list/lost";
import { EnteredField } from "../../list/search";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { Who } from "../../session/who";
import { useTitle } from "../../shell/title";

type Job = Schemas["JobDetail"];

const isOver = (job: Job) => !["queued", "running"].includes(job.status);

/** Before a stream that broke is opened again, in milliseconds. */
const AGAIN_MS = 4_000;

/** Follows a job until it is over; where the stream breaks, the document is asked for, and then followed again. */
function useJob(slug: string, id: string) {
  const client = useQueryClient();
  const [queryKey] = useState(["tenant", slug, "job", id]);
  const query = useQuery({
    queryKey,
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/tenants/{tenant}/jobs/{job}", { params: { path: { tenant: slug, job: id } }, signal })),
  });
  const over = query.data === undefined ? undefined : isOver(query.data);
  // Which stream it is: a server that stops, or a proxy, ends one long before the job is over.
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (over !== false) return;
    let again: ReturnType<typeof setTimeout> | undefined;
    const events = new EventSource(to.jobEvents(slug, id));
    events.addEventListener("job", (event) => client.setQueryData(queryKey, JSON.parse(event.data as string) as Job));
    events.addEventListener("end", () => events.close());
    events.onerror = () => {
      events.close();
      void client.invalidateQueries({ queryKey });
      again = setTimeout(() => setTurn((before) => before + 1), AGAIN_MS);
    };
    return () => {
      events.close();
      clearTimeout(again);
    };
  }, [client, queryKey, slug, id, over, turn]);
  return query;
}

export default function JobPage() {
  const { job: id = "" } = useParams();
  const tenant = useTenant();
  const { slug } = tenant;
  const fleet = tenant.can("fleet:manage");
  const query = useJob(slug, id);
  const { change, failure } = useChange(["tenant", slug, "job", id]);
  useTitle(query.data ? `Job of ${query.data.plugin}` : "Job");
  if (query.isPending) return <Loading />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const it = query.data;
  const cancel = () => take(api.POST("/api/v1/tenants/{tenant}/jobs/{job}/cancel", { params: { path: { tenant: slug, job: id } } }));
  return (
    <>
      <nav className="crumbs" aria-label="Where you are">
        <Link to={to.jobs(slug)}>Jobs</Link> <span aria-hidden="true">/</span> <span>{it.plugin}</span>
      </nav>
      <Head title={`Job of ${it.plugin}`} about={it.error}>
        <Badge word={it.status} />
        <Link className="button" to={to.jobLog(slug, it.id)}>
          Log
        </Link>
        <Button
          reason={tenant.lacks("jobs:manage") ?? (isOver(it) ? "It is over." : undefined)}
          onClick={() => void change(cancel)}
        >
          Cancel
        </Button>
      </Head>
      {failure}
      {it.total > 0 && !isOver(it) && <progress value={it.done} max={it.total} aria-label="Progress" />}
      <div className="split">
        <div className="stack">
          <Tasks job={it} />
          <Parts job={it} />
          <Scopes slug={slug} job={it} />
        </div>
        <div className="stack">
          <Panel title="About it">
            <Facts
              of={[
                ["Asked for by", <Who key="who" id={it.requested_by} />],
                ["Done by", !it.relay ? "a server" : fleet ? <Link key="relay" to={to.relay(slug, it.relay)}>a relay</Link> : "a relay"],
                ["Asked", <Moment key="asked" at={it.created_at} />],
                ["Began", <Moment key="began" at={it.started_at} />],
                ["Ended", it.finished_at ? <Moment key="ended" at={it.finished_at} /> : "not yet"],
                ["Took", seconds(it.started_at, it.finished_at) || "nothing yet"],
                ["Id", <code key="id">{it.id}</code>],
              ]}
            />
          </Panel>
          <Panel title="Settings">
            {Object.keys(it.config).length === 0 ? <p className="muted">None: it ran as the plugin does by itself.</p> : <Json name="Settings" value={it.config} />}
          </Panel>
        </div>
      </div>
    </>
  );
}

type Counts = Schemas["ScopeCounts"];

/** Scopes by how they were read, in words: only what there is any of. */
function Read({ of }: { of: Counts }) {
  const some = (["partial", "denied", "failed"] as const).filter((it) => of[it] > 0);
  return (
    <span className="row tight">
      <span className="small">{of.whole} whole</span>
      {some.map((it) => (
        <Badge key={it} word={it} count={of[it]} />
      ))}
    </span>
  );
}

function Tasks({ job }: { job: Job }) {
  return (
    <Panel title="Tasks" flush>
      {job.tasks.length === 0 ? (
        <Empty title="Not begun yet">Tasks are made when a server or a relay takes the job up.</Empty>
      ) : (
        <Table
          name="Tasks"
          rows={job.tasks}
          rowKey={(task) => task.id}
          columns={[
            {
              head: "Task",
              kind: "main",
              cell: (task) => (
                <>
                  {task.key}
                  <div className="under">{task.error ?? task.message}</div>
                </>
              ),
            },
            { head: "Status", cell: (task) => <Badge word={task.status} /> },
            {
              head: "Steps",
              kind: "nowrap",
              cell: (task) =>
                task.status === "running" && task.total > 0 ? (
                  <>
                    <progress value={task.done} max={task.total} aria-label={`Progress of ${task.key}`} />
                    <span className="small muted">
                      {task.done} of {task.total}
                    </span>
                  </>
                ) : task.total > 0 ? (
                  `${task.done} of ${task.total}`
                ) : (
                  task.done
                ),
            },
            { head: "Scopes", cell: (task) => <Read of={task.scopes} /> },
            { head: "Nodes", kind: "number", cell: (task) => count(task.scopes.nodes) },
            { head: "Took", kind: "nowrap", cell: (task) => seconds(task.started_at, task.finished_at) },
            { head: "Tries", kind: "number", cell: (task) => task.attempt },
          ]}
        />
      )}
    </Panel>
  );
}

/** A service of a cloud, a kind of thing at a host or a device. */
function Parts({ job }: { job: Job }) {
  if (job.parts.length < 2) return null;
  return (
    <Panel title="By kind" flush>
      <Table
        name="By kind"
        rows={job.parts}
        rowKey={(part) => part.name}
        columns={[
          { head: "Kind", kind: "main", cell: (part) => <Link to={{ search: `?kind=${encodeURIComponent(part.name)}` }}>{part.name}</Link> },
          { head: "Scopes", cell: (part) => <Read of={part.scopes} /> },
          { head: "Nodes", kind: "number", cell: (part) => count(part.scopes.nodes) },
          { head: "Edges", kind: "number", cell: (part) => count(part.scopes.edges) },
          { head: "Began", kind: "nowrap", cell: (part) => <When at={part.started_at} /> },
          { head: "Took", kind: "nowrap", cell: (part) => seconds(part.started_at, part.finished_at) },
        ]}
      />
    </Panel>
  );
}

const STATES = ["reading", "complete", "unchanged", "partial", "denied", "throttled", "failed", "absent"];

/** Every scope: as it is being read, and as it was read. */
function Scopes({ slug, job }: { slug: string; job: Job }) {
  const [state, setState] = useFilter("state");
  const [task, setTask] = useFilter("task");
  const [kind, setKind] = useFilter("kind");
  const filters = Object.fromEntries(Object.entries({ state, task, kind }).filter(([, of]) => of));
  const columns: Column<Schemas["JobScope"]>[] = [
    {
      head: "Scope",
      kind: "main",
      cell: (scope) => (
        <>
          <span className="mono">{scope.scope}</span>
          {scope.reason && <div className="under">{scope.reason}</div>}
        </>
      ),
    },
    { head: "State", cell: (scope) => <Badge word={scope.state} /> },
    { head: "Task", cell: (scope) => scope.task },
    { head: "Nodes", kind: "number", cell: (scope) => count(scope.nodes) },
    { head: "Edges", kind: "number", cell: (scope) => count(scope.edges) },
    { head: "Calls", kind: "number", cell: (scope) => (scope.finished_at ? count(scope.calls) : "") },
    { head: "Took", kind: "nowrap", cell: (scope) => seconds(scope.started_at, scope.finished_at) },
  ];
  return (
    <Panel title="Scopes" flush>
      <div className="filters inside">
        <Select label="State" value={state} onChange={(event) => setState(event.target.value)}>
          <option value="">All</option>
          {STATES.map((it) => (
            <option key={it}>{it}</option>
          ))}
        </Select>
        <Select label="Task" value={task} onChange={(event) => setTask(event.target.value)}>
          <option value="">All</option>
          {job.tasks.map((it) => (
            <option key={it.id}>{it.key}</option>
          ))}
        </Select>
        <EnteredField label="Kind" placeholder="ec2.instances" text={kind} onEnter={setKind} />
      </div>
      <Listing
        name="Scopes"
        // Asked for once more when it is over.
        queryKey={["tenant", slug, "job", job.id, "scopes", filters, isOver(job)]}
        load={(page, signal) => {
          const params = { path: { tenant: slug, job: job.id }, query: { ...filters, ...page } };
          return take(api.GET("/api/v1/tenants/{tenant}/jobs/{job}/scopes", { params, signal }));
        }}
        {...(isOver(job) ? {} : { every: 2_000 })}
        columns={columns}
        rowKey={(scope) => `${scope.task} ${scope.scope}`}
        exported={({ scope, task, state, reason, nodes, edges, calls, started_at, finished_at, evidence }) => ({
          scope,
          task,
          state,
          reason,
          nodes,
          edges,
          calls,
          started_at,
          finished_at,
          evidence,
        })}
        empty={<Empty title="None here">Each scope is here from when it is begun; what could not be read says why.</Empty>}
      />
    </Panel>
  );
}

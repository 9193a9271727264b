// One job, as it goes on: the server sends each change.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Link, useParams } from "react-router";
import { api, type Schemas, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Facts, Json } from "../../design/facts";
import { Head, Panel } from "../../design/panel";
import { Empty, Failed, Loading } from "../../design/state";
import { Table } from "../../design/table";
import { seconds, When } from "../../design/time";
import { useChange } from "../../list/change";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";

type Job = Schemas["JobDetail"];

const isOver = (job: Job) => !["queued", "running"].includes(job.status);

/** Follows a job until it is over; where the stream breaks, the document is asked for again. */
function useJob(slug: string, id: string) {
  const client = useQueryClient();
  const [queryKey] = useState(["tenant", slug, "job", id]);
  const query = useQuery({
    queryKey,
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/tenants/{tenant}/jobs/{job}", { params: { path: { tenant: slug, job: id } }, signal })),
  });
  const over = query.data === undefined ? undefined : isOver(query.data);
  useEffect(() => {
    if (over !== false) return;
    const events = new EventSource(to.jobEvents(slug, id));
    events.addEventListener("job", (event) => client.setQueryData(queryKey, JSON.parse(event.data as string) as Job));
    events.addEventListener("end", () => events.close());
    events.onerror = () => {
      events.close();
      void client.invalidateQueries({ queryKey });
    };
    return () => events.close();
  }, [client, queryKey, slug, id, over]);
  return query;
}

export default function JobPage() {
  const { job: id = "" } = useParams();
  const tenant = useTenant();
  const { slug } = tenant;
  const query = useJob(slug, id);
  const { change, failure } = useChange(["tenant", slug, "job", id]);
  useTitle(query.data ? `Job of ${query.data.plugin}` : "Job");
  if (query.isPending) return <Loading />;
  if (query.isError) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const it = query.data;
  const cancel = () => take(api.POST("/api/v1/tenants/{tenant}/jobs/{job}/cancel", { params: { path: { tenant: slug, job: id } } }));
  return (
    <>
      <nav className="crumbs" aria-label="Where you are">
        <Link to={to.jobs(slug)}>Jobs</Link> <span aria-hidden="true">/</span> <span>{it.plugin}</span>
      </nav>
      <Head title={`Job of ${it.plugin}`} about={it.error}>
        <Badge word={it.status} />
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
          <Panel title="Tasks" flush>
            {it.tasks.length === 0 ? (
              <Empty title="Not begun yet">Tasks are made when a server takes the job up.</Empty>
            ) : (
              <Table
                name="Tasks"
                rows={it.tasks}
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
                  { head: "Steps", kind: "number", cell: (task) => (task.total > 0 ? `${task.done} of ${task.total}` : task.done) },
                  { head: "Tries", kind: "number", cell: (task) => task.attempt },
                ]}
              />
            )}
          </Panel>
          <Panel title="What it saw of each scope" flush>
            {it.coverage.length === 0 ? (
              <Empty title="Nothing yet">Each scope is here when it was read, or could not be.</Empty>
            ) : (
              <Table
                name="Coverage"
                rows={it.coverage}
                rowKey={(scope) => scope.scope}
                columns={[
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
                  { head: "Coverage", cell: (scope) => <Badge word={scope.coverage} /> },
                  { head: "Nodes", kind: "number", cell: (scope) => scope.nodes.toLocaleString("en") },
                  { head: "Edges", kind: "number", cell: (scope) => scope.edges.toLocaleString("en") },
                ]}
              />
            )}
          </Panel>
        </div>
        <div className="stack">
          <Panel title="About it">
            <Facts
              of={[
                ["Asked for by", it.requested_by],
                ["Asked", <When key="asked" at={it.created_at} />],
                ["Began", <When key="began" at={it.started_at} />],
                ["Ended", it.finished_at ? <When key="ended" at={it.finished_at} /> : "not yet"],
                ["Took", seconds(it.started_at, it.finished_at) || "nothing yet"],
                ["Id", <code key="id">{it.id}</code>],
              ]}
            />
          </Panel>
          <Panel title="Settings">
            <Json name="Settings" value={it.config} />
          </Panel>
        </div>
      </div>
    </>
  );
}

// One relay: where it hangs, what it works on, its log.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useParams } from "react-router";
import { api, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Facts } from "../../design/facts";
import { Head, Panel } from "../../design/panel";
import { Empty, Failed, Loading } from "../../design/state";
import { Table } from "../../design/table";
import { seconds, When } from "../../design/time";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { LabelsDialog, textOf } from "./labels";
import { Version } from "./list";
import { RelayLog } from "./log";

export default function RelayPage() {
  const { relay = "" } = useParams();
  const tenant = useTenant();
  const { slug } = tenant;
  const [labelling, setLabelling] = useState(false);
  const query = useQuery({
    queryKey: ["tenant", slug, "relay", relay],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/relays/{relay}", { params: { path: { tenant: slug, relay } }, signal })),
    refetchInterval: 5_000,
  });
  useTitle(query.data?.name ?? "Relay");
  if (query.isPending) return <Loading />;
  if (query.isError) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const it = query.data;
  const may = tenant.can("jobs:manage");
  return (
    <>
      <nav className="crumbs" aria-label="Where you are">
        <Link to={to.relays(slug)}>Relays</Link> <span aria-hidden="true">/</span> <span>{it.name}</span>
      </nav>
      <Head title={it.name}>
        <Badge word={it.state === "active" ? (it.health ?? "active") : it.state} />
        <Button reason={tenant.lacks("fleet:manage")} onClick={() => setLabelling(true)}>
          Labels
        </Button>
      </Head>
      <div className="split">
        <div className="stack">
          <Panel title="Tasks" flush>
            {it.tasks.length === 0 ? (
              <Empty title="It works on nothing">A job that names this relay is here while it runs.</Empty>
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
                        {may ? <Link to={to.job(slug, task.job)}>{`${task.plugin}: ${task.key}`}</Link> : `${task.plugin}: ${task.key}`}
                        <div className="under">{task.message}</div>
                      </>
                    ),
                  },
                  { head: "Steps", kind: "nowrap", cell: (task) => (task.total > 0 ? `${task.done} of ${task.total}` : task.done) },
                  { head: "Since", kind: "nowrap", cell: (task) => seconds(task.started_at, null) },
                  { head: "Tries", kind: "number", cell: (task) => task.attempt },
                ]}
              />
            )}
          </Panel>
          <RelayLog slug={slug} relay={it.id} name={it.name} />
        </div>
        <div className="stack">
          <Panel title="About it">
            <Facts
              of={[
                ["Hangs on", it.server ?? "no server"],
                ["Connected", it.connected_at ? <When key="connected" at={it.connected_at} /> : "not now"],
                ["Version", <Version key="version" of={it} />],
                ["Labels", textOf(it.labels) || "none"],
                ["Address", it.last_seen_ip ?? "unknown"],
                ["Last seen", <When key="seen" at={it.last_seen_at} />],
                ["Enrolled", <When key="enrolled" at={it.enrolled_at} />],
                ["Credential until", <When key="until" at={it.expires_at} />],
                ["Key", <code key="key">{it.key}</code>],
                ["Id", <code key="id">{it.id}</code>],
              ]}
            />
          </Panel>
        </div>
      </div>
      {labelling && <LabelsDialog kind="relay" unit={it} onClose={() => setLabelling(false)} />}
    </>
  );
}

// One relay: who it is, where it hangs, what it works on, its log.
import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Link, useParams } from "react-router";
import { api, take, told } from "../../api/client";
import { Panel } from "../../design/panel";
import { Empty, Failed, Loading } from "../../design/state";
import { Table } from "../../design/table";
import { seconds, When } from "../../design/time";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { RelayLog } from "./log";
import { UnitFacts, UnitHead } from "./unit";

export default function RelayPage() {
  const { relay = "" } = useParams();
  const tenant = useTenant();
  const { slug } = tenant;
  const query = useQuery({
    queryKey: ["tenant", slug, "relay", relay],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/relays/{relay}", { params: { path: { tenant: slug, relay } }, signal })),
    refetchInterval: 5_000,
  });
  useTitle(query.data?.name ?? "Relay");
  if (query.isPending) return <Loading />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const it = query.data;
  const may = tenant.can("jobs:manage");
  return (
    <>
      <UnitHead kind="relay" unit={it} />
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
          <UnitFacts
            unit={it}
            first={[
              ["Hangs on", it.server ?? "no server"],
              ["Connected", it.connected_at ? <When key="connected" at={it.connected_at} /> : "not now"],
              ["Hosts without the server", it.ssh_address ?? "not reached"],
              ...(it.ssh_certificate_ends_at
                ? ([["Certificate there ends", <When key="ends" at={it.ssh_certificate_ends_at} />]] as [string, ReactNode][])
                : []),
            ]}
          />
        </div>
      </div>
    </>
  );
}

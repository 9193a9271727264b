// What changed, what is open, how each framework and the fleet stand, and what is going on.
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { api, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Head, Panel } from "../../design/panel";
import { Empty, Failed, Loading } from "../../design/state";
import { Table } from "../../design/table";
import { When } from "../../design/time";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { Changes } from "./changes";
import { Fleet } from "./fleet";
import { Jobs } from "./jobs";
import { Posture } from "./posture";

const SEVERITIES = ["critical", "high", "medium", "low", "info"];
const MINUTE_MS = 60_000;

export default function HomePage() {
  useTitle("Home");
  const tenant = useTenant();
  return (
    <>
      <Head title={tenant.name} about={`You are here as ${tenant.role}.`} />
      <Changes />
      {tenant.can("findings:read") && <Open />}
      <div className="split">
        <div className="stack">
          {tenant.can("findings:read") && <Worst />}
          {tenant.can("jobs:manage") && <Jobs />}
          {tenant.can("findings:read") && <Posture />}
        </div>
        <div className="stack">
          {tenant.can("fleet:manage") && <Fleet />}
          {tenant.can("nodes:read") && <Estate />}
        </div>
      </div>
    </>
  );
}

function Open() {
  const { slug } = useTenant();
  const query = useQuery({
    queryKey: ["tenant", slug, "finding-counts"],
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/tenants/{tenant}/finding-counts", { params: { path: { tenant: slug } }, signal })),
    refetchInterval: MINUTE_MS,
  });
  if (query.isPending || lost(query)) {
    return (
      <Panel title="Findings by severity">
        {query.isPending ? <Loading rows={2} /> : <Failed {...told(query.error)} onRetry={() => void query.refetch()} />}
      </Panel>
    );
  }
  const count = (status: string, severity?: string) =>
    query.data.items
      .filter((it) => it.status === status && (!severity || it.severity === severity))
      .reduce((sum, it) => sum + it.count, 0);
  return (
    <section className="tiles" aria-label="Findings by severity">
      {SEVERITIES.map((severity) => (
        <Link key={severity} className="tile" to={to.findings(slug, { status: "open", severity })}>
          <span className={`figure ${count("open", severity) > 0 ? severity : ""}`}>{count("open", severity)}</span>
          <span className="of">open, {severity}</span>
        </Link>
      ))}
      <Link className="tile" to={to.findings(slug, { status: "accepted" })}>
        <span className="figure">{count("accepted")}</span>
        <span className="of">accepted</span>
      </Link>
      <Link className="tile" to={to.findings(slug, { status: "resolved" })}>
        <span className="figure good">{count("resolved")}</span>
        <span className="of">resolved</span>
      </Link>
    </section>
  );
}

function Worst() {
  const { slug } = useTenant();
  const query = useQuery({
    queryKey: ["tenant", slug, "findings", "worst"],
    queryFn: ({ signal }) =>
      take(
        api.GET("/api/v1/tenants/{tenant}/findings", {
          params: { path: { tenant: slug }, query: { status: "open", limit: "8" } },
          signal,
        }),
      ),
    refetchInterval: MINUTE_MS,
  });
  if (query.isPending || lost(query)) {
    return (
      <Panel title="Worst open findings">
        {query.isPending ? <Loading /> : <Failed {...told(query.error)} onRetry={() => void query.refetch()} />}
      </Panel>
    );
  }
  return (
    <Panel title="Worst open findings" flush action={<Link to={to.findings(slug, { status: "open" })}>All open</Link>}>
      {query.data.items.length === 0 ? (
        <Empty title="Nothing is open">Either all is well, or nothing was discovered yet.</Empty>
      ) : (
        <Table
          name="Worst open findings"
          rows={query.data.items}
          rowKey={(it) => it.id}
          columns={[
            { head: "Severity", cell: (it) => <Badge word={it.severity} /> },
            { head: "Finding", kind: "main", cell: (it) => <Link to={to.finding(slug, it.id)}>{it.title}</Link> },
            { head: "Node", cell: (it) => it.node_name },
            { head: "Changed", kind: "nowrap", cell: (it) => <When at={it.changed_at} /> },
          ]}
        />
      )}
    </Panel>
  );
}

function Estate() {
  const { slug } = useTenant();
  const query = useQuery({
    queryKey: ["tenant", slug, "node-counts"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/node-counts", { params: { path: { tenant: slug } }, signal })),
    refetchInterval: MINUTE_MS,
  });
  if (query.isPending || lost(query)) {
    return (
      <Panel title="What we run">
        {query.isPending ? <Loading /> : <Failed {...told(query.error)} onRetry={() => void query.refetch()} />}
      </Panel>
    );
  }
  const most = [...query.data.items].sort((a, b) => b.count - a.count).slice(0, 12);
  return (
    <Panel title="What we run" flush action={<Link to={to.nodes(slug)}>All nodes</Link>}>
      {most.length === 0 ? (
        <Empty title="Nothing discovered yet">It comes with the first discovery job.</Empty>
      ) : (
        <Table
          name="Nodes by type"
          rows={most}
          rowKey={(it) => it.type}
          columns={[
            { head: "Type", cell: (it) => <Link to={to.nodes(slug, { type: it.type })}>{it.type}</Link> },
            { head: "Nodes", kind: "number", cell: (it) => it.count.toLocaleString("en") },
          ]}
        />
      )}
    </Panel>
  );
}

// One node: what it is, what it was, what it is connected to, and what is wrong with it.
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "react-router";
import { api, type Schemas, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Facts, Json } from "../../design/facts";
import { Head, Panel } from "../../design/panel";
import { Empty, Failed, Loading } from "../../design/state";
import { Table } from "../../design/table";
import { When } from "../../design/time";
import type { Load } from "../../list/keyset";
import { lost } from "../../list/lost";
import { More, rowsOf, useGrowing } from "../../list/more";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { changes } from "./changes";
import { Reachers } from "./reachers";
import { Sources } from "./sources";

export default function NodePage() {
  const { node: id = "" } = useParams();
  const tenant = useTenant();
  const { slug } = tenant;
  const path = { tenant: slug, node: id };
  const query = useQuery({
    queryKey: ["tenant", slug, "node", id],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/nodes/{node}", { params: { path }, signal })),
  });
  useTitle(query.data?.name ?? "Node");
  if (query.isPending) return <Loading />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const it = query.data;
  const tags = Object.entries(it.tags);
  return (
    <>
      <nav className="crumbs" aria-label="Where you are">
        <Link to={to.nodes(slug)}>Nodes</Link> <span aria-hidden="true">/</span>
        <Link to={to.nodes(slug, { type: it.type })}>{it.type}</Link>
      </nav>
      <Head title={it.name} about={<code>{it.id}</code>}>
        <Link className="button" to={to.graph(slug, { node: id, at: `n:${id}` })}>
          Show in the graph
        </Link>
        <Link className="button" to={to.graph(slug, { node: id, at: `n:${id}`, reach: id })}>
          What it affects
        </Link>
      </Head>
      <div className="split">
        <div className="stack">
          {tenant.can("findings:read") && <Findings node={id} />}
          <Panel title="Properties">
            <Json name="Properties" value={it.properties} />
          </Panel>
          <Edges node={id} />
          <History node={id} />
          <Sources node={id} />
          <Reachers node={id} />
        </div>
        <Panel title="About it">
          <Facts
            of={[
              ["State", <Badge key="state" word={it.closed_at ? "gone" : "present"} />],
              ["Type", <code key="type">{it.type}</code>],
              ["Provider", it.provider],
              ["Region", it.region || "none"],
              ["First seen", <When key="first" at={it.first_seen} />],
              ["Last seen", <When key="last" at={it.discovered_at} />],
              ["As it is since", <When key="since" at={it.valid_from} />],
              ...(it.closed_at ? [["Gone since", <When key="gone" at={it.closed_at} />] as [string, React.ReactNode]] : []),
              ...tags.map(([name, value]) => [`Tag ${name}`, String(value)] as [string, React.ReactNode]),
            ]}
          />
        </Panel>
      </div>
    </>
  );
}

function Findings({ node }: { node: string }) {
  const { slug } = useTenant();
  const query = useQuery({
    queryKey: ["tenant", slug, "findings", { node }],
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/tenants/{tenant}/findings", { params: { path: { tenant: slug }, query: { node, limit: "20" } }, signal })),
  });
  if (query.isPending) return <Loading rows={2} />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  return (
    <Panel title="Findings" flush action={<Link to={to.findings(slug, { node })}>All</Link>}>
      {query.data.items.length === 0 ? (
        <Empty title="No findings">No rule judges this node, or it fulfils all that do.</Empty>
      ) : (
        <Table
          name="Findings of this node"
          rows={query.data.items}
          rowKey={(it) => it.id}
          columns={[
            { head: "Severity", cell: (it) => <Badge word={it.severity} /> },
            { head: "Finding", kind: "main", cell: (it) => <Link to={to.finding(slug, it.id)}>{it.title}</Link> },
            { head: "Status", cell: (it) => <Badge word={it.status} /> },
          ]}
        />
      )}
    </Panel>
  );
}

function Edges({ node }: { node: string }) {
  const { slug } = useTenant();
  const load: Load<Schemas["Edge"]> = (of, signal) => {
    const params = { path: { tenant: slug }, query: { node, limit: "100", ...of } };
    return take(api.GET("/api/v1/tenants/{tenant}/edges", { params, ...(signal ? { signal } : {}) }));
  };
  const query = useGrowing(load, { queryKey: ["tenant", slug, "edges", node] });
  if (query.isPending) return <Loading rows={2} />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const rows = rowsOf(query.data);
  const other = (it: Schemas["Edge"]) => (it.source === node ? it.target : it.source);
  return (
    <Panel title="Connected to" flush>
      {rows.length === 0 ? (
        <Empty title="Nothing">No edge begins or ends here.</Empty>
      ) : (
        <Table
          name="Edges of this node"
          rows={rows}
          rowKey={(it) => `${it.source} ${it.type} ${it.target} ${it.discriminator}`}
          columns={[
            { head: "Edge", kind: "nowrap", cell: (it) => (it.source === node ? `${it.type} →` : `← ${it.type}`) },
            { head: "Node", kind: "main", cell: (it) => <Link to={to.node(slug, other(it))}>{other(it)}</Link> },
            { head: "Since", kind: "nowrap", cell: (it) => <When at={it.valid_from} /> },
          ]}
        />
      )}
      <More query={query} />
    </Panel>
  );
}

function History({ node }: { node: string }) {
  const { slug } = useTenant();
  const load: Load<Schemas["NodeVersion"]> = (of, signal) => {
    const params = { path: { tenant: slug, node }, query: { limit: "20", ...of } };
    return take(api.GET("/api/v1/tenants/{tenant}/nodes/{node}/history", { params, ...(signal ? { signal } : {}) }));
  };
  const query = useGrowing(load, { queryKey: ["tenant", slug, "node-history", node] });
  if (query.isPending) return <Loading rows={2} />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const versions = rowsOf(query.data).map((it, at, all) => ({ it, changed: changes(all[at + 1], it) }));
  return (
    <Panel title="History" flush>
      <Table
        name="Versions of this node"
        rows={versions}
        rowKey={({ it }) => it.valid_from}
        columns={[
          { head: "From", kind: "nowrap", cell: ({ it }) => <When at={it.valid_from} /> },
          { head: "To", kind: "nowrap", cell: ({ it }) => (it.valid_to ? <When at={it.valid_to} /> : "now") },
          {
            head: "What changed",
            kind: "main",
            cell: ({ changed }) =>
              changed.length === 0 ? (
                <span className="muted">the oldest version {query.hasNextPage ? "shown" : "there is"}</span>
              ) : (
                <ul>
                  {changed.map((change) => (
                    <li key={change.name}>
                      <code>{change.name}</code>: {change.before} → {change.after}
                    </li>
                  ))}
                </ul>
              ),
          },
        ]}
      />
      <More query={query} />
    </Panel>
  );
}

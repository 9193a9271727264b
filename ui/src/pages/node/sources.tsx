// Who says that a node is there, and what proves how it was read.
import { useQueries, useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { api, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Panel } from "../../design/panel";
import { Empty, Failed, Loading } from "../../design/state";
import { Table } from "../../design/table";
import { When } from "../../design/time";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";

/** Scopes whose evidence is looked up: a node that more show is rare, and the library has the rest. */
const SCOPES_MAX = 5;

export function Sources({ node }: { node: string }) {
  const tenant = useTenant();
  const { slug } = tenant;
  const query = useQuery({
    queryKey: ["tenant", slug, "node-sources", node],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/nodes/{node}/sources", { params: { path: { tenant: slug, node } }, signal })),
  });
  if (query.isPending) return <Loading rows={2} />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const { items } = query.data;
  return (
    <>
      <Panel title="Sources" flush>
        {items.length === 0 ? (
          <Empty title="No source">Nothing has shown this node: only edges of others name it.</Empty>
        ) : (
          <Table
            name="Sources of this node"
            rows={items}
            rowKey={(it) => `${it.source} ${it.scope}`}
            columns={[
              {
                head: "Scope",
                kind: "main",
                cell: (it) => (
                  <>
                    <code>{it.scope}</code>
                    <div className="under">{it.counts ? "what it says is shown here" : "also shows it; it takes over when the first no longer does"}</div>
                  </>
                ),
              },
              { head: "Source", kind: "nowrap", cell: (it) => it.source },
              { head: "Since", kind: "nowrap", cell: (it) => <When at={it.since} /> },
              { head: "Last read", kind: "nowrap", cell: (it) => <When at={it.read_at} /> },
              { head: "Coverage", cell: (it) => <Badge word={it.verdict} /> },
            ]}
          />
        )}
      </Panel>
      {tenant.can("evidence:read") && items.length > 0 && <Evidence scopes={items.slice(0, SCOPES_MAX).map((it) => it.scope)} />}
    </>
  );
}

function Evidence({ scopes }: { scopes: string[] }) {
  const { slug } = useTenant();
  const queries = useQueries({
    queries: scopes.map((scope) => ({
      queryKey: ["tenant", slug, "evidence", { scope }],
      queryFn: ({ signal }: { signal: AbortSignal }) =>
        take(api.GET("/api/v1/tenants/{tenant}/evidence", { params: { path: { tenant: slug }, query: { scope, limit: "3" } }, signal })),
    })),
  });
  const failed = queries.find((query) => lost(query));
  if (failed) return <Failed {...told(failed.error)} onRetry={() => void failed.refetch()} />;
  if (queries.some((query) => query.isPending)) return <Loading rows={2} />;
  const items = queries.flatMap((query) => query.data?.items ?? []);
  return (
    <Panel title="Evidence" flush action={<Link to={to.evidence(slug)}>Library</Link>}>
      {items.length === 0 ? (
        <Empty title="No evidence">What was read of these scopes was not signed yet: the next run does.</Empty>
      ) : (
        <Table
          name="Evidence of how this node was read"
          rows={items}
          rowKey={(it) => it.id}
          columns={[
            { head: "Statement", kind: "main", cell: (it) => <Link to={to.statement(slug, it.id)}>{it.id}</Link> },
            { head: "Kind", kind: "nowrap", cell: (it) => it.kind },
            { head: "Scope", cell: (it) => <code>{it.scope}</code> },
            { head: "Signed", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
          ]}
        />
      )}
    </Panel>
  );
}

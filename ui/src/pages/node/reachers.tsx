// Who can reach what a node is, through Cairn.
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { api, take, told } from "../../api/client";
import { Panel } from "../../design/panel";
import { Empty, Failed, Loading } from "../../design/state";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { More, rowsOf, useGrowing } from "../../list/more";
import { useTenant } from "../../session/me";
import { ReachersTable, reachersOf } from "../destination/reachers";

/** Whether a node is a destination, or one of them is known to be it. */
async function isDestination(slug: string, node: string, signal: AbortSignal): Promise<boolean> {
  if (node.startsWith("cairn:")) return true;
  for (const type of ["same_as", "reached_at"]) {
    const params = { path: { tenant: slug }, query: { node, type, limit: "50" } };
    const { items } = await take(api.GET("/api/v1/tenants/{tenant}/edges", { params, signal }));
    if (items.some((edge) => edge.source.startsWith("cairn:"))) return true;
  }
  return false;
}

export function Reachers({ node }: { node: string }) {
  const tenant = useTenant();
  const { slug } = tenant;
  const lacks = tenant.lacks("access:manage");
  const destination = useQuery({
    queryKey: ["tenant", slug, "is-destination", node],
    enabled: !lacks,
    queryFn: ({ signal }) => isDestination(slug, node, signal),
  });
  const query = useGrowing(reachersOf(slug, node), {
    queryKey: ["tenant", slug, "node-reachers", node],
    enabled: destination.data === true,
  });
  if (lacks) return null;
  if (destination.isPending || (destination.data && query.isPending)) return <Loading rows={2} />;
  if (lost(destination)) return <Failed {...told(destination.error)} onRetry={() => void destination.refetch()} />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  return (
    <Panel title="Who can reach it" flush action={<Link to={to.destinations(slug)}>Destinations</Link>}>
      {!query.data ? (
        <Empty title="No destination">Nobody reaches this through Cairn: it is neither a registered cluster nor a registered host.</Empty>
      ) : rowsOf(query.data).length === 0 ? (
        <Empty title="Nobody">It is a destination, and nothing is granted there.</Empty>
      ) : (
        <>
          <ReachersTable name="Who can reach this node" of={rowsOf(query.data)} />
          <More query={query} />
        </>
      )}
    </Panel>
  );
}

// One agent: who it is, whether it is let in, and what it runs.
import { useQuery } from "@tanstack/react-query";
import { useParams } from "react-router";
import { api, take, told } from "../../api/client";
import { Failed, Loading } from "../../design/state";
import { lost } from "../../list/lost";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { UnitFacts, UnitHead } from "./unit";

export default function AgentPage() {
  const { agent = "" } = useParams();
  const { slug } = useTenant();
  const params = { path: { tenant: slug, agent } };
  const query = useQuery({
    queryKey: ["tenant", slug, "agent", agent],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/agents/{agent}", { params, signal })),
    refetchInterval: 15_000,
  });
  useTitle(query.data?.name ?? "Agent");
  if (query.isPending) return <Loading />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  return (
    <>
      <UnitHead kind="agent" unit={query.data} />
      <UnitFacts unit={query.data} />
    </>
  );
}

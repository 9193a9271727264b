// Who did something, by the name that people know.
import { useQuery } from "@tanstack/react-query";
import { api, take } from "../api/client";
import { useMe, useTenantOrNone } from "./me";

/** How many members are looked up; others keep their id. */
const LOOKED_UP = "500";

/** The login name of a user’s id, where the caller may know it; Cairn itself; or the id. */
export function Who({ id }: { id: string }) {
  const me = useMe();
  const tenant = useTenantOrNone();
  const slug = tenant?.slug ?? "";
  const members = useQuery({
    queryKey: ["tenant", slug, "who"],
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/tenants/{tenant}/members", { params: { path: { tenant: slug }, query: { limit: LOOKED_UP } }, signal })),
    enabled: tenant?.can("users:manage") === true && id.startsWith("usr_") && id !== me.id,
    staleTime: 60_000,
  });
  if (id.startsWith("system:")) return <span title={id}>Cairn itself</span>;
  const name = id === me.id ? me.email : members.data?.items.find((it) => it.user === id)?.email;
  return name ? <span title={id}>{name}</span> : <span>{id}</span>;
}

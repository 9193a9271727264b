// Who did something, by the name that people know.
import { useQuery } from "@tanstack/react-query";
import { api, take } from "../api/client";
import { useMe, useTenantOrNone } from "./me";

/** What an id of a user looks like. One that is none would spoil the question about all the others. */
const USER = /^usr_[0-9a-z]{26}$/;
/** How many the API names at once. */
const AT_ONCE = 100;

interface Asking {
  ids: Set<string>;
  names: Promise<Map<string, string>>;
}

/** By tenant, what is asked for next. */
const next = new Map<string, Asking>();

/** The login name of a member; null of anybody else. All that a page shows at once is asked for at once. */
async function nameOf(slug: string, id: string): Promise<string | null> {
  let asking = next.get(slug);
  if (!asking || asking.ids.size >= AT_ONCE) {
    asking = ask(slug);
    next.set(slug, asking);
  }
  asking.ids.add(id);
  return (await asking.names).get(id) ?? null;
}

function ask(slug: string): Asking {
  const ids = new Set<string>();
  const load = async () => {
    // What is drawn with it comes in before.
    await new Promise((resolve) => setTimeout(resolve));
    if (next.get(slug)?.ids === ids) next.delete(slug);
    const params = { path: { tenant: slug }, query: { users: [...ids].join(",") } };
    const { items } = await take(api.GET("/api/v1/tenants/{tenant}/names", { params }));
    return new Map(items.map((it) => [it.user, it.email]));
  };
  return { ids, names: load() };
}

/** The login name of a user’s id, where they are a member; Cairn itself; or the id. */
export function Who({ id }: { id: string }) {
  const me = useMe();
  const slug = useTenantOrNone()?.slug;
  const named = useQuery({
    queryKey: ["tenant", slug, "who", id],
    queryFn: () => nameOf(slug ?? "", id),
    enabled: slug !== undefined && USER.test(id) && id !== me.id,
    staleTime: 60_000,
  });
  if (id.startsWith("system:")) return <span title={id}>Cairn itself</span>;
  const name = id === me.id ? me.email : named.data;
  return name ? <span title={id}>{name}</span> : <span>{id}</span>;
}

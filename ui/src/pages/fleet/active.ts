// The relays that are let in, to choose one of.
import { useQuery } from "@tanstack/react-query";
import { api, type Schemas, take } from "../../api/client";
import { useTenant } from "../../session/me";

type Unit = Schemas["FleetUnit"];

/** Of 500 relays each: a choice among more is none. */
const PAGES_MAX = 10;

interface Active {
  relays: Unit[];
  /** There are no others. */
  complete: boolean;
}

/** All of them, where the caller may see them. */
export function useActiveRelays() {
  const tenant = useTenant();
  return useQuery({
    // Not `relay`, which the id in the address of one relay’s page follows.
    queryKey: ["tenant", tenant.slug, "active-relays"],
    // What was let in a moment ago may be let in no more.
    staleTime: 0,
    queryFn: async ({ signal }): Promise<Active> => {
      const relays: Unit[] = [];
      let page: string | undefined;
      let pages = 0;
      do {
        const params = { path: { tenant: tenant.slug }, query: { limit: "500", ...(page ? { page } : {}) } };
        const got = await take(api.GET("/api/v1/tenants/{tenant}/relays", { params, signal }));
        relays.push(...got.items.filter((it) => it.state === "active"));
        page = got.next_page ?? undefined;
        pages += 1;
      } while (page && pages < PAGES_MAX);
      return { relays, complete: !page };
    },
    enabled: tenant.can("fleet:manage"),
  });
}

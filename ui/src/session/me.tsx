// Who is signed in, what they may do in which tenant, and what happens when that ends.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext } from "react";
import { useParams, useSearchParams } from "react-router";
import { api, Problem, type Schemas, take } from "../api/client";
import { FROM, to } from "../paths";

export type Me = Schemas["Me"];

/** Who is signed in. */
export const ME = ["me"];

// Tabs share the cookie: when it changes in one, the others learn of it and show nobody else's data under this name.
const tabs = new BroadcastChannel("cairn-session");

/** Whose session it is from now on, as another tab says; null: somebody signed out. */
export type Holder = { user: string; session: string | null } | null;

/** What is done when another tab says that the session is another one. */
export function onOtherTabs(then: (holder: Holder) => void): () => void {
  const listen = (event: MessageEvent<Holder>) => then(event.data);
  tabs.addEventListener("message", listen);
  return () => tabs.removeEventListener("message", listen);
}

/** Tells the other tabs whose session it is. */
export function tellTabs(holder: Holder) {
  tabs.postMessage(holder);
}

/** Takes all that is shown from the screen, whatever becomes of the page. */
export function hide() {
  document.getElementById("root")?.setAttribute("hidden", "");
}

// A browser may keep a page as it was left, and show it again when somebody goes back: perhaps somebody else, after a sign-out. Nothing is to be
// seen of it, and it is loaded anew, by whoever is signed in then.
window.addEventListener("pagehide", (event) => {
  if (event.persisted) hide();
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted) window.location.reload();
});

/** Leaves for the sign-in page, which is loaded anew: what was loaded so far is on no screen and in no memory that is used again. */
export function leave(next?: string, ended?: boolean) {
  hide();
  window.location.assign(to.login(next, ended));
}

/** Ends the session, also for the other tabs. One that has ended by itself is as good. */
export async function endSession() {
  try {
    await take(api.DELETE("/api/v1/sessions/current"));
  } catch (error) {
    if (!isEnded(error)) throw error;
  }
  tellTabs(null);
  leave();
}

/** Nobody is signed in any more, whatever the page shows. */
export function isEnded(error: unknown): boolean {
  return error instanceof Problem && error.status === 401;
}

const MeContext = createContext<Me | null>(null);

export function useMeQuery() {
  return useQuery({
    queryKey: ME,
    queryFn: ({ signal }) => take(api.GET("/api/v1/me", { signal })),
    refetchInterval: 60_000,
    retry: false,
  });
}

export function MeProvider({ me, children }: { me: Me; children: ReactNode }) {
  return <MeContext.Provider value={me}>{children}</MeContext.Provider>;
}

export function useMe(): Me {
  const me = useContext(MeContext);
  if (!me) throw new Error("used outside of a session");
  return me;
}

export function useRefreshMe() {
  const client = useQueryClient();
  return () => client.invalidateQueries({ queryKey: ME });
}

export interface Tenant {
  slug: string;
  name: string;
  role: string;
  /** Whether the API says that the caller may. */
  can: (permission: string) => boolean;
  /** Why an action that needs it cannot be done, if it cannot. */
  lacks: (permission: string) => string | undefined;
}

/** The tenant that the address names, if the caller belongs to it. Whose data a page shows is said by its path only. */
export function useTenantOrNone(): Tenant | undefined {
  const { tenant: slug } = useParams();
  return tenantOf(useMe(), slug);
}

/** The tenant whose pages are at hand: that of the page, or on a page of none (one's account, the installation) the one from which it was
 * opened. The address holds it, so that each tab has its own, also after it is loaded anew or copied. */
export function useTenantAtHand(): Tenant | undefined {
  const { tenant: slug } = useParams();
  const [search] = useSearchParams();
  return tenantOf(useMe(), slug ?? search.get(FROM) ?? undefined);
}

function tenantOf({ tenants }: Me, slug: string | undefined): Tenant | undefined {
  const mine = tenants.find((tenant) => tenant.slug === slug);
  if (!mine) return undefined;
  const can = (permission: string) => mine.can.includes(permission);
  const lacks = (permission: string) =>
    can(permission) ? undefined : `Your role ${mine.role} lacks the permission ${permission}.`;
  return { slug: mine.slug, name: mine.name, role: mine.role, can, lacks };
}

export function useTenant(): Tenant {
  const tenant = useTenantOrNone();
  if (!tenant) throw new Error("used outside of a tenant");
  return tenant;
}

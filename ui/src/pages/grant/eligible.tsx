// Eligible grants: they give nothing, and say what may be asked for.
import type { ReactNode } from "react";
import { api, type Schemas, take, told } from "../../api/client";
import { Failed } from "../../design/state";
import { Table } from "../../design/table";
import { When } from "../../design/time";
import type { Load, Page } from "../../list/keyset";
import { lost } from "../../list/lost";
import { More, rowsOf, useGrowing } from "../../list/more";

type Grant = Schemas["Grant"];

/** Where a grant is for. */
export const placeOf = (it: Grant) =>
  it.destination ??
  (Object.entries(it.labels ?? {})
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(", ") ||
    "everything");

/** How hosts are reached by it. */
export const termsOf = (it: Grant) => {
  const lends = it.extensions && (it.extensions.length > 0 ? it.extensions.map((name) => name.replace("permit-", "")).join(", ") : "nothing");
  return [
    it.networks && it.networks.length > 0 && `from ${it.networks.join(", ")}`,
    lends && `lends ${lends}`,
    it.force_command && `runs only ${it.force_command}`,
  ].filter((line): line is string => Boolean(line));
};

/** What is approved under it keeps: in a few words. */
export const limitsOf = (it: Grant) => [it.namespace && `in ${it.namespace}`, it.hours, ...termsOf(it)].filter(Boolean).join("; ") || "none";

export function eligibleOf(what: { own: string } | { slug: string; user: string } | { slug: string; destination: string }): Load<Grant> {
  return (query, signal) => {
    const asked = signal ? { signal } : {};
    if ("own" in what) return take(api.GET("/api/v1/tenants/{tenant}/eligible", { params: { path: { tenant: what.own }, query }, ...asked }));
    if ("user" in what) {
      const params = { path: { tenant: what.slug, user: what.user }, query };
      return take(api.GET("/api/v1/tenants/{tenant}/members/{user}/eligible", { params, ...asked }));
    }
    const params = { path: { tenant: what.slug, destination: what.destination }, query };
    return take(api.GET("/api/v1/tenants/{tenant}/destinations/{destination}/eligible", { params, ...asked }));
  };
}

interface ListProps {
  name: string;
  queryKey: unknown[];
  load: Load<Grant>;
  about: ReactNode;
  /** In each row. */
  action?: (it: Grant) => ReactNode;
}

/** Eligible grants, where there are any; nothing otherwise. */
export function MayAsk({ name, queryKey, load, about, action }: ListProps) {
  const query = useGrowing(load, { queryKey, anew: true });
  if (query.isPending) return null;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const rows = rowsOf(query.data);
  if (rows.length === 0) return null;
  return (
    <>
      <p className="small muted">{about}</p>
      <Table
        name={name}
        rows={rows}
        rowKey={(it) => it.id}
        columns={[
          { head: "Who", kind: "main", cell: (it) => it.user ?? `group ${it.group ?? ""}` },
          { head: "Where", cell: placeOf },
          { head: "As", kind: "nowrap", cell: (it) => it.role },
          { head: "Limits", cell: limitsOf },
          { head: "Until", kind: "nowrap", cell: (it) => (it.expires_at ? <When at={it.expires_at} /> : "taken away") },
          ...(action ? [{ head: "", cell: action }] : []),
        ]}
      />
      <More query={query} />
    </>
  );
}

type WithGlass<Row> = Page<Row> & { break_glass?: Schemas["BreakGlass"] | null };

/** Who may break glass, as each page of a list of access says it. */
export function Glass<Row>({ pages, everywhere }: { pages: Page<Row>[] | undefined; everywhere?: boolean }) {
  const first: WithGlass<Row> | undefined = pages?.[0];
  const glass = first?.break_glass;
  if (!glass) return null;
  return (
    <p className="small muted">
      {everywhere ? "They" : `Besides, members of the group ${glass.group}`} may break glass{everywhere ? " everywhere" : " there"}, in any role and at once, for{" "}
      {Math.round(glass.s_max / 60)} min at most. It is an alarm.
    </p>
  );
}

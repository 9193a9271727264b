// What is drawn, as the address says it: a link shows the same, and back goes back.
import { useMemo } from "react";
import { useSearchParams } from "react-router";
import type { Schemas } from "../../api/client";

export const WAYS = ["account", "network", "kind", "region", "provider"] as const;
export type By = (typeof WAYS)[number];

export const FILTERS = ["kind", "provider", "region", "account", "network", "search", "tag"] as const;
export type FilterName = (typeof FILTERS)[number];

export interface Shown {
  by: By;
  filters: Partial<Record<FilterName, string>>;
  /** The moment; none for now. */
  asOf: string | undefined;
  /** Groups that are opened. */
  open: string[];
  /** Nodes that are drawn by themselves. */
  nodes: string[];
  /** Which element is looked at. */
  at: string | undefined;
  from: string | undefined;
  to: string | undefined;
  /** The node whose effects are shown. */
  reach: string | undefined;
  table: boolean;
}

/** Nodes that are named in an address: more would not fit in it. */
export const NODES_MAX = 60;

export function parse(search: URLSearchParams): Shown {
  const by = search.get("by");
  const filters: Shown["filters"] = {};
  for (const name of FILTERS) {
    const value = search.get(name);
    if (value !== null) filters[name] = value;
  }
  return {
    by: WAYS.find((way) => way === by) ?? "account",
    filters,
    asOf: search.get("as_of") ?? undefined,
    open: search.getAll("open"),
    nodes: search.getAll("node").slice(0, NODES_MAX),
    at: search.get("at") ?? undefined,
    from: search.get("from") ?? undefined,
    to: search.get("to") ?? undefined,
    reach: search.get("reach") ?? undefined,
    table: search.get("view") === "table",
  };
}

export function written(shown: Shown): URLSearchParams {
  const out = new URLSearchParams();
  if (shown.by !== "account") out.set("by", shown.by);
  for (const name of FILTERS) {
    const value = shown.filters[name];
    if (value !== undefined) out.set(name, value);
  }
  if (shown.asOf) out.set("as_of", shown.asOf);
  for (const group of shown.open) out.append("open", group);
  for (const node of shown.nodes) out.append("node", node);
  for (const name of ["at", "from", "to", "reach"] as const) {
    const value = shown[name];
    if (value) out.set(name, value);
  }
  if (shown.table) out.set("view", "table");
  return out;
}

export function useShown(): [Shown, (change: Partial<Shown>, quietly?: boolean) => void] {
  const [search, setSearch] = useSearchParams();
  const shown = useMemo(() => parse(search), [search]);
  // What is looked at is no step to go back to.
  const change = (change: Partial<Shown>, quietly = false) =>
    setSearch((before) => written({ ...parse(before), ...change }), { replace: quietly });
  return [shown, change];
}

/** What to ask the server for. `nodes` are drawn besides: those of a path. */
export function sketch(shown: Shown, besides: string[]): Schemas["GraphSketch"] {
  return {
    by: shown.by,
    ...shown.filters,
    ...(shown.asOf ? { as_of: shown.asOf } : {}),
    open: shown.open.map((group) => ({ group })),
    nodes: [...new Set([...shown.nodes, ...besides])],
    elements: 500,
  };
}

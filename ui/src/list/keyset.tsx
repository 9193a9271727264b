// Lists by keyset: the address holds the filters and the page, so that a link shows the same, and back goes back.
import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useEffect, useRef, useState } from "react";
import { Link, useSearchParams } from "react-router";
import { told } from "../api/client";
import { Button } from "../design/button";
import { Failed, Loading } from "../design/state";
import { type Column, Table } from "../design/table";
import { save, type Written, written } from "./export";
import { lost } from "./lost";

export interface Page<Row> {
  items: Row[];
  next_page?: string | null;
}

export type Load<Row> = (of: { limit?: string; page?: string }, signal?: AbortSignal) => Promise<Page<Row>>;

const EXPORT_ROWS_MAX = 50_000;

interface FilterOptions {
  /** It changes with each key that is pressed, and going back must not go through all of them. */
  typed?: boolean;
}

/** Filters that the address holds; setting some, which is one step to go back, goes to the first page. */
export function useFilters<Name extends string>(
  names: readonly Name[],
  { typed = false }: FilterOptions = {},
): [Record<Name, string>, (change: Partial<Record<Name, string>>) => void] {
  const [search, setSearch] = useSearchParams();
  const now = Object.fromEntries(names.map((name) => [name, search.get(name) ?? ""])) as Record<Name, string>;
  const set = (change: Partial<Record<Name, string>>) => {
    const changed = names.filter((name) => change[name] !== undefined && change[name] !== now[name]);
    // What is entered once more, or left as it was, is no step to go back to.
    if (changed.length === 0) return;
    const after = new URLSearchParams(search);
    for (const name of changed) {
      if (change[name]) after.set(name, change[name]);
      else after.delete(name);
    }
    after.delete("page");
    setSearch(after, { replace: typed });
  };
  return [now, set];
}

/** One filter that the address holds. Two of them are not to be set at once: `useFilters` does that. */
export function useFilter<Name extends string>(name: Name, options?: FilterOptions): [string, (value: string) => void] {
  const [now, set] = useFilters([name], options);
  return [now[name], (value) => set({ [name]: value } as Partial<Record<Name, string>>)];
}

interface ListingProps<Row> {
  name: string;
  /** What the answer depends on besides the page: begins with `"tenant", slug` for a tenant's data. */
  queryKey: unknown[];
  load: Load<Row>;
  /** They may depend on what else is on the page. */
  columns: Column<Row>[] | ((page: Row[]) => Column<Row>[]);
  rowKey: (row: Row) => string;
  empty: ReactNode;
  /** Asks again every so many milliseconds; or never, as its rows say. */
  every?: number | ((page: Row[]) => number | false);
  /** What a file of all rows holds of each; without it there is none. */
  exported?: (row: Row) => Written;
  actions?: (rows: Row[]) => ReactNode;
  /** What holds its page in the address, where a page has a second list. */
  pageIn?: string;
}

export function Listing<Row>(props: ListingProps<Row>) {
  const { name, queryKey, load, columns, rowKey, empty, every, exported, actions, pageIn = "page" } = props;
  const [search] = useSearchParams();
  const page = search.get(pageIn) ?? undefined;
  const query = useQuery({
    queryKey: [...queryKey, page ?? ""],
    queryFn: ({ signal }) => load(page ? { page } : {}, signal),
    refetchInterval: typeof every === "function" ? (of) => every(of.state.data?.items ?? []) : (every ?? false),
  });
  // Whoever turned the page is at its rows when these are there: the link that was pressed is gone with the page before.
  const turnedTo = useRef<string>(undefined);
  const around = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (turnedTo.current !== (page ?? "") || !query.data) return;
    turnedTo.current = undefined;
    around.current?.focus();
  }, [page, query.data]);
  if (query.isPending) return <Loading rows={8} />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const { items, next_page: next } = query.data;
  if (items.length === 0 && !page) return empty;
  const turn = (to: string) => () => {
    turnedTo.current = to;
  };
  const link = (to: string | undefined) => {
    const after = new URLSearchParams(search);
    if (to) after.set(pageIn, to);
    else after.delete(pageIn);
    return { search: after.size > 0 ? `?${after}` : "" };
  };
  return (
    <>
      {actions?.(items)}
      <Table name={name} columns={typeof columns === "function" ? columns(items) : columns} rows={items} rowKey={rowKey} around={around} />
      <nav className="pager" aria-label={`Pages of ${name}`}>
        <span>{items.length === 1 ? "1 row" : `${items.length} rows`}</span>
        <span className="row">
          {exported && <ExportButton name={name} load={load} exported={exported} />}
          {page && (
            <Link to={link(undefined)} onClick={turn("")}>
              First page
            </Link>
          )}
          {next ? (
            <Link to={link(next)} onClick={turn(next)}>
              Next page
            </Link>
          ) : page ? <span>Last page</span> : null}
        </span>
      </nav>
    </>
  );
}

interface ExportProps<Row> {
  name: string;
  load: Load<Row>;
  exported: (row: Row) => Written;
}

function ExportButton<Row>({ name, load, exported }: ExportProps<Row>) {
  const [state, setState] = useState<string>();
  const [failed, setFailed] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const all = async () => {
    setBusy(true);
    setState(undefined);
    setFailed(undefined);
    try {
      const rows: Written[] = [];
      let page: string | undefined;
      do {
        const got: Page<Row> = await load(page ? { page, limit: "500" } : { limit: "500" });
        rows.push(...got.items.map(exported));
        page = got.next_page ?? undefined;
      } while (page && rows.length < EXPORT_ROWS_MAX);
      save(`${name.toLowerCase().replaceAll(" ", "-")}.csv`, "text/csv", written(rows));
      if (page) setState(`The first ${rows.length} rows; the command line exports all.`);
    } catch (error) {
      setFailed(error);
    }
    setBusy(false);
  };
  return (
    <>
      {state && <span role="status">{state}</span>}
      {failed !== undefined && <Failed {...told(failed)} />}
      <Button kind="quiet" small busy={busy} onClick={() => void all()}>
        {busy ? "Exporting…" : "Export CSV"}
      </Button>
    </>
  );
}

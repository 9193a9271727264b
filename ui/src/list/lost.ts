// What is shown while the server does not answer. One rule for every page: what is there stays, with whatever is open and typed over it, and the
// frame says that it is not up to date. What the caller may not see any more goes at once.
import { type QueryClient, type QueryState, useQueryClient } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";
import { Problem } from "../api/client";

interface Asked {
  isError: boolean;
  data: unknown;
  error: Error | null;
}

/** It is not for who looks, or it is not there: also where it was shown a moment ago. Where nobody is signed in the whole page goes, by another
 * way, and with a form that is kept for whoever filled it in (`session/lock`). */
const withdrawn = (error: Error | null) => error instanceof Problem && [403, 404].includes(error.status);
const nobodyIsThere = (error: Error | null) => error instanceof Problem && error.status === 401;

/** There is nothing to be shown: it never came, or was withdrawn. An answer that fails to come anew takes nothing away. */
export function lost<Query extends Asked>(query: Query): query is Extract<Query, { isLoadingError: true }> {
  return query.isError && (query.data === undefined || withdrawn(query.error));
}

function firstStale(client: QueryClient): QueryState | undefined {
  const stale = client.getQueryCache().findAll({ type: "active" }).find(({ state }) => {
    // Rows that were asked for besides those that are there: their button says it.
    if (state.fetchMeta?.fetchMore) return false;
    return state.status === "error" && state.data !== undefined && !withdrawn(state.error) && !nobodyIsThere(state.error);
  });
  return stale?.state;
}

/** Something on the page that could not be asked anew, if there is any: why, and of when it is. */
export function useStale() {
  const client = useQueryClient();
  const state = useSyncExternalStore(
    (changed) => client.getQueryCache().subscribe(changed),
    () => firstStale(client),
  );
  const retry = () => void client.refetchQueries({ type: "active", predicate: (query) => query.state.status === "error" });
  return state && { error: state.error, at: new Date(state.dataUpdatedAt), retry };
}

// A list that grows where it stands: in a dialog, or in a panel of a page that is about something else.
import { type InfiniteData, type UseInfiniteQueryResult, useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { told } from "../api/client";
import { Button } from "../design/button";
import { Failed } from "../design/state";
import type { Load, Page } from "./keyset";

type Growing<Row> = UseInfiniteQueryResult<InfiniteData<Page<Row>>>;

interface GrowingOptions {
  queryKey: unknown[];
  enabled?: boolean;
  /** Asked anew whenever it is opened: an answer of before would be wrong. */
  anew?: boolean;
  every?: number;
}

export function useGrowing<Row>(load: Load<Row>, { queryKey, enabled = true, anew = false, every }: GrowingOptions): Growing<Row> {
  return useInfiniteQuery({
    queryKey,
    enabled,
    ...(anew ? { gcTime: 0, staleTime: 0 } : {}),
    refetchInterval: every ?? false,
    initialPageParam: "",
    queryFn: ({ pageParam, signal }) => load(pageParam ? { page: pageParam } : {}, signal),
    getNextPageParam: (last) => last.next_page ?? undefined,
  });
}

/** All rows that came so far. */
export function rowsOf<Row>(data: InfiniteData<Page<Row>>): Row[] {
  return data.pages.flatMap((page) => page.items);
}

/** Says that there are more, and brings them. */
export function More<Row>({ query }: { query: Growing<Row> }) {
  const end = useRef<HTMLParagraphElement>(null);
  const asked = useRef(false);
  const isWhole = Boolean(query.data) && !query.hasNextPage;
  // The button is gone with the last rows: whoever pressed it is where they end.
  useEffect(() => {
    if (isWhole && asked.current) end.current?.focus({ preventScroll: true });
    asked.current &&= !isWhole;
  }, [isWhole]);
  if (!query.data) return null;
  if (!query.hasNextPage) {
    if (query.data.pages.length < 2) return null;
    return (
      <p ref={end} className="pager" tabIndex={-1}>
        All {rowsOf(query.data).length}
      </p>
    );
  }
  const more = () => {
    asked.current = true;
    void query.fetchNextPage();
  };
  return (
    <p className="pager">
      <span>The first {rowsOf(query.data).length}</span>
      {query.isFetchNextPageError && <Failed {...told(query.error)} />}
      <Button kind="quiet" small busy={query.isFetchingNextPage} onClick={more}>
        Show more
      </Button>
    </p>
  );
}

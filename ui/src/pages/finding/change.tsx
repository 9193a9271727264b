// One change to findings, one or many: it says how many of which before it is done, and is done to all of them or to none.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, type Schemas, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextArea, TextField } from "../../design/field";
import { Failed, Loading, Notice } from "../../design/state";
import type { FindingsOf } from "../../paths";
import { useTenant } from "../../session/me";
import { useWithProof } from "../../session/proof";

export type Verb = "accept" | "resolve" | "reopen";
export type Chosen = Pick<Schemas["Finding"], "id" | "status" | "severity">;

/** What is changed: findings that were chosen, or all that a filter shows. */
export type Subject = { rows: Chosen[] } | { filter: FindingsOf };

interface Selection {
  count: number;
  counts: Schemas["FindingCount"][];
  left: number;
  seen?: string | null;
  most: number;
}

const NAMED_MAX = 1_000;
const DAY_MS = 86_400_000;
const day = (after: number) => new Date(Date.now() + after * DAY_MS).toISOString().slice(0, 10);
const findings = (count: number) => (count === 1 ? "1 finding" : `${count} findings`);

export const ALLOWED: Record<Verb, string[]> = {
  accept: ["open"],
  resolve: ["open", "accepted"],
  reopen: ["accepted", "resolved"],
};
const WORD: Record<Verb, string> = { accept: "Accept", resolve: "Resolve", reopen: "Open again" };
const ABOUT: Record<Verb, string> = {
  accept: "An accepted finding counts no more until the day that you set; then it is open again.",
  resolve: "What still violates its rule is open again with the next evaluation.",
  reopen: "An acceptance ends with it. What complies by now is resolved with the next evaluation.",
};
const ORDER = ["critical", "high", "medium", "low", "info"];

/** Those of the chosen to which it can be done, in numbers. */
function chosen(rows: Chosen[], verb: Verb): Selection {
  const fit = rows.filter((row) => ALLOWED[verb].includes(row.status));
  const counts = new Map<string, Schemas["FindingCount"]>();
  for (const { status, severity } of fit) {
    const key = `${status} ${severity}`;
    counts.set(key, { status, severity, count: (counts.get(key)?.count ?? 0) + 1 });
  }
  return { count: fit.length, counts: [...counts.values()], left: rows.length - fit.length, most: NAMED_MAX };
}

export function ChangeDialog({ verb, subject, onClose }: { verb: Verb; subject: Subject; onClose: (done: boolean) => void }) {
  const { slug } = useTenant();
  const client = useQueryClient();
  const withProof = useWithProof();
  const [reason, setReason] = useState("");
  const [until, setUntil] = useState(day(90));
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<unknown>();
  const filter = "filter" in subject ? subject.filter : undefined;
  const path = { tenant: slug };
  const query = useQuery({
    queryKey: ["tenant", slug, "finding-selection", verb, filter],
    enabled: filter !== undefined,
    staleTime: 0,
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/tenants/{tenant}/finding-selection", { params: { path, query: { ...filter, change: verb } }, signal })),
  });
  const selection = "rows" in subject ? chosen(subject.rows, verb) : query.data;
  const change = async () => {
    if (!selection || busy) return;
    setBusy(true);
    setFailed(undefined);
    const what =
      "rows" in subject
        ? { findings: subject.rows.filter((row) => ALLOWED[verb].includes(row.status)).map((row) => row.id) }
        : { filter, seen: selection.seen };
    const body = { change: verb, ...what, ...(verb === "accept" ? { reason, until: `${until}T00:00:00Z` } : {}) };
    try {
      await withProof(() => take(api.POST("/api/v1/tenants/{tenant}/finding-changes", { params: { path }, body })));
      await client.invalidateQueries({ queryKey: ["tenant", slug] });
      onClose(true);
    } catch (error) {
      setFailed(error);
      setBusy(false);
      // What matches may have changed: the numbers are asked anew, and it is confirmed again.
      await client.invalidateQueries({ queryKey: ["tenant", slug] });
    }
  };
  const off = !selection
    ? "It is being counted."
    : selection.count === 0
      ? "There is none to which this can be done."
      : selection.count > selection.most
        ? `At most ${selection.most} are changed together: filter more.`
        : undefined;
  const count = selection?.count ?? 0;
  // What was refused may be in another state than when it was chosen: it is chosen anew from what the list shows then.
  const leave = () => onClose(failed !== undefined);
  return (
    <Dialog title={`${WORD[verb]}: ${selection ? findings(count) : "…"}`} onClose={leave} onSubmit={() => !off && void change()}>
      <p className="muted">{ABOUT[verb]}</p>
      {query.isError && <Failed {...told(query.error)} onRetry={() => void query.refetch()} />}
      {!selection && !query.isError && <Loading />}
      {selection && <Which of={selection} />}
      {verb === "accept" && (
        <>
          <TextArea label="Reason" required maxLength={1000} value={reason} onChange={(event) => setReason(event.target.value)} />
          <TextField
            label="Until"
            type="date"
            required
            min={day(1)}
            max={day(365)}
            value={until}
            onChange={(event) => setUntil(event.target.value)}
          />
        </>
      )}
      {failed !== undefined && <Failed {...told(failed)} />}
      <div className="actions">
        <Button onClick={leave}>Cancel</Button>
        <Button kind="primary" type="submit" busy={busy} reason={off}>
          {busy ? "Changing…" : selection ? `${WORD[verb]} ${findings(count)}` : WORD[verb]}
        </Button>
      </div>
    </Dialog>
  );
}

/** How many of which: by state and severity, the worst first. */
function Which({ of }: { of: Selection }) {
  const counts = [...of.counts].sort((a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity));
  return (
    <>
      {counts.length > 0 && (
        <ul className="row" aria-label="Which findings">
          {counts.map((it) => (
            <li key={`${it.status} ${it.severity}`}>
              {it.count} <Badge word={it.severity} /> <Badge word={it.status} />
            </li>
          ))}
        </ul>
      )}
      {of.left > 0 && (
        <Notice kind="care">
          {findings(of.left)} more {of.left === 1 ? "is" : "are"} in a state in which this cannot be done, and {of.left === 1 ? "stays" : "stay"} so.
        </Notice>
      )}
    </>
  );
}

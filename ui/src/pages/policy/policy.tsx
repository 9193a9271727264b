// One policy of a tenant: what it is now, in words, and a form that changes it.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { type Tagged, told } from "../../api/client";
import { Button } from "../../design/button";
import { Facts } from "../../design/facts";
import { Panel } from "../../design/panel";
import { Failed, Loading, Notice } from "../../design/state";
import { Confirm, useChange } from "../../list/change";
import { changedMeanwhile, changes, putOver, type Said } from "../../list/over";
import { useTenant } from "../../session/me";

interface PolicyProps<P, D> {
  title: string;
  about: ReactNode;
  /** The last part of its address. */
  name: string;
  /** The permission to see it. */
  sees: string;
  /** The permission to change it. */
  sets: string;
  load: (signal?: AbortSignal) => Promise<Tagged<P>>;
  save: (policy: P, over: string) => Promise<P>;
  says: (policy: P) => Said[];
  /** What the form holds: numbers are text while they are typed. */
  draft: (policy: P) => D;
  policy: (draft: D) => P;
  fields: (draft: D, set: (part: Partial<D>) => void) => ReactNode;
  /** What a change takes away for good, if it does. */
  loses?: (before: P, after: P) => string | undefined;
}

export function PolicyPanel<P, D>(props: PolicyProps<P, D>) {
  const { slug, lacks } = useTenant();
  const hidden = lacks(props.sees);
  const query = useQuery({
    queryKey: ["tenant", slug, props.name],
    queryFn: async ({ signal }) => (await props.load(signal)).it,
    enabled: hidden === undefined,
  });
  return (
    <Panel title={props.title}>
      <div className="stack">
        <p className="muted">{props.about}</p>
        {hidden !== undefined ? (
          <p>{hidden}</p>
        ) : query.isPending ? (
          <Loading rows={3} />
        ) : query.data === undefined ? (
          <Failed {...told(query.error)} onRetry={() => void query.refetch()} />
        ) : (
          <Shown {...props} now={query.data} />
        )}
      </div>
    </Panel>
  );
}

function Shown<P, D>({ now, title, name, sets, load, save, says, draft, policy, fields, loses }: PolicyProps<P, D> & { now: P }) {
  const tenant = useTenant();
  const queryKey = ["tenant", tenant.slug, name];
  const client = useQueryClient();
  const { change, failure } = useChange(queryKey);
  // Only what was typed: the rest follows what the policy is by now.
  const [typed, setTyped] = useState<Partial<D>>({});
  // What it was when the first of that was typed.
  const [opened, setOpened] = useState<P>();
  const [asking, setAsking] = useState<string>();
  const [saved, setSaved] = useState<string[]>();
  const [busy, setBusy] = useState(false);
  const lacks = tenant.lacks(sets);
  const shown = { ...draft(now), ...typed };
  // A policy is put as a whole: what somebody else changed meanwhile stays, and what both changed is theirs until one has looked.
  const differs = (was: P, is: P) =>
    (Object.keys(typed) as (keyof D)[]).some((part) => JSON.stringify(draft(was)[part]) !== JSON.stringify(draft(is)[part]));
  const check = (is: P) => {
    const was = opened ?? now;
    if (!differs(was, is)) return;
    setOpened(is);
    client.setQueryData(queryKey, is);
    throw changedMeanwhile(changes(says(was), says(is)));
  };
  const wanted = (before: P) => policy({ ...draft(before), ...typed });
  const put = async () => {
    setBusy(true);
    setSaved(undefined);
    let changed: string[] = [];
    const done = await change(async () => {
      await putOver(load, check, async (over, before) => {
        const after = await save(wanted(before), over);
        changed = changes(says(before), says(after));
        client.setQueryData(queryKey, after);
      });
    });
    if (done) {
      setTyped({});
      setOpened(undefined);
      setSaved(changed);
    }
    setBusy(false);
  };
  const submit = async () => {
    if (busy || lacks !== undefined) return;
    let lost: string | undefined;
    if (loses) {
      setBusy(true);
      const asked = await change(async () => {
        const { it: before } = await load();
        check(before);
        lost = loses(before, wanted(before));
      });
      setBusy(false);
      if (!asked) return;
    }
    if (lost === undefined) await put();
    else setAsking(lost);
  };
  return (
    <>
      <Facts of={says(now).map(([what, words]) => [what, words])} />
      <form
        className="stack"
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <fieldset className="stack" disabled={lacks !== undefined || busy}>
          {fields(shown, (part) => {
            setSaved(undefined);
            setOpened(opened ?? now);
            setTyped({ ...typed, ...part });
          })}
        </fieldset>
        {lacks !== undefined && <p className="muted">{lacks}</p>}
        {failure}
        {saved && (
          <Notice kind="good">
            {saved.length === 0 ? "Saved. Nothing is different." : "Saved."}
            {saved.map((it) => (
              <div key={it}>{it}</div>
            ))}
          </Notice>
        )}
        <div className="row">
          <Button kind="primary" type="submit" reason={lacks} busy={busy} aria-label={`Save: ${title}`}>
            Save
          </Button>
        </div>
      </form>
      {asking !== undefined && (
        <Confirm title={`Change ${title.toLowerCase()}?`} action="Change" onClose={() => setAsking(undefined)} onConfirm={() => void put()}>
          {asking}
        </Confirm>
      )}
    </>
  );
}

/** A choice of yes or no in a form. */
export function Check({ label, on, onChange }: { label: string; on: boolean; onChange: (on: boolean) => void }) {
  return (
    <label className="check">
      <input type="checkbox" checked={on} onChange={(event) => onChange(event.target.checked)} />
      {label}
    </label>
  );
}

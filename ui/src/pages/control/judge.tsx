// Judging everything as it is now, without waiting for the next job.
import { useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Button } from "../../design/button";
import { count } from "../../design/count";
import { Notice } from "../../design/state";
import { useChange } from "../../list/change";
import { useTenant } from "../../session/me";

/** The button, and what came of it: they stand apart on a page. */
export function useJudging() {
  const tenant = useTenant();
  const { change, failure } = useChange(["tenant", tenant.slug]);
  const [busy, setBusy] = useState(false);
  const [done, setDone] = useState<Schemas["Evaluation"]>();
  const judge = async () => {
    setBusy(true);
    setDone(undefined);
    await change(async () => {
      setDone(await take(api.POST("/api/v1/tenants/{tenant}/evaluations", { params: { path: { tenant: tenant.slug } } })));
    });
    setBusy(false);
  };
  const button = (
    <Button busy={busy} reason={tenant.lacks("audit:run")} onClick={() => void judge()}>
      {busy ? "Judging…" : "Judge now"}
    </Button>
  );
  const told = done && (
    <Notice kind="good">
      <strong>
        {count(done.nodes)} nodes were judged by {count(done.rules)} rules: {count(done.passed)} verdicts passed, {count(done.failed)} failed,{" "}
        {count(done.errors)} could not be reached.
      </strong>
      <div className="small">{done.changes === 0 ? "No finding changed." : done.changes === 1 ? "1 finding changed." : `${count(done.changes)} findings changed.`}</div>
    </Notice>
  );
  return { button, outcome: failure ?? told ?? null };
}

// Living with findings for a while: a reason and an end are needed, and both are in the audit log.
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, take, told } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextArea, TextField } from "../../design/field";
import { useTenant } from "../../session/me";
import { useWithProof } from "../../session/proof";

const DAY_MS = 86_400_000;
const day = (after: number) => new Date(Date.now() + after * DAY_MS).toISOString().slice(0, 10);

export function AcceptDialog({ ids, onClose }: { ids: string[]; onClose: (done: boolean) => void }) {
  const { slug } = useTenant();
  const client = useQueryClient();
  const withProof = useWithProof();
  const [reason, setReason] = useState("");
  const [until, setUntil] = useState(day(90));
  const [state, setState] = useState<{ done: number; wrong?: string }>();
  const accept = async () => {
    let done = 0;
    setState({ done });
    try {
      for (const finding of ids) {
        const path = { tenant: slug, finding };
        const body = { reason, until: `${until}T00:00:00Z` };
        await withProof(() => take(api.POST("/api/v1/tenants/{tenant}/findings/{finding}/accept", { params: { path }, body })));
        done += 1;
        setState({ done });
      }
      onClose(true);
    } catch (error) {
      const before = done > 0 ? `${done} of ${ids.length} were accepted. ` : "";
      setState({ done, wrong: before + told(error).message });
    }
    await client.invalidateQueries({ queryKey: ["tenant", slug] });
  };
  const busy = state !== undefined && state.wrong === undefined;
  return (
    <Dialog
      title={ids.length === 1 ? "Accept this finding" : `Accept ${ids.length} findings`}
      onClose={() => onClose(false)}
      onSubmit={() => void accept()}
    >
      <p className="muted">An accepted finding counts no more until the day that you set; then it is open again.</p>
      <TextArea
        label="Reason"
        required
        maxLength={1000}
        value={reason}
        wrong={state?.wrong}
        onChange={(event) => setReason(event.target.value)}
      />
      <TextField
        label="Until"
        type="date"
        required
        min={day(1)}
        max={day(365)}
        value={until}
        onChange={(event) => setUntil(event.target.value)}
      />
      <div className="actions">
        <Button onClick={() => onClose(false)}>Cancel</Button>
        <Button kind="primary" type="submit" busy={busy}>
          {busy && ids.length > 1 ? `${state.done} of ${ids.length}…` : "Accept"}
        </Button>
      </div>
    </Dialog>
  );
}

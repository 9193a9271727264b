// Changing what people say of a destination: its labels, and for a cluster the relay that speaks of it.
import { useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextField } from "../../design/field";
import { Notice } from "../../design/state";
import { useChange } from "../../list/change";
import { useTenant } from "../../session/me";
import { labelsOf, textOf } from "../fleet/labels";
import { RelayChoice } from "./relay";

type Destination = Schemas["Destination"];

export function ChangeDialog({ of, onClose }: { of: Destination; onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug]);
  const [labels, setLabels] = useState(textOf(of.labels));
  const [relay, setRelay] = useState(of.relay ?? "");
  const relabelled = labels.trim() !== textOf(of.labels);
  const moved = relay !== (of.relay ?? "");
  const save = async () => {
    if (!relabelled && !moved) return;
    const params = { path: { tenant: slug, destination: of.id } };
    const body = { ...(relabelled ? { labels: labelsOf(labels) as Record<string, never> } : {}), ...(moved ? { relay } : {}) };
    if (await change(() => take(api.PATCH("/api/v1/tenants/{tenant}/destinations/{destination}", { params, body })))) onClose();
  };
  return (
    <Dialog title={`Change ${of.name}`} onClose={onClose} onSubmit={() => void save()}>
      {failure}
      <TextField
        label="Labels"
        help="Names and values between commas, such as env=prod, team=web. What is not here is taken away. Grants by labels follow at once."
        autoComplete="off"
        value={labels}
        onChange={(event) => setLabels(event.target.value)}
      />
      {of.kind === "kubernetes" && (
        <RelayChoice relay={relay} help="Only this one may speak for the cluster: any other that calls itself so is refused." onChange={setRelay} />
      )}
      {moved && (
        <Notice kind="care">
          Where the cluster’s proxy is was the word of the relay so far, and is forgotten: nobody reaches it until the new one has registered it.
        </Notice>
      )}
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit" reason={!relabelled && !moved ? "Nothing is changed yet." : undefined}>
          Save
        </Button>
      </div>
    </Dialog>
  );
}

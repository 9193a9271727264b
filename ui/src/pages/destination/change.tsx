// Changing what people say of a destination: its labels, and for a cluster the relay that speaks of it.
import { useState } from "react";
import { api, type Schemas, take, takeTagged } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextField } from "../../design/field";
import { Notice } from "../../design/state";
import { useChange } from "../../list/change";
import { useOver } from "../../list/over";
import { useTenant } from "../../session/me";
import { labelsOf, textOf } from "../fleet/labels";
import { RelayChoice } from "./relay";
import { saysByLabels } from "./set";

type Destination = Schemas["Destination"];

export function ChangeDialog({ of, onClose }: { of: Destination; onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug]);
  const path = { tenant: slug, destination: of.id };
  const { seen, over } = useOver(
    of,
    () => takeTagged(api.GET("/api/v1/tenants/{tenant}/destinations/{destination}", { params: { path } })),
    (it) => [
      ["Labels", textOf(it.labels)],
      ["Relay", it.relay_name ?? it.relay ?? ""],
    ],
  );
  // What is not typed here follows what it is by now.
  const [typed, setTyped] = useState<{ labels?: string; relay?: string }>({});
  const { labels, relay } = { labels: textOf(seen.labels), relay: seen.relay ?? "", ...typed };
  const relabelled = labels.trim() !== textOf(seen.labels);
  const moved = relay !== (seen.relay ?? "");
  const save = async () => {
    if (!relabelled && !moved) return;
    const body = { ...(relabelled ? { labels: labelsOf(labels) as Record<string, never> } : {}), ...(moved ? { relay } : {}) };
    const put = (tag: string) =>
      take(api.PATCH("/api/v1/tenants/{tenant}/destinations/{destination}", { params: { path, header: { "If-Match": tag } }, body }));
    if (await change(() => over(put))) onClose();
  };
  return (
    <Dialog title={`Change ${of.name}`} onClose={onClose} onSubmit={() => save()}>
      {failure}
      <TextField
        label="Labels"
        help="Names and values between commas, such as env=prod, team=web. What is not here is taken away. Grants by labels follow at once."
        autoComplete="off"
        value={labels}
        onChange={(event) => setTyped({ ...typed, labels: event.target.value })}
      />
      {relabelled && (
        <Notice kind="care">
          By its labels {of.name} is covered by {of.by_labels ? saysByLabels(of.by_labels) : "nothing"} now. Other labels give and take access at once, as grants do:
          look at “By its labels” after saving.
        </Notice>
      )}
      {of.kind === "kubernetes" && (
        <RelayChoice relay={relay} help="Only this one may speak for the cluster: any other that calls itself so is refused." onChange={(relay) => setTyped({ ...typed, relay })} />
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

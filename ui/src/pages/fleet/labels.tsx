// Labels of an agent or a relay: what filters and grants call it by.
import { useState } from "react";
import { api, type Schemas, take, type Tagged, takeTagged } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextField } from "../../design/field";
import { useChange } from "../../list/change";
import { useOver } from "../../list/over";
import { useTenant } from "../../session/me";
import type { Kind } from "./unit";

/** `site=berlin, env=prod` as names and values. */
export function labelsOf(text: string): Record<string, string> {
  const pairs = text.split(",").map((pair) => {
    const [name = "", ...rest] = pair.split("=");
    return [name.trim(), rest.join("=").trim()] as const;
  });
  return Object.fromEntries(pairs.filter(([name]) => name));
}

export const textOf = (labels: Record<string, unknown>) =>
  Object.entries(labels)
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(", ");

export function LabelsDialog({ kind, unit, onClose }: { kind: Kind; unit: Schemas["FleetUnit"]; onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, kind]);
  const [agent, relay] = [
    { tenant: slug, agent: unit.id },
    { tenant: slug, relay: unit.id },
  ];
  const load = async (): Promise<Tagged<Schemas["FleetUnit"]>> =>
    kind === "agent"
      ? takeTagged(api.GET("/api/v1/tenants/{tenant}/agents/{agent}", { params: { path: agent } }))
      : takeTagged(api.GET("/api/v1/tenants/{tenant}/relays/{relay}", { params: { path: relay } }));
  const { seen, over } = useOver(unit, load, (it) => [["Labels", textOf(it.labels)]]);
  // Before anything is typed it follows what they are by now.
  const [typed, setTyped] = useState<string>();
  const text = typed ?? textOf(seen.labels);
  const save = async () => {
    const body = { labels: labelsOf(text) as Record<string, never> };
    const put = (tag: string) => {
      const header = { "If-Match": tag };
      return kind === "agent"
        ? take(api.PUT("/api/v1/tenants/{tenant}/agents/{agent}/labels", { params: { path: agent, header }, body }))
        : take(api.PUT("/api/v1/tenants/{tenant}/relays/{relay}/labels", { params: { path: relay, header }, body }));
    };
    if (await change(() => over(put))) onClose();
  };
  return (
    <Dialog title={`Labels of ${unit.name}`} onClose={onClose} onSubmit={() => save()}>
      {failure}
      <TextField
        label="Labels"
        help="Names and values between commas, such as site=berlin, env=prod. What is not here is taken away."
        autoComplete="off"
        value={text}
        onChange={(event) => setTyped(event.target.value)}
      />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Save
        </Button>
      </div>
    </Dialog>
  );
}

// Asking for access for a while.
import { useState } from "react";
import { api, take } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Select, TextArea, TextField } from "../../design/field";
import { useChange } from "../../list/change";
import { useTenant } from "../../session/me";

const DURATIONS: [string, string][] = [
  ["900", "15 minutes"],
  ["3600", "1 hour"],
  ["14400", "4 hours"],
  ["28800", "8 hours"],
];

/** What the form begins with. */
export interface Asked {
  destination: string;
  role: string;
  namespace: string;
  /** Where it is for, if that is labels and no name. */
  labels?: string;
}

interface AskProps {
  /** The access is taken at once, for so long at the most, and an alarm goes off. */
  glass?: { s_max?: number | null | undefined };
  by?: Asked | undefined;
  onClose: () => void;
}

export function AskDialog({ glass, by, onClose }: AskProps) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, glass ? "reach" : "requests"]);
  const max = glass?.s_max ?? Number.POSITIVE_INFINITY;
  const durations = DURATIONS.filter(([seconds]) => Number(seconds) <= max);
  // A limit that is none of these, such as 10 minutes.
  if (durations.length === 0) durations.push([String(max), `${Math.floor(max / 60)} minutes`]);
  const longest = durations.at(-1)?.[0] ?? "3600";
  const [of, setOf] = useState({
    destination: by?.destination ?? "",
    role: by?.role ?? "view",
    namespace: by?.namespace ?? "",
    reason: "",
    duration: max < 3_600 ? longest : "3600",
  });
  const set = (name: keyof typeof of) => (event: { target: { value: string } }) => setOf({ ...of, [name]: event.target.value });
  const ask = async () => {
    const { destination, role, reason } = of;
    const body = { destination, role, reason, namespace: of.namespace || null, duration_s: Number(of.duration) };
    const params = { path: { tenant: slug } };
    const done = await change(() =>
      glass
        ? take(api.POST("/api/v1/tenants/{tenant}/break-glass", { params, body }))
        : take(api.POST("/api/v1/tenants/{tenant}/access-requests", { params, body })),
    );
    if (done) onClose();
  };
  return (
    <Dialog title={glass ? "Break glass" : "Ask for access"} onClose={onClose} onSubmit={() => ask()}>
      {failure}
      {glass && (
        <p>
          You get the access at once and nobody approves it. The audit log raises an alarm, and who manages access is asked why later. The tenant’s policy
          says who may, and for how long at most.
        </p>
      )}
      <TextField label="Destination" required help={by?.labels ? `One with ${by.labels}` : undefined} value={of.destination} onChange={set("destination")} />
      <TextField label="Role there" required help="Such as view, edit, admin" value={of.role} onChange={set("role")} />
      <TextField label="Only in this namespace (optional)" value={of.namespace} onChange={set("namespace")} />
      <Select label="For" value={of.duration} onChange={set("duration")}>
        {durations.map(([seconds, name]) => (
          <option key={seconds} value={seconds}>
            {name}
          </option>
        ))}
      </Select>
      <TextArea label="Reason" required value={of.reason} onChange={set("reason")} />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind={glass ? "danger" : "primary"} type="submit">
          {glass ? "Break glass" : "Ask"}
        </Button>
      </div>
    </Dialog>
  );
}

// An enrollment token, shown this once, with the commands that use it.
import { useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Select, TextField } from "../../design/field";
import { Copyable } from "../../design/secret";
import { useChange } from "../../list/change";
import { useTenant } from "../../session/me";
import type { Kind } from "./list";

const LIFETIMES: [string, string][] = [
  ["600", "10 minutes"],
  ["3600", "1 hour"],
  ["86400", "1 day"],
  ["604800", "1 week"],
];

function labelsOf(text: string): Record<string, string> {
  const pairs = text.split(",").map((pair) => pair.trim().split("=", 2) as [string, string?]);
  return Object.fromEntries(pairs.filter(([name]) => name).map(([name, value]) => [name, value ?? ""]));
}

/** The token goes into a file that nobody else reads: an argument could be seen by everybody on the machine. */
function command(kind: Kind, token: string): string {
  const keep = `(umask 077; cat > token <<'END'\n${token}\nEND\n)`;
  const server = window.location.origin;
  return kind === "agent"
    ? `${keep}\nsudo CAIRN_AGENT_SERVER=${server} cairn-agent enroll --token-file token`
    : `${keep}\nRELAY_SERVER=${server} RELAY_TOKEN=file:$PWD/token cairn-relay`;
}

export function EnrollDialog({ kind, onClose }: { kind: Kind; onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, "enrollment-tokens"]);
  const [labels, setLabels] = useState("");
  const [lifetime, setLifetime] = useState("3600");
  const [made, setMade] = useState<Schemas["EnrollmentTokenCreated"]>();
  const make = () =>
    change(async () => {
      const body = { kind, expires_in_s: Number(lifetime), labels: labelsOf(labels) as Record<string, never> };
      setMade(await take(api.POST("/api/v1/tenants/{tenant}/enrollment-tokens", { params: { path: { tenant: slug } }, body })));
    });
  if (made) {
    return (
      <Dialog title="Enrollment token" onClose={onClose}>
        <p>
          <strong>It is shown this once</strong>, and enrolls one {kind}. Run this on the {kind}’s machine:
        </p>
        <Copyable name="Commands" text={command(kind, made.token)} />
        <p className="muted small">
          Where the server’s certificate is its own, name its authority as well:{" "}
          <code>{kind === "agent" ? "CAIRN_AGENT_CA_FILE" : "RELAY_CA_CERT"}=ca.crt</code>.
        </p>
        <div className="actions">
          <Button kind="primary" onClick={onClose}>
            Done
          </Button>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title={kind === "agent" ? "Enroll an agent" : "Enroll a relay"} onClose={onClose} onSubmit={() => void make()}>
      {failure}
      <TextField
        label="Labels"
        help="What the unit is called by in filters and grants, such as site=berlin, env=prod"
        value={labels}
        onChange={(event) => setLabels(event.target.value)}
      />
      <Select label="Good for" value={lifetime} onChange={(event) => setLifetime(event.target.value)}>
        {LIFETIMES.map(([seconds, name]) => (
          <option key={seconds} value={seconds}>
            {name}
          </option>
        ))}
      </Select>
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Make a token
        </Button>
      </div>
    </Dialog>
  );
}

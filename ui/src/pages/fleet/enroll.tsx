// An enrollment token, shown this once, with the commands that use it.
import { useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Select, TextField } from "../../design/field";
import { Copyable } from "../../design/secret";
import { useChange } from "../../list/change";
import { useTenant } from "../../session/me";
import { labelsOf } from "./labels";
import type { Kind } from "./unit";

const LIFETIMES: [string, string][] = [
  ["600", "10 minutes"],
  ["3600", "1 hour"],
  ["86400", "1 day"],
  ["604800", "1 week"],
];

type Way = "program" | "container" | "helm";

const WAYS: [Way, string][] = [
  ["program", "As a program"],
  ["container", "As a container"],
  ["helm", "In a Kubernetes cluster, by Helm"],
];

/** The token goes into a file that nobody else reads: an argument could be seen by everybody on the machine. */
function commands(kind: Kind, way: Way, token: string): string {
  const keep = `(umask 077; printf '%s' '${token}' > token)`;
  const server = window.location.origin;
  if (kind === "agent") {
    // Its unit reads the server's address from the file, not from this shell.
    return [
      keep,
      `sudo sed -i 's|^#server = .*|server = "${server}"|' /etc/cairn-agent/agent.toml`,
      "sudo cairn-agent enroll --token-file token && rm token",
      "sudo systemctl enable --now cairn-agent",
    ].join("\n");
  }
  if (way === "container") {
    return [
      keep,
      "RELAY_TOKEN=$(cat token) docker run -d --name cairn-relay --restart unless-stopped --read-only --tmpfs /tmp \\",
      `  -v cairn-relay:/var/lib/cairn-relay -e RELAY_TOKEN -e RELAY_SERVER=${server} \\`,
      '  "$REGISTRY/cairn-relay:$VERSION" && rm token',
    ].join("\n");
  }
  if (way === "helm") {
    return [
      keep,
      "kubectl create namespace cairn",
      "kubectl -n cairn create secret generic cairn-relay --from-file=token && rm token",
      `helm install cairn-relay deploy/helm/cairn-relay -n cairn --set server=${server} \\`,
      '  --set cluster.name="$CLUSTER" --set image.repository="$REGISTRY/cairn-relay"',
    ].join("\n");
  }
  return [keep, `sudo env RELAY_SERVER=${server} RELAY_TOKEN=file:$PWD/token cairn-relay`].join("\n");
}

/** What the commands take for granted, and how a server of one's own authority is known. */
function About({ kind, way }: { kind: Kind; way: Way }) {
  if (kind === "agent") {
    return (
      <>
        The package <code>cairn-agent</code> has to be installed. Where the server’s certificate is its own, set <code>ca_file</code> in the same
        file as well.
      </>
    );
  }
  if (way === "helm") {
    return (
      <>
        Set <code>CLUSTER</code> to the cluster’s name as a destination and <code>REGISTRY</code> to where the image is. Where the server’s
        certificate is its own, put its authority into a ConfigMap (<code>ca.crt</code>) and name that by <code>serverAuthority</code>.
      </>
    );
  }
  return (
    <>
      {way === "container" && (
        <>
          Set <code>REGISTRY</code> and <code>VERSION</code> to where the image is.{" "}
        </>
      )}
      Where the server’s certificate is its own, name its authority as well: <code>RELAY_CA_CERT=ca.crt</code>.
    </>
  );
}

export function EnrollDialog({ kind, onClose }: { kind: Kind; onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, "enrollment-tokens"]);
  const [labels, setLabels] = useState("");
  const [lifetime, setLifetime] = useState("3600");
  const [way, setWay] = useState<Way>("program");
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
        {kind === "relay" && (
          <Select label="How it runs" value={way} onChange={(event) => setWay(event.target.value as Way)}>
            {WAYS.map(([it, name]) => (
              <option key={it} value={it}>
                {name}
              </option>
            ))}
          </Select>
        )}
        <Copyable key={way} name="Commands" text={commands(kind, way, made.token)} />
        <p className="muted small">
          <About kind={kind} way={way} />
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
    <Dialog title={kind === "agent" ? "Enroll an agent" : "Enroll a relay"} onClose={onClose} onSubmit={() => make()}>
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

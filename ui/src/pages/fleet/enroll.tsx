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

/** Text in a file, whatever a shell would make of it. */
const put = (text: string, to: string) => [`${to} <<'END'`, text.trimEnd(), "END"];

/** The token goes into a file that nobody else reads: an argument could be seen by everybody on the machine. `authority`: what the server’s own
 * certificate is known by, which is no secret. */
function commands(kind: Kind, way: Way, token: string, authority: string | undefined): string {
  const keep = `(umask 077; printf '%s' '${token}' > token)`;
  const server = window.location.origin;
  if (kind === "agent") {
    // Its unit reads the server's address from the file, not from this shell.
    return [
      keep,
      ...(authority ? put(authority, "sudo tee /etc/cairn-agent/ca.pem > /dev/null") : []),
      `sudo sed -i 's|^#server = .*|server = "${server}"|' /etc/cairn-agent/agent.toml`,
      ...(authority ? ["sudo sed -i 's|^#ca_file = |ca_file = |' /etc/cairn-agent/agent.toml"] : []),
      "sudo cairn-agent enroll --token-file token && rm token",
      "sudo systemctl enable --now cairn-agent",
    ].join("\n");
  }
  const known = authority ? put(authority, "cat > cairn-ca.crt") : [];
  if (way === "container") {
    return [
      keep,
      ...known,
      "RELAY_TOKEN=$(cat token) docker run -d --name cairn-relay --restart unless-stopped --read-only --tmpfs /tmp \\",
      ...(authority ? ["  -v \"$PWD/cairn-ca.crt:/etc/cairn-relay/ca.crt:ro\" -e RELAY_CA_CERT=/etc/cairn-relay/ca.crt \\"] : []),
      `  -v cairn-relay:/var/lib/cairn-relay -e RELAY_TOKEN -e RELAY_SERVER=${server} \\`,
      '  "$REGISTRY/cairn-relay:$VERSION" && rm token',
    ].join("\n");
  }
  if (way === "helm") {
    return [
      keep,
      ...known,
      "kubectl create namespace cairn",
      "kubectl -n cairn create secret generic cairn-relay --from-file=token && rm token",
      ...(authority ? ["kubectl -n cairn create configmap cairn-server --from-file=ca.crt=cairn-ca.crt"] : []),
      `helm install cairn-relay deploy/helm/cairn-relay -n cairn --set server=${server} \\`,
      ...(authority ? ["  --set serverAuthority=cairn-server \\"] : []),
      '  --set cluster.name="$CLUSTER" --set image.repository="$REGISTRY/cairn-relay"',
    ].join("\n");
  }
  const trust = authority ? " RELAY_CA_CERT=$PWD/cairn-ca.crt" : "";
  return [keep, ...known, `sudo env RELAY_SERVER=${server}${trust} RELAY_TOKEN=file:$PWD/token cairn-relay`].join("\n");
}

/** What the commands take for granted, and how the server is known. */
function About({ kind, way, own }: { kind: Kind; way: Way; own: boolean }) {
  const known = own
    ? "The server’s certificate is of this installation’s own authority, which is in the commands."
    : "Where the server’s certificate is of an authority that the machine does not know, it has to be named as well: ";
  if (kind === "agent") {
    return (
      <>
        The package <code>cairn-agent</code> has to be installed. {known}
        {!own && (
          <>
            <code>ca_file</code> in the same file.
          </>
        )}
      </>
    );
  }
  if (way === "helm") {
    return (
      <>
        Set <code>CLUSTER</code> to the cluster’s name as a destination and <code>REGISTRY</code> to where the image is. {known}
        {!own && (
          <>
            in a ConfigMap (<code>ca.crt</code>) that <code>serverAuthority</code> names.
          </>
        )}
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
      {known}
      {!own && (
        <>
          <code>RELAY_CA_CERT=ca.crt</code>.
        </>
      )}
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
        <Copyable key={way} name="Commands" text={commands(kind, way, made.token, made.authority ?? undefined)} />
        <p className="muted small">
          <About kind={kind} way={way} own={Boolean(made.authority)} />
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

// Saying what an SSH host is: a new one, or one that is changed as a whole.
import { useState } from "react";
import { api, Problem, type Schemas, take } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextArea, TextField } from "../../design/field";
import { useChange } from "../../list/change";
import { useTenant } from "../../session/me";
import { labelsOf } from "../fleet/labels";
import { RelayChoice } from "./relay";

const EXTENSIONS: [string, string][] = [
  ["permit-pty", "A terminal"],
  ["permit-port-forwarding", "Forwarding of ports and sockets"],
  ["permit-agent-forwarding", "Forwarding of agents"],
  ["permit-X11-forwarding", "Forwarding of X11"],
  ["permit-user-rc", "The account’s ~/.ssh/rc"],
];

const words = (text: string) => text.split(/[\s,]+/).filter(Boolean);

interface HostDialogProps {
  /** The one that is changed; without it a new one is made. */
  of?: Schemas["SshHost"];
  /** With the name of the new one. */
  onClose: (made?: string) => void;
}

export function HostDialog({ of, onClose }: HostDialogProps) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug]);
  const [now, setNow] = useState({
    name: of?.name ?? "",
    address: of?.address ?? "",
    host_key: of?.host_key ?? "",
    roles: of?.roles.join(", ") ?? "",
    source_networks: of?.source_networks.join(", ") ?? "",
    labels: "",
  });
  const [relay, setRelay] = useState(of?.relay ?? "");
  const [extensions, setExtensions] = useState<string[]>(of?.extensions ?? ["permit-pty"]);
  const set = (name: keyof typeof now) => (event: { target: { value: string } }) => setNow({ ...now, [name]: event.target.value });
  const toggle = (name: string) =>
    setExtensions(extensions.includes(name) ? extensions.filter((it) => it !== name) : [...extensions, name]);
  const save = async () => {
    const params = { path: { tenant: slug, destination: of?.id ?? now.name.trim() } };
    const body: Schemas["SshHostPut"] = {
      address: now.address.trim(),
      host_key: now.host_key.trim(),
      roles: words(now.roles),
      source_networks: words(now.source_networks),
      extensions,
      relay,
      ...(of ? {} : { labels: labelsOf(now.labels) as Record<string, never> }),
    };
    const done = await change(async () => {
      if (!of && (await isThere(slug, params.path.destination))) {
        throw new Problem(409, "conflict", `there is a destination \`${params.path.destination}\` already: change it on its own page`);
      }
      await take(api.PUT("/api/v1/tenants/{tenant}/destinations/{destination}/ssh-host", { params, body }));
    });
    if (done) onClose(of ? undefined : params.path.destination);
  };
  return (
    <Dialog title={of ? `Change the host ${of.name}` : "Add an SSH host"} onClose={() => onClose()} onSubmit={() => void save()}>
      {failure}
      {!of && <TextField label="Name" help="1 to 63 of a-z, 0-9 and -" required autoComplete="off" value={now.name} onChange={set("name")} />}
      <TextField label="Address" help="HOST, HOST:PORT or [IPv6]:PORT" required autoComplete="off" value={now.address} onChange={set("address")} />
      <TextArea
        label="Its public key"
        help="The line of /etc/ssh/ssh_host_ed25519_key.pub, copied from the machine and not from the network. A host that shows another key is refused."
        required
        spellCheck={false}
        value={now.host_key}
        onChange={set("host_key")}
      />
      <TextField
        label="Accounts"
        help={`Between commas: each is a role that grants name${of ? ". One that is taken away is reached by nobody any more." : ""}`}
        placeholder="deploy, root"
        required
        autoComplete="off"
        value={now.roles}
        onChange={set("roles")}
      />
      <fieldset className="stack tight">
        <legend className="small">Certificates allow at most</legend>
        {EXTENSIONS.map(([name, what]) => (
          <label key={name} className="check">
            <input type="checkbox" checked={extensions.includes(name)} onChange={() => toggle(name)} />
            {what}
          </label>
        ))}
      </fieldset>
      <TextField
        label="Networks from which they are good (optional)"
        help="Between commas; empty: everywhere"
        placeholder="10.0.0.0/8"
        autoComplete="off"
        value={now.source_networks}
        onChange={set("source_networks")}
      />
      <RelayChoice
        relay={relay}
        none="None: users reach the host themselves"
        help="Through a relay, sessions are recorded and cut as soon as a grant ends."
        onChange={setRelay}
      />
      {!of && (
        <TextField
          label="Labels (optional)"
          help="Names and values between commas, such as env=prod, team=web: grants may go by them"
          autoComplete="off"
          value={now.labels}
          onChange={set("labels")}
        />
      )}
      <div className="actions">
        <Button onClick={() => onClose()}>Cancel</Button>
        <Button kind="primary" type="submit">
          {of ? "Save" : "Add"}
        </Button>
      </div>
    </Dialog>
  );
}

/** A new host must not become what another one was. */
async function isThere(tenant: string, destination: string): Promise<boolean> {
  try {
    await take(api.GET("/api/v1/tenants/{tenant}/destinations/{destination}", { params: { path: { tenant, destination } } }));
    return true;
  } catch (error) {
    if (error instanceof Problem && error.status === 404) return false;
    throw error;
  }
}

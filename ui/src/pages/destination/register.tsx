// Saying what an SSH host is: a new one, or one that is changed as a whole.
import { type ReactNode, useState } from "react";
import { api, type Schemas, take, takeTagged } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Select, TextArea, TextField } from "../../design/field";
import { Notice } from "../../design/state";
import { useChange } from "../../list/change";
import { type Said, useOver } from "../../list/over";
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

const PATH = "/api/v1/tenants/{tenant}/destinations/{destination}/ssh-host";

export function HostDialog({ of, onClose }: HostDialogProps) {
  return of ? <ChangeHost of={of} onClose={() => onClose()} /> : <AddHost onClose={onClose} />;
}

function AddHost({ onClose }: { onClose: (made?: string) => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug]);
  const [name, setName] = useState("");
  const [labels, setLabels] = useState("");
  const add = async (body: Schemas["SshHostPut"]) => {
    const params = { path: { tenant: slug, destination: name.trim() }, header: { "If-None-Match": "*" } };
    const labelled = { ...body, labels: labelsOf(labels) as Record<string, never> };
    if (await change(() => take(api.PUT(PATH, { params, body: labelled })))) onClose(params.path.destination);
  };
  return (
    <HostForm
      title="Add an SSH host"
      action="Add"
      failure={failure}
      first={
        <TextField
          label="Name"
          help="1 to 63 of a-z, 0-9 and -"
          required
          autoComplete="off"
          value={name}
          onChange={(event) => setName(event.target.value)}
        />
      }
      last={
        <TextField
          label="Labels (optional)"
          help="Names and values between commas, such as env=prod, team=web: grants may go by them"
          autoComplete="off"
          value={labels}
          onChange={(event) => setLabels(event.target.value)}
        />
      }
      onClose={() => onClose()}
      onSave={add}
    />
  );
}

/** What it means that users reach a host themselves. */
export const DIRECT = "by users themselves: not recorded, ends with its certificate";

/** A host in words, as its page shows it. */
export function saysHost(it: Schemas["SshHost"]): Said[] {
  return [
    ["Address", it.address],
    ["Its key", it.host_key],
    ["Accounts", it.roles.join(", ")],
    ["Certificates allow", it.extensions.join(", ") || "a command without a terminal"],
    ["Good from", it.source_networks.join(", ") || "everywhere"],
    ["Reached", it.relay ? `through the relay ${it.relay_name ?? it.relay}` : DIRECT],
  ];
}

function ChangeHost({ of, onClose }: { of: Schemas["SshHost"]; onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug]);
  const path = { tenant: slug, destination: of.id };
  const { seen, over } = useOver(of, () => takeTagged(api.GET(PATH, { params: { path } })), saysHost);
  const save = async (body: Schemas["SshHostPut"]) => {
    const put = (tag: string) => take(api.PUT(PATH, { params: { path, header: { "If-Match": tag } }, body }));
    if (await change(() => over(put))) onClose();
  };
  return <HostForm title={`Change the host ${of.name}`} action="Save" failure={failure} of={seen} onClose={onClose} onSave={save} />;
}

interface HostFormProps {
  title: string;
  action: string;
  failure: ReactNode;
  /** What it is now: what is not typed here follows it. */
  of?: Schemas["SshHost"];
  first?: ReactNode;
  last?: ReactNode;
  onClose: () => void;
  onSave: (body: Schemas["SshHostPut"]) => Promise<void>;
}

interface Draft {
  address: string;
  host_key: string;
  roles: string;
  source_networks: string;
  extensions: string[];
  /** Empty: nobody said yet, which nobody may leave so. */
  way: "" | "relay" | "direct";
  relay: string;
}

function HostForm({ title, action, failure, of, first, last, onClose, onSave }: HostFormProps) {
  const [typed, setTyped] = useState<Partial<Draft>>({});
  const now: Draft = {
    address: of?.address ?? "",
    host_key: of?.host_key ?? "",
    roles: of?.roles.join(", ") ?? "",
    source_networks: of?.source_networks.join(", ") ?? "",
    extensions: of?.extensions ?? ["permit-pty"],
    way: of ? (of.relay ? "relay" : "direct") : "",
    relay: of?.relay ?? "",
    ...typed,
  };
  const put = (part: Partial<Draft>) => setTyped({ ...typed, ...part });
  const set = (name: "address" | "host_key" | "roles" | "source_networks") => (event: { target: { value: string } }) =>
    put({ [name]: event.target.value });
  const toggle = (name: string) =>
    put({ extensions: now.extensions.includes(name) ? now.extensions.filter((it) => it !== name) : [...now.extensions, name] });
  const save = () =>
    onSave({
      address: now.address.trim(),
      host_key: now.host_key.trim(),
      roles: words(now.roles),
      source_networks: words(now.source_networks),
      extensions: now.extensions,
      relay: now.way === "relay" ? now.relay : "",
    });
  return (
    <Dialog title={title} onClose={onClose} onSubmit={() => save()}>
      {failure}
      {first}
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
            <input type="checkbox" checked={now.extensions.includes(name)} onChange={() => toggle(name)} />
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
      <Select
        label="How users reach it"
        required
        value={now.way}
        onChange={(event) => put({ way: event.target.value as Draft["way"] })}
      >
        {!of && (
          <option value="" disabled>
            Choose
          </option>
        )}
        <option value="relay">Through a relay</option>
        <option value="direct">Themselves</option>
      </Select>
      {now.way === "relay" && (
        <RelayChoice relay={now.relay} help="Sessions are recorded, and cut as soon as a grant ends." onChange={(relay) => put({ relay })} />
      )}
      {now.way === "direct" && (
        <Notice kind="care">
          Nothing records what is done there, and a session that is open goes on after its grant has ended: Cairn is asked for a certificate, and is in
          nobody’s way after that.
        </Notice>
      )}
      {last}
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit" reason={now.way === "relay" && !now.relay ? "Choose the relay." : undefined}>
          {action}
        </Button>
      </div>
    </Dialog>
  );
}

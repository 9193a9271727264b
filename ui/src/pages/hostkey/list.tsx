// Host keys that jobs over SSH remember, and the authority whose certificates hosts take.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, type Schemas, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextArea, TextField } from "../../design/field";
import { Head, Panel } from "../../design/panel";
import { Copyable } from "../../design/secret";
import { Empty, Failed, Loading } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { lost } from "../../list/lost";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";

type HostKey = Schemas["List_SshHostKey"]["items"][number];
type Pinning = { target: string; relay: string; replaces?: HostKey };

export default function HostKeysPage() {
  useTitle("SSH host keys");
  const tenant = useTenant();
  const path = { tenant: tenant.slug };
  const queryKey = ["tenant", tenant.slug, "ssh-host-keys"];
  const { change, failure } = useChange(queryKey);
  const [pinning, setPinning] = useState<Pinning>();
  const [forgetting, setForgetting] = useState<HostKey>();
  const lacks = tenant.lacks("credentials:manage");
  const forget = (key: string) =>
    take(api.DELETE("/api/v1/tenants/{tenant}/ssh-host-keys/{ssh_host_key}", { params: { path: { ...path, ssh_host_key: key } } }));
  const columns: Column<HostKey>[] = [
    {
      head: "Host",
      kind: "main",
      cell: (it) => (
        <>
          {it.target}
          <div className="under mono">{it.fingerprint}</div>
        </>
      ),
    },
    { head: "Reached by", cell: (it) => it.relay ?? "the server" },
    { head: "Known by", cell: (it) => <Badge word={it.origin === "pinned" ? "pinned" : "first contact"} /> },
    { head: "Since", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
    {
      head: "",
      cell: (it) => (
        <span className="row">
          <Button
            small
            aria-label={`Replace the key of ${it.target}`}
            reason={lacks}
            onClick={() => setPinning({ target: it.target, relay: it.relay ?? "", replaces: it })}
          >
            Replace…
          </Button>
          <Button small aria-label={`Forget the key of ${it.target}`} reason={lacks} onClick={() => setForgetting(it)}>
            Forget
          </Button>
        </span>
      ),
    },
  ];
  const pin = (
    <Button kind="primary" reason={lacks} onClick={() => setPinning({ target: "", relay: "" })}>
      Trust a key
    </Button>
  );
  return (
    <>
      <Head
        title="SSH host keys"
        about="What jobs that trust at first contact know of hosts. A host that shows another key is not read until somebody replaces it here."
      >
        {pin}
      </Head>
      {failure}
      <section className="panel">
        <Listing
          name="SSH host keys"
          queryKey={queryKey}
          load={(query, signal) => take(api.GET("/api/v1/tenants/{tenant}/ssh-host-keys", { params: { path, query }, signal }))}
          columns={columns}
          rowKey={(it) => it.id}
          exported={({ id, target, relay, fingerprint, key, origin, created_at }) => ({ id, target, relay, fingerprint, key, origin, created_at })}
          empty={
            <Empty title="No host keys">
              A job over SSH with <code>host_keys=first-use</code> remembers what it meets. Trust a key that you checked before it does.
            </Empty>
          }
        />
      </section>
      <Authority />
      {pinning && <PinDialog of={pinning} onClose={() => setPinning(undefined)} />}
      {forgetting && (
        <Confirm
          title={`Forget the key of ${forgetting.target}?`}
          action="Forget"
          onClose={() => setForgetting(undefined)}
          onConfirm={() => void change(() => forget(forgetting.id))}
        >
          The next job that trusts at first contact trusts whatever answers there then.
        </Confirm>
      )}
    </>
  );
}

function PinDialog({ of, onClose }: { of: Pinning; onClose: () => void }) {
  const { slug } = useTenant();
  const path = { tenant: slug };
  const { change, failure } = useChange(["tenant", slug, "ssh-host-keys"]);
  const [target, setTarget] = useState(of.target);
  const [relay, setRelay] = useState(of.relay);
  const [key, setKey] = useState("");
  const pin = () =>
    take(
      api.POST("/api/v1/tenants/{tenant}/ssh-host-keys", {
        params: { path },
        body: { target, key, relay: relay || null, replaces: of.replaces?.id ?? null },
      }),
    );
  const save = async () => {
    if (await change(pin)) onClose();
  };
  return (
    <Dialog title={of.replaces ? `Replace the key of ${of.target}` : "Trust a host key"} onClose={onClose} onSubmit={() => save()}>
      {failure}
      {of.replaces && (
        <p>
          Only when you know why it changed: another key may also be somebody in between. So far <code>{of.replaces.fingerprint}</code>.
        </p>
      )}
      <TextField
        label="Host"
        help="HOST, HOST:PORT or [IPv6]:PORT"
        required
        readOnly={of.replaces !== undefined}
        value={target}
        onChange={(event) => setTarget(event.target.value)}
      />
      <TextField
        label="Relay that reaches it (optional)"
        help="Empty: the server itself"
        readOnly={of.replaces !== undefined}
        value={relay}
        onChange={(event) => setRelay(event.target.value)}
      />
      <TextArea
        label="Public key"
        help="The line of /etc/ssh/ssh_host_ed25519_key.pub, taken from the host by a way that you trust"
        required
        value={key}
        onChange={(event) => setKey(event.target.value)}
      />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          {of.replaces ? "Replace" : "Trust"}
        </Button>
      </div>
    </Dialog>
  );
}

/** What goes into a host's `TrustedUserCAKeys`. */
function Authority() {
  const keys = useQuery({
    queryKey: ["ssh-ca"],
    queryFn: ({ signal }) => take(api.GET("/.well-known/cairn-ssh-ca.pub", { parseAs: "text", signal })),
  });
  return (
    <Panel title="Authority of user certificates">
      <div className="stack">
        <p>
          Hosts take the certificates of these keys: put them into the file that <code>TrustedUserCAKeys</code> names. A new key stands here a week
          before it signs; <code>cairn-server keys rotate</code> makes one.
        </p>
        {keys.isPending ? (
          <Loading rows={2} />
        ) : lost(keys) ? (
          <Failed {...told(keys.error)} onRetry={() => void keys.refetch()} />
        ) : (
          <Copyable name="Keys of the authority" text={String(keys.data).trim()} />
        )}
      </div>
    </Panel>
  );
}

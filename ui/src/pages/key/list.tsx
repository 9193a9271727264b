// API keys: each is shown once, bound to this tenant and one role.
import { useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Select, TextField } from "../../design/field";
import { Head } from "../../design/panel";
import { Copyable } from "../../design/secret";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { RoleField } from "../member/role";

type Key = Schemas["ApiKey"];

export default function KeysPage() {
  useTitle("API keys");
  const tenant = useTenant();
  const path = { tenant: tenant.slug };
  const queryKey = ["tenant", tenant.slug, "keys"];
  const { change, failure } = useChange(queryKey);
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<Key>();
  const [rotating, setRotating] = useState<Key>();
  const lacks = tenant.lacks("users:manage");
  const revoke = (key: string) =>
    take(api.DELETE("/api/v1/tenants/{tenant}/api-keys/{api_key}", { params: { path: { ...path, api_key: key } } }));
  const columns: Column<Key>[] = [
    {
      head: "Name",
      kind: "main",
      cell: (it) => (
        <>
          {it.name}
          <div className="under mono">{it.id}</div>
        </>
      ),
    },
    { head: "Role", cell: (it) => it.role },
    { head: "State", cell: (it) => <Badge word={it.state} /> },
    { head: "Owner", cell: (it) => it.owner_email },
    { head: "Networks", cell: (it) => it.networks.join(", ") || "any" },
    { head: "Last used", kind: "nowrap", cell: (it) => <When at={it.last_used_at} /> },
    { head: "Until", kind: "nowrap", cell: (it) => (it.expires_at ? <When at={it.expires_at} /> : "no end") },
    {
      head: "",
      cell: (it) => (
        <span className="row">
        <Button
          small
          aria-label={`Rotate ${it.name}`}
          reason={lacks ?? (it.revoked_at ? "It is revoked already." : undefined)}
          onClick={() => setRotating(it)}
        >
          Rotate…
        </Button>
        <Button
          small
          aria-label={`Revoke ${it.name}`}
          reason={lacks ?? (it.revoked_at ? "It is revoked already." : undefined)}
          onClick={() => setRevoking(it)}
        >
          Revoke
        </Button>
        </span>
      ),
    },
  ];
  const make = (look?: "primary") => (
    <Button kind={look} reason={lacks} onClick={() => setMaking(true)}>
      Make a key
    </Button>
  );
  return (
    <>
      <Head title="API keys" about="For machines. A key does what its role may do in this tenant, and dies the moment that it is revoked.">
        {make("primary")}
      </Head>
      {failure}
      <section className="panel">
        <Listing
          name="API keys"
          queryKey={queryKey}
          load={(query, signal) => take(api.GET("/api/v1/tenants/{tenant}/api-keys", { params: { path, query }, signal }))}
          columns={columns}
          rowKey={(it) => it.id}
          exported={({ id, name, role, state, owner_email, networks, created_at, last_used_at, expires_at }) => ({
            id,
            name,
            role,
            state,
            owner_email,
            networks: networks.join(" "),
            created_at,
            last_used_at,
            expires_at,
          })}
          empty={
            <Empty
              title="No keys"
              action={make()}
            >
              A pipeline that asks for findings, say, needs one with the role read-only.
            </Empty>
          }
        />
      </section>
      {rotating && <RotateDialog of={rotating} onClose={() => setRotating(undefined)} />}
      {making && <MakeDialog onClose={() => setMaking(false)} />}
      {revoking && (
        <Confirm
          title={`Revoke ${revoking.name}?`}
          action="Revoke"
          onClose={() => setRevoking(undefined)}
          onConfirm={() => void change(() => revoke(revoking.id))}
        >
          The next request with it fails, on every server. It cannot be brought back.
        </Confirm>
      )}
    </>
  );
}

function Made({ secret, onClose }: { secret: string; onClose: () => void }) {
  return (
    <Dialog title="API key" onClose={onClose}>
      <p>
        <strong>It is shown this once.</strong> Send it as <code>Authorization: Bearer …</code>; keep it where secrets are kept.
      </p>
      <Copyable name="The key" text={secret} />
      <div className="actions">
        <Button kind="primary" onClick={onClose}>
          I have kept it
        </Button>
      </div>
    </Dialog>
  );
}

/** A new secret for the same key. */
function RotateDialog({ of, onClose }: { of: Key; onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, "keys"]);
  const [overlap, setOverlap] = useState("86400");
  const [made, setMade] = useState<string>();
  const rotate = () =>
    change(async () => {
      const params = { path: { tenant: slug, api_key: of.id } };
      const body = { overlap_s: Number(overlap) };
      setMade((await take(api.POST("/api/v1/tenants/{tenant}/api-keys/{api_key}/rotate", { params, body }))).secret);
    });
  if (made) return <Made secret={made} onClose={onClose} />;
  return (
    <Dialog title={`Rotate ${of.name}`} onClose={onClose} onSubmit={() => rotate()}>
      {failure}
      <p>The key gets a new secret, and you answer for it from now on.</p>
      <Select label="The secret so far is good for" value={overlap} onChange={(event) => setOverlap(event.target.value)}>
        <option value="0">no longer</option>
        <option value="3600">1 hour</option>
        <option value="86400">1 day</option>
        <option value="604800">7 days</option>
      </Select>
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Rotate
        </Button>
      </div>
    </Dialog>
  );
}

const DAY_MS = 86_400_000;

function MakeDialog({ onClose }: { onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, "keys"]);
  const [name, setName] = useState("");
  const [role, setRole] = useState("read-only");
  const [days, setDays] = useState("90");
  const [networks, setNetworks] = useState("");
  const [made, setMade] = useState<string>();
  const make = () =>
    change(async () => {
      const body = {
        name,
        role,
        networks: networks.split(/[\s,]+/).filter(Boolean),
        expires_at: days ? new Date(Date.now() + Number(days) * DAY_MS).toISOString() : null,
      };
      const answer = await take(api.POST("/api/v1/tenants/{tenant}/api-keys", { params: { path: { tenant: slug } }, body }));
      setMade(answer.secret);
    });
  if (made) return <Made secret={made} onClose={onClose} />;
  return (
    <Dialog title="Make an API key" onClose={onClose} onSubmit={() => make()}>
      {failure}
      <TextField label="Name" required value={name} onChange={(event) => setName(event.target.value)} />
      <RoleField role={role} byKey onChange={setRole} />
      <Select label="Good for" value={days} onChange={(event) => setDays(event.target.value)}>
        <option value="7">7 days</option>
        <option value="90">90 days</option>
        <option value="365">1 year</option>
        <option value="">No end</option>
      </Select>
      <TextField
        label="Only from these networks (optional)"
        help="Such as 192.0.2.0/24, 2001:db8::/32"
        value={networks}
        onChange={(event) => setNetworks(event.target.value)}
      />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Make the key
        </Button>
      </div>
    </Dialog>
  );
}

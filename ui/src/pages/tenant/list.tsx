// The tenants of the installation, for those who manage it.
import { useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextField } from "../../design/field";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { useMe, useRefreshMe } from "../../session/me";
import { useTitle } from "../../shell/title";

type Tenant = Schemas["Tenant"];

const QUERY_KEY = ["platform", "tenants"];

const COLUMNS: Column<Tenant>[] = [
  {
    head: "Tenant",
    kind: "main",
    cell: (it) => (
      <>
        {it.name}
        <div className="under mono">{it.slug}</div>
      </>
    ),
  },
  { head: "Id", cell: (it) => <code>{it.id}</code> },
  { head: "Since", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
];

export default function TenantsPage() {
  useTitle("Tenants");
  const refresh = useRefreshMe();
  const { change, failure } = useChange(QUERY_KEY);
  const [closing, setClosing] = useState<Tenant>();
  const [typed, setTyped] = useState("");
  const remove = async (tenant: string) => {
    await change(() => take(api.DELETE("/api/v1/tenants/{tenant}", { params: { path: { tenant } } })));
    await refresh();
  };
  const columns: Column<Tenant>[] = [
    ...COLUMNS,
    {
      head: "",
      cell: (it) => (
        <Button
          small
          aria-label={`Close ${it.slug}`}
          onClick={() => {
            setTyped("");
            setClosing(it);
          }}
        >
          Close…
        </Button>
      ),
    },
  ];
  const [making, setMaking] = useState(false);
  const make = (look?: "primary") => (
    <Button kind={look} onClick={() => setMaking(true)}>
      Make a tenant
    </Button>
  );
  return (
    <>
      <Head title="Tenants" about="Each has its own graph, findings, keys and log. Closing one keeps its log and evidence.">
        {make("primary")}
      </Head>
      {failure}
      <section className="panel">
        <Listing
          name="Tenants"
          queryKey={QUERY_KEY}
          load={(query, signal) => take(api.GET("/api/v1/tenants", { params: { query }, signal }))}
          columns={columns}
          rowKey={(it) => it.id}
          exported={({ id, slug, name, created_at }) => ({ id, slug, name, created_at })}
          empty={<Empty title="No tenants" action={make()} />}
        />
      </section>
      {closing && (
        <Dialog
          title={`Close ${closing.slug}?`}
          onClose={() => setClosing(undefined)}
          onSubmit={() => {
            if (typed !== closing.slug) return;
            setClosing(undefined);
            void remove(closing.id);
          }}
        >
          <p>Nobody enters it any more: its members, keys, agents and relays are refused at once. Its audit log and evidence stay.</p>
          <TextField label="Its short name, to be sure" required autoComplete="off" value={typed} onChange={(event) => setTyped(event.target.value)} />
          <div className="actions">
            <Button onClick={() => setClosing(undefined)}>Cancel</Button>
            <Button kind="danger" type="submit" reason={typed === closing.slug ? undefined : "Type its short name first."}>
              Close the tenant
            </Button>
          </div>
        </Dialog>
      )}
      {making && <MakeDialog onClose={() => setMaking(false)} />}
    </>
  );
}

function MakeDialog({ onClose }: { onClose: () => void }) {
  const me = useMe();
  const refresh = useRefreshMe();
  const { change, failure } = useChange(QUERY_KEY);
  const [name, setName] = useState("");
  const [slug, setSlug] = useState("");
  const [admin, setAdmin] = useState(me.email ?? "");
  const make = async () => {
    const done = await change(() => take(api.POST("/api/v1/tenants", { body: { name, slug, admin: admin || null } })));
    if (!done) return;
    await refresh();
    onClose();
  };
  return (
    <Dialog title="Make a tenant" onClose={onClose} onSubmit={() => make()}>
      {failure}
      <TextField label="Name" required value={name} onChange={(event) => setName(event.target.value)} />
      <TextField
        label="Short name"
        help="For addresses and commands: a-z, 0-9 and hyphens"
        required
        value={slug}
        onChange={(event) => setSlug(event.target.value)}
      />
      <TextField
        label="Its first administrator"
        help="A login name. That user is invited, and takes the role up at the next sign-in."
        type="email"
        value={admin}
        onChange={(event) => setAdmin(event.target.value)}
      />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Make
        </Button>
      </div>
    </Dialog>
  );
}

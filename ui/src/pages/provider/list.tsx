// Identity providers that one can sign in with.
import { useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextField } from "../../design/field";
import { Head } from "../../design/panel";
import { Copyable } from "../../design/secret";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { useTitle } from "../../shell/title";
import { ChangeDialog, DOMAINS_HELP } from "./change";

type Provider = Schemas["Provider"];

const QUERY_KEY = ["platform", "providers"];

export default function ProvidersPage() {
  useTitle("Identity providers");
  const { change, failure } = useChange(QUERY_KEY);
  const [adding, setAdding] = useState(false);
  const [removing, setRemoving] = useState<Provider>();
  const [provisioning, setProvisioning] = useState<Provider>();
  const [changing, setChanging] = useState<Provider>();
  const remove = (provider: string) => take(api.DELETE("/api/v1/providers/{provider}", { params: { path: { provider } } }));
  const columns: Column<Provider>[] = [
    {
      head: "Provider",
      kind: "main",
      cell: (it) => (
        <>
          {it.title} <span className="muted">({it.name})</span>
          <div className="under">{it.issuer}</div>
        </>
      ),
    },
    { head: "Client", cell: (it) => <code>{it.client_id}</code> },
    { head: "Register there", cell: (it) => <code>{it.redirect_uri}</code> },
    { head: "Groups from", cell: (it) => (it.groups_claim ? <code>{it.groups_claim}</code> : "nowhere") },
    { head: "SCIM", cell: (it) => (it.scim ? "on" : "off") },
    { head: "Since", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
    {
      head: "",
      cell: (it) => (
        <span className="row tight">
          <Button small aria-label={`Change ${it.title}`} onClick={() => setChanging(it)}>
            Change…
          </Button>
          <Button small aria-label={`Provisioning by ${it.title}`} onClick={() => setProvisioning(it)}>
            Provisioning…
          </Button>
          <Button small aria-label={`Remove ${it.title}`} onClick={() => setRemoving(it)}>
            Remove
          </Button>
        </span>
      ),
    },
  ];
  const add = (look?: "primary") => (
    <Button kind={look} onClick={() => setAdding(true)}>
      Add a provider
    </Button>
  );
  return (
    <>
      <Head title="Identity providers" about="OpenID Connect. What a tenant makes of a provider’s groups, its administrators decide.">
        {add("primary")}
      </Head>
      {failure}
      <section className="panel">
        <Listing
          name="Identity providers"
          queryKey={QUERY_KEY}
          load={(query, signal) => take(api.GET("/api/v1/providers", { params: { query }, signal }))}
          columns={columns}
          rowKey={(it) => it.id}
          exported={({ id, name, title, issuer, client_id, scopes, groups_claim, email_domains, redirect_uri, scim, created_at }) => ({
            id,
            name,
            title,
            issuer,
            client_id,
            scopes,
            groups_claim,
            email_domains,
            redirect_uri,
            scim: String(scim),
            created_at,
          })}
          empty={
            <Empty title="No providers" action={add()}>
              People sign in with passwords and passkeys until you add one.
            </Empty>
          }
        />
      </section>
      {changing && <ChangeDialog of={changing} queryKey={QUERY_KEY} onClose={() => setChanging(undefined)} />}
      {provisioning && <ScimDialog of={provisioning} onClose={() => setProvisioning(undefined)} />}
      {adding && <AddDialog onClose={() => setAdding(false)} />}
      {removing && (
        <Confirm
          title={`Remove ${removing.title}?`}
          action="Remove"
          onClose={() => setRemoving(undefined)}
          onConfirm={() => void change(() => remove(removing.id))}
        >
          Nobody signs in with it any more, and the sessions that it gave end.
        </Confirm>
      )}
    </>
  );
}

/** The token by which a provider provisions users and groups: made, replaced, ended. */
function ScimDialog({ of, onClose }: { of: Provider; onClose: () => void }) {
  const { change, failure } = useChange(QUERY_KEY);
  const [made, setMade] = useState<Schemas["ScimTokenCreated"]>();
  const params = { path: { provider: of.id } };
  const make = () => change(async () => setMade(await take(api.POST("/api/v1/providers/{provider}/scim-token", { params }))));
  const end = async () => {
    if (await change(() => take(api.DELETE("/api/v1/providers/{provider}/scim-token", { params })))) onClose();
  };
  if (made) {
    return (
      <Dialog title="SCIM token" onClose={onClose}>
        <p>
          <strong>It is shown this once.</strong> Enter both at {of.title}. A token before it is good no more.
        </p>
        <Copyable name="Base URL" text={made.url} />
        <Copyable name="The token" text={made.token} />
        <div className="actions">
          <Button kind="primary" onClick={onClose}>
            I have kept it
          </Button>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title={`Provisioning by ${of.title}`} onClose={onClose} onSubmit={() => make()}>
      {failure}
      <p>
        {of.scim
          ? "It may make, change and disable users and groups by SCIM 2.0. A new token replaces the one that it has; ending it keeps what was provisioned."
          : "With a token it makes, changes and disables users and groups by SCIM 2.0, also before somebody signs in."}
      </p>
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        {of.scim && (
          <Button kind="danger" onClick={() => void end()}>
            End provisioning
          </Button>
        )}
        <Button kind="primary" type="submit">
          {of.scim ? "Replace the token" : "Make a token"}
        </Button>
      </div>
    </Dialog>
  );
}

function AddDialog({ onClose }: { onClose: () => void }) {
  const { change, failure } = useChange(QUERY_KEY);
  const [of, setOf] = useState({ name: "", title: "", issuer: "https://", client_id: "", client_secret: "", scopes: "", groups_claim: "", email_domains: "" });
  const [added, setAdded] = useState<Provider>();
  const set = (name: keyof typeof of) => (event: { target: { value: string } }) => setOf({ ...of, [name]: event.target.value });
  const add = () =>
    change(async () => {
      const body = { ...of, title: of.title || null, scopes: of.scopes.trim() || null, groups_claim: of.groups_claim.trim() || null };
      setAdded(await take(api.POST("/api/v1/providers", { body })));
    });
  if (added) {
    return (
      <Dialog title="Register this at the provider" onClose={onClose}>
        <p>It sends people back to this address, and to no other:</p>
        <Copyable name="Address" text={added.redirect_uri} />
        <div className="actions">
          <Button kind="primary" onClick={onClose}>
            Done
          </Button>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title="Add a provider" onClose={onClose} onSubmit={() => add()}>
      {failure}
      <TextField label="Short name" help="For addresses: a-z, 0-9 and hyphens" required value={of.name} onChange={set("name")} />
      <TextField label="Title" help="What the sign-in page calls it" value={of.title} onChange={set("title")} />
      <TextField label="Issuer" type="url" required value={of.issuer} onChange={set("issuer")} />
      <TextField label="Client id" required autoComplete="off" value={of.client_id} onChange={set("client_id")} />
      <TextField
        label="Client secret"
        type="password"
        required
        autoComplete="new-password"
        value={of.client_secret}
        onChange={set("client_secret")}
      />
      <TextField
        label="Scopes (optional)"
        help="Some providers tell groups only for a scope of theirs"
        placeholder="openid email profile offline_access"
        value={of.scopes}
        onChange={set("scopes")}
      />
      <TextField
        label="Claim that lists groups (optional)"
        help="Empty: groups; which of them give roles, a tenant decides"
        placeholder="groups"
        value={of.groups_claim}
        onChange={set("groups_claim")}
      />
      <TextField
        label="Domains of addresses (optional)"
        help={DOMAINS_HELP}
        placeholder="corp.example"
        value={of.email_domains}
        onChange={set("email_domains")}
      />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Add
        </Button>
      </div>
    </Dialog>
  );
}

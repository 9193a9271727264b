// Changing an identity provider. Its client secret goes in, and is never shown: neither the old one nor the new one.
import { useState } from "react";
import { api, type Schemas, take, takeTagged } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextField } from "../../design/field";
import { useChange } from "../../list/change";
import { useOver } from "../../list/over";

type Provider = Schemas["Provider"];

export const DOMAINS_HELP =
  "Where the provider does not say whether an address is verified (Entra ID), it is taken at its word at these domains. Name only those whose addresses people there cannot give themselves.";

export function ChangeDialog({ of, queryKey, onClose }: { of: Provider; queryKey: unknown[]; onClose: () => void }) {
  const { change, failure } = useChange(queryKey);
  const path = { provider: of.id };
  const { seen, over } = useOver(
    of,
    () => takeTagged(api.GET("/api/v1/providers/{provider}", { params: { path } })),
    (it) => [
      ["Title", it.title],
      ["Client id", it.client_id],
      ["Scopes", it.scopes],
      ["Claim that lists groups", it.groups_claim],
      ["Domains of addresses", it.email_domains],
    ],
  );
  const { title, client_id, scopes, groups_claim, email_domains } = seen;
  const before = { title, client_id, scopes, groups_claim, email_domains };
  // What is not typed here follows what it is by now.
  const [typed, setTyped] = useState<Partial<typeof before>>({});
  const now = { ...before, ...typed };
  const [secret, setSecret] = useState("");
  const set = (name: keyof typeof now) => (event: { target: { value: string } }) => setTyped({ ...typed, [name]: event.target.value });
  const changed: Schemas["ProviderUpdate"] = Object.fromEntries(
    Object.entries(now)
      .map(([name, value]) => [name, value.trim()] as const)
      .filter(([name, value]) => value !== before[name as keyof typeof before]),
  );
  if (secret) changed.client_secret = secret;
  const nothing = Object.keys(changed).length === 0;
  const save = async () => {
    if (nothing) return;
    const put = (tag: string) =>
      take(api.PATCH("/api/v1/providers/{provider}", { params: { path, header: { "If-Match": tag } }, body: changed }));
    if (await change(() => over(put))) onClose();
  };
  return (
    <Dialog title={`Change ${of.title}`} onClose={onClose} onSubmit={() => save()}>
      {failure}
      <p className="muted small">
        Its short name <code>{of.name}</code> and its issuer <code>{of.issuer}</code> stay: identities belong to them. Another issuer is another
        provider.
      </p>
      <TextField label="Title" help="What the sign-in page calls it" required value={now.title} onChange={set("title")} />
      <TextField label="Client id" required autoComplete="off" value={now.client_id} onChange={set("client_id")} />
      <TextField
        label="New client secret"
        help="Empty: the one that it has stays. Nobody is shown either."
        type="password"
        autoComplete="new-password"
        value={secret}
        onChange={(event) => setSecret(event.target.value)}
      />
      <TextField
        label="Scopes"
        help="Between spaces, openid among them. Some providers tell groups only for a scope of theirs."
        required
        value={now.scopes}
        onChange={set("scopes")}
      />
      <TextField
        label="Claim that lists groups"
        help="Empty: no groups are taken from its tokens, and roles that they gave end when their holders sign in the next time"
        value={now.groups_claim}
        onChange={set("groups_claim")}
      />
      <TextField
        label="Domains of addresses"
        help={DOMAINS_HELP}
        placeholder="corp.example"
        value={now.email_domains}
        onChange={set("email_domains")}
      />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit" reason={nothing ? "Nothing is changed yet." : undefined}>
          Save
        </Button>
      </div>
    </Dialog>
  );
}

// Changing an identity provider. Its client secret goes in, and is never shown: neither the old one nor the new one.
import { useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextField } from "../../design/field";
import { useChange } from "../../list/change";

type Provider = Schemas["Provider"];

export function ChangeDialog({ of, queryKey, onClose }: { of: Provider; queryKey: unknown[]; onClose: () => void }) {
  const { change, failure } = useChange(queryKey);
  const before = { title: of.title, client_id: of.client_id, scopes: of.scopes, groups_claim: of.groups_claim };
  const [now, setNow] = useState(before);
  const [secret, setSecret] = useState("");
  const set = (name: keyof typeof now) => (event: { target: { value: string } }) => setNow({ ...now, [name]: event.target.value });
  // Only what was changed here goes to the server: what somebody else changes meanwhile stays theirs.
  const changed: Schemas["ProviderUpdate"] = Object.fromEntries(
    Object.entries(now)
      .map(([name, value]) => [name, value.trim()] as const)
      .filter(([name, value]) => value !== before[name as keyof typeof before]),
  );
  if (secret) changed.client_secret = secret;
  const nothing = Object.keys(changed).length === 0;
  const save = async () => {
    if (nothing) return;
    const params = { path: { provider: of.id } };
    if (await change(() => take(api.PATCH("/api/v1/providers/{provider}", { params, body: changed })))) onClose();
  };
  return (
    <Dialog title={`Change ${of.title}`} onClose={onClose} onSubmit={() => void save()}>
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
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit" reason={nothing ? "Nothing is changed yet." : undefined}>
          Save
        </Button>
      </div>
    </Dialog>
  );
}

// Who belongs to the tenant, as what, and who is invited.
import { useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextField } from "../../design/field";
import { Head, Panel } from "../../design/panel";
import { Empty, Notice } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { useMe, useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { RoleField } from "./role";
import { ReachDialog } from "./reach";

type Member = Schemas["Member"];

export default function MembersPage() {
  useTitle("Members");
  const me = useMe();
  const tenant = useTenant();
  const path = { tenant: tenant.slug };
  const queryKey = ["tenant", tenant.slug, "members"];
  const { change, failure } = useChange(queryKey);
  const [placing, setPlacing] = useState<{ email: string; role: string }>();
  const [removing, setRemoving] = useState<Member>();
  const [shown, setShown] = useState<Member>();
  const lacks = tenant.lacks("users:manage");
  const remove = (user: string) => take(api.DELETE("/api/v1/tenants/{tenant}/members/{user}", { params: { path: { ...path, user } } }));
  const withdraw = (invitation: string) =>
    take(api.DELETE("/api/v1/tenants/{tenant}/invitations/{invitation}", { params: { path: { ...path, invitation } } }));
  const columns: Column<Member>[] = [
    {
      head: "Member",
      kind: "main",
      cell: (it) => (
        <>
          {it.email}
          <div className="under">{it.name}</div>
        </>
      ),
    },
    { head: "Role", cell: (it) => it.role },
    { head: "State", cell: (it) => <Badge word={it.disabled ? "disabled" : "active"} /> },
    { head: "Since", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
    {
      head: "",
      cell: (it) => (
        <span className="row">
          <Button small aria-label={`What ${it.email} reaches`} reason={tenant.lacks("access:manage")} onClick={() => setShown(it)}>
            Reaches…
          </Button>
          <Button small aria-label={`Change the role of ${it.email}`} reason={lacks} onClick={() => setPlacing({ email: it.email, role: it.role })}>
            Role…
          </Button>
          <Button
            small
            aria-label={`Remove ${it.email}`}
            reason={lacks ?? (it.user === me.id ? "Somebody else has to remove you." : undefined)}
            onClick={() => setRemoving(it)}
          >
            Remove
          </Button>
        </span>
      ),
    },
  ];
  const invite = (look?: "primary") => (
    <Button kind={look} reason={lacks} onClick={() => setPlacing({ email: "", role: "read-only" })}>
      Invite somebody
    </Button>
  );
  return (
    <>
      <Head title="Members" about="A role holds in this tenant only. Whoever loses it loses it at the next request.">
        {invite("primary")}
      </Head>
      {failure}
      <section className="panel">
        <Listing
          name="Members"
          queryKey={queryKey}
          load={(query, signal) => take(api.GET("/api/v1/tenants/{tenant}/members", { params: { path, query }, signal }))}
          columns={columns}
          rowKey={(it) => it.user}
          exported={({ user, email, name, role, disabled, created_at }) => ({ user, email, name, role, disabled: String(disabled), created_at })}
          empty={<Empty title="Nobody" action={invite()} />}
        />
      </section>
      <Panel title="Invitations" flush>
        <Listing
          name="Invitations"
          pageIn="invitations"
          queryKey={[...queryKey, "invitations"]}
          load={(query, signal) => take(api.GET("/api/v1/tenants/{tenant}/invitations", { params: { path, query }, signal }))}
          rowKey={(it) => it.id}
          exported={({ id, email, role, created_at, expires_at }) => ({ id, email, role, created_at, expires_at })}
          columns={[
            { head: "For", kind: "main", cell: (it) => it.email },
            { head: "Role", cell: (it) => it.role },
            { head: "Until", kind: "nowrap", cell: (it) => <When at={it.expires_at} /> },
            {
              head: "",
              cell: (it) => (
                <Button small aria-label={`Withdraw the invitation of ${it.email}`} reason={lacks} onClick={() => void change(() => withdraw(it.id))}>
                  Withdraw
                </Button>
              ),
            },
          ]}
          empty={
            <Empty title="Nobody is invited" action={invite()}>
              Whoever signs in with an invited login name takes the role up.
            </Empty>
          }
        />
      </Panel>
      {placing && <PlaceDialog {...placing} onClose={() => setPlacing(undefined)} />}
      {shown && <ReachDialog user={shown.user} email={shown.email} onClose={() => setShown(undefined)} />}
      {removing && (
        <Confirm
          title={`Remove ${removing.email}?`}
          action="Remove"
          onClose={() => setRemoving(undefined)}
          onConfirm={() => void change(() => remove(removing.user))}
        >
          Their next request to this tenant is refused, and their access to its destinations ends.
        </Confirm>
      )}
    </>
  );
}

function PlaceDialog({ email, role, onClose }: { email: string; role: string; onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, "members"]);
  const [who, setWho] = useState(email);
  const [what, setWhat] = useState(role);
  const [placed, setPlaced] = useState<Schemas["MemberPlaced"]>();
  const place = () =>
    change(async () => {
      const body = { email: who, role: what };
      setPlaced(await take(api.PUT("/api/v1/tenants/{tenant}/members", { params: { path: { tenant: slug } }, body })));
    });
  return (
    <Dialog title={email ? `Role of ${email}` : "Invite somebody"} onClose={onClose} onSubmit={() => place()}>
      {failure}
      {placed && (
        <Notice kind="good">
          {placed.state === "invited"
            ? `${placed.email} is invited: the role ${placed.role} waits until they sign in.`
            : `${placed.email} is ${placed.role} now.`}
        </Notice>
      )}
      <TextField label="Login name" type="email" required readOnly={email !== ""} value={who} onChange={(event) => setWho(event.target.value)} />
      <RoleField role={what} onChange={setWhat} />
      <div className="actions">
        <Button onClick={onClose}>{placed ? "Close" : "Cancel"}</Button>
        <Button kind="primary" type="submit">
          {email ? "Change" : "Invite"}
        </Button>
      </div>
    </Dialog>
  );
}

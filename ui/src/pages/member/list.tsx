// Who belongs to the tenant, as what, and who is invited.
import { useState } from "react";
import { api, type Schemas, take, takeTagged } from "../../api/client";
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
import { useOver } from "../../list/over";
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
  const [inviting, setInviting] = useState(false);
  const [placing, setPlacing] = useState<Member>();
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
          <Button small aria-label={`Change the role of ${it.email}`} reason={lacks} onClick={() => setPlacing(it)}>
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
    <Button kind={look} reason={lacks} onClick={() => setInviting(true)}>
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
      {inviting && <InviteDialog onClose={() => setInviting(false)} />}
      {placing && <RoleDialog of={placing} onClose={() => setPlacing(undefined)} />}
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

const PATH = "/api/v1/tenants/{tenant}/members";

/** Who is a member or invited keeps their role: it is changed in the lists. */
function InviteDialog({ onClose }: { onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, "members"]);
  const [email, setEmail] = useState("");
  const [role, setRole] = useState("read-only");
  const [placed, setPlaced] = useState<Schemas["MemberPlaced"]>();
  const params = { path: { tenant: slug }, header: { "If-None-Match": "*" } };
  const invite = () => {
    setPlaced(undefined);
    return change(async () => setPlaced(await take(api.PUT(PATH, { params, body: { email, role } }))));
  };
  return (
    <Dialog title="Invite somebody" onClose={onClose} onSubmit={() => invite()}>
      {failure}
      {placed && <Notice kind="good">{`${placed.email} is invited: the role ${placed.role} waits until they sign in.`}</Notice>}
      <TextField label="Login name" type="email" required value={email} onChange={(event) => setEmail(event.target.value)} />
      <RoleField role={role} onChange={setRole} />
      <div className="actions">
        <Button onClick={onClose}>{placed ? "Close" : "Cancel"}</Button>
        <Button kind="primary" type="submit">
          Invite
        </Button>
      </div>
    </Dialog>
  );
}

function RoleDialog({ of, onClose }: { of: Member; onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, "members"]);
  const path = { tenant: slug, user: of.user };
  const { seen, over } = useOver(
    of,
    () => takeTagged(api.GET("/api/v1/tenants/{tenant}/members/{user}", { params: { path } })),
    (it) => [["Role", it.role]],
  );
  const [role, setRole] = useState<string>();
  const now = role ?? seen.role;
  const save = async () => {
    const put = (tag: string) => {
      const params = { path: { tenant: slug }, header: { "If-Match": tag } };
      return take(api.PUT(PATH, { params, body: { email: of.email, role: now } }));
    };
    if (await change(() => over(put))) onClose();
  };
  return (
    <Dialog title={`Role of ${of.email}`} onClose={onClose} onSubmit={() => save()}>
      {failure}
      <RoleField role={now} onChange={setRole} />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Change
        </Button>
      </div>
    </Dialog>
  );
}

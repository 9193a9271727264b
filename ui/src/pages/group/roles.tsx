// Which role in the tenant a group of an identity provider gives.
import { useState } from "react";
import { Link } from "react-router";
import { api, type Schemas, take, takeTagged } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextField } from "../../design/field";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { useOver } from "../../list/over";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { Who } from "../../session/who";
import { useTitle } from "../../shell/title";
import { RoleField } from "../member/role";
import { ProviderField } from "./provider";

type GroupRole = Schemas["GroupRole"];

const NAME = "Roles of providers’ groups";

export default function GroupRolesPage() {
  useTitle(NAME);
  const tenant = useTenant();
  const path = { tenant: tenant.slug };
  const queryKey = ["tenant", tenant.slug, "group-roles"];
  // Members have these roles.
  const { change, failure } = useChange(["tenant", tenant.slug]);
  const [giving, setGiving] = useState(false);
  const [changing, setChanging] = useState<GroupRole>();
  const [taking, setTaking] = useState<GroupRole>();
  const lacks = tenant.lacks("users:manage");
  const remove = (group_role: string) =>
    take(api.DELETE("/api/v1/tenants/{tenant}/group-roles/{group_role}", { params: { path: { ...path, group_role } } }));
  const columns: Column<GroupRole>[] = [
    { head: "Group", kind: "main", cell: (it) => it.group },
    { head: "Provider", cell: (it) => it.provider },
    { head: "Role", cell: (it) => it.role },
    { head: "Made by", cell: (it) => <Who id={it.created_by} /> },
    { head: "Since", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
    {
      head: "",
      cell: (it) => (
        <span className="row">
          <Button small aria-label={`Change the role of ${it.group} of ${it.provider}`} reason={lacks} onClick={() => setChanging(it)}>
            Role…
          </Button>
          <Button small aria-label={`Take ${it.role} from ${it.group} of ${it.provider}`} reason={lacks} onClick={() => setTaking(it)}>
            Take away
          </Button>
        </span>
      ),
    },
  ];
  const give = (look?: "primary") => (
    <Button kind={look} reason={lacks} onClick={() => setGiving(true)}>
      Give a role
    </Button>
  );
  return (
    <>
      {tenant.can("access:manage") && (
        <nav className="crumbs" aria-label="Where you are">
          <Link to={to.groups(tenant.slug)}>Groups</Link> <span aria-hidden="true">/</span> <span>{NAME}</span>
        </nav>
      )}
      <Head title={NAME} about="Whoever is in such a group has its role in this tenant from their next sign-in or check.">
        {give("primary")}
      </Head>
      {failure}
      <section className="panel">
        <Listing
          name={NAME}
          queryKey={queryKey}
          load={(query, signal) => take(api.GET("/api/v1/tenants/{tenant}/group-roles", { params: { path, query }, signal }))}
          columns={columns}
          rowKey={(it) => it.id}
          exported={({ id, provider, group, role, created_at, created_by }) => ({ id, provider, group, role, created_at, created_by })}
          empty={
            <Empty
              title="No roles"
              action={give()}
            >
              Let a group of an identity provider give one.
            </Empty>
          }
        />
      </section>
      {giving && <GiveDialog onClose={() => setGiving(false)} />}
      {changing && <RoleDialog of={changing} onClose={() => setChanging(undefined)} />}
      {taking && (
        <Confirm
          title="Take this role away?"
          action="Take away"
          onClose={() => setTaking(undefined)}
          onConfirm={() => void change(() => remove(taking.id))}
        >
          Whoever is {taking.role} only by {taking.group} of {taking.provider} loses it at once.
        </Confirm>
      )}
    </>
  );
}

const PATH = "/api/v1/tenants/{tenant}/group-roles";

/** A group that gives a role keeps it: it is changed in the list. */
function GiveDialog({ onClose }: { onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, "group-roles"]);
  const [of, setOf] = useState({ provider: "", group: "", role: "read-only" });
  const set = (name: keyof typeof of) => (event: { target: { value: string } }) => setOf({ ...of, [name]: event.target.value });
  const params = { path: { tenant: slug }, header: { "If-None-Match": "*" } };
  const give = async () => {
    if (await change(() => take(api.PUT(PATH, { params, body: of })))) onClose();
  };
  return (
    <Dialog title="Give a role" onClose={onClose} onSubmit={() => give()}>
      {failure}
      <ProviderField value={of.provider} onChange={set("provider")} />
      <TextField label="Group there" required help="Exactly as the provider spells it" value={of.group} onChange={set("group")} />
      <RoleField role={of.role} onChange={(role) => setOf({ ...of, role })} />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Give
        </Button>
      </div>
    </Dialog>
  );
}

function RoleDialog({ of, onClose }: { of: GroupRole; onClose: () => void }) {
  const { slug } = useTenant();
  // Members have this role.
  const { change, failure } = useChange(["tenant", slug]);
  const path = { tenant: slug, group_role: of.id };
  const { seen, over } = useOver(
    of,
    () => takeTagged(api.GET("/api/v1/tenants/{tenant}/group-roles/{group_role}", { params: { path } })),
    (it) => [["Role", it.role]],
  );
  const [role, setRole] = useState<string>();
  const now = role ?? seen.role;
  const save = async () => {
    const put = (tag: string) => {
      const params = { path: { tenant: slug }, header: { "If-Match": tag } };
      return take(api.PUT(PATH, { params, body: { provider: of.provider, group: of.group, role: now } }));
    };
    if (await change(() => over(put))) onClose();
  };
  return (
    <Dialog title={`Role of ${of.group} of ${of.provider}`} onClose={onClose} onSubmit={() => save()}>
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

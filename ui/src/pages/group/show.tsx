// One group: who is in it now, and putting somebody in or taking them out.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useNavigate, useParams } from "react-router";
import { api, type Schemas, take, told } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { TextField } from "../../design/field";
import { Head, Panel } from "../../design/panel";
import { Empty, Failed, Loading, Notice } from "../../design/state";
import { Table } from "../../design/table";
import { Confirm, useChange } from "../../list/change";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { Who } from "../../session/who";
import { useTitle } from "../../shell/title";
import { fedBy } from "./list";

type Group = Schemas["GroupDetail"];
type Member = Schemas["GroupMember"];

export default function GroupPage() {
  const { group: id = "" } = useParams();
  const { slug } = useTenant();
  const query = useQuery({
    queryKey: ["tenant", slug, "group", id],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/groups/{group}", { params: { path: { tenant: slug, group: id } }, signal })),
  });
  useTitle(query.data?.name ?? "Group");
  if (query.isPending) return <Loading rows={8} />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  return <Shown group={query.data} />;
}

function Shown({ group }: { group: Group }) {
  const tenant = useTenant();
  const navigate = useNavigate();
  const path = { tenant: tenant.slug, group: group.id };
  const members = useChange(["tenant", tenant.slug, "group"]);
  const groups = useChange(["tenant", tenant.slug]);
  const [adding, setAdding] = useState(false);
  const [removing, setRemoving] = useState<Member>();
  const [deleting, setDeleting] = useState(false);
  const lacks = tenant.lacks("access:manage");
  const fed = group.provider_group ? "Its members are those of a provider’s group: change them there." : undefined;
  const remove = (user: string) =>
    take(api.DELETE("/api/v1/tenants/{tenant}/groups/{group}/members/{user}", { params: { path: { ...path, user } } }));
  const forget = async () => {
    const done = await groups.change(() => take(api.DELETE("/api/v1/tenants/{tenant}/groups/{group}", { params: { path } })));
    if (done) void navigate(to.groups(tenant.slug));
  };
  return (
    <>
      <nav className="crumbs" aria-label="Where you are">
        <Link to={to.groups(tenant.slug)}>Groups</Link> <span aria-hidden="true">/</span> <span>{group.name}</span>
      </nav>
      <Head title={group.name} about={
          <>
            {group.provider_group ? `Fed by ${fedBy(group)}` : "Members kept here"}, made by <Who id={group.created_by} />
          </>
        }>
        <Button reason={lacks} onClick={() => setDeleting(true)}>
          Delete the group
        </Button>
        <Button kind="primary" reason={lacks ?? fed} onClick={() => setAdding(true)}>
          Add somebody
        </Button>
      </Head>
      {members.failure}
      {groups.failure}
      {fed && <Notice>{fed}</Notice>}
      <Panel title="Who is in it now" flush>
        {group.members.length === 0 ? (
          <Empty title="Nobody">{fed ? "Whoever is in the provider’s group is here after their next sign-in or check." : "Add a member of the tenant."}</Empty>
        ) : (
          <Table
            name="Members"
            rows={group.members}
            rowKey={(it) => it.user}
            columns={[
              { head: "Member", kind: "main", cell: (it) => it.email },
              {
                head: "",
                cell: (it) => (
                  <Button small aria-label={`Remove ${it.email}`} reason={lacks ?? fed} onClick={() => setRemoving(it)}>
                    Remove
                  </Button>
                ),
              },
            ]}
          />
        )}
      </Panel>
      {adding && <AddDialog group={group} onClose={() => setAdding(false)} />}
      {removing && (
        <Confirm
          title={`Remove ${removing.email}?`}
          action="Remove"
          onClose={() => setRemoving(undefined)}
          onConfirm={() => void members.change(() => remove(removing.user))}
        >
          What they reach by {group.name} alone ends, and open connections end within seconds.
        </Confirm>
      )}
      {deleting && (
        <Confirm title={`Delete ${group.name}?`} action="Delete" onClose={() => setDeleting(false)} onConfirm={() => void forget()}>
          The grants to it go with it: what its members reach by them alone ends, and open connections end within seconds.
        </Confirm>
      )}
    </>
  );
}

function AddDialog({ group, onClose }: { group: Group; onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, "group"]);
  const [user, setUser] = useState("");
  const add = async () => {
    const path = { tenant: slug, group: group.id, user: user.trim() };
    if (await change(() => take(api.PUT("/api/v1/tenants/{tenant}/groups/{group}/members/{user}", { params: { path } })))) onClose();
  };
  return (
    <Dialog title={`Add somebody to ${group.name}`} onClose={onClose} onSubmit={() => add()}>
      {failure}
      <p>They reach at once what is granted to the group.</p>
      <TextField label="Login name" required help="Of a member of the tenant" value={user} onChange={(event) => setUser(event.target.value)} />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Add
        </Button>
      </div>
    </Dialog>
  );
}

// Groups of the tenant, to which access is granted: with members of their own, or fed by a group of an identity provider.
import { useState } from "react";
import { Link } from "react-router";
import { api, type Schemas, take } from "../../api/client";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Select, TextField } from "../../design/field";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { Listing } from "../../list/keyset";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { Who } from "../../session/who";
import { useTitle } from "../../shell/title";
import { ProviderField } from "./provider";

type Group = Schemas["Group"];

/** Whose members are in a group. */
export function fedBy({ provider, provider_group: group }: Group): string {
  if (!group) return "members kept here";
  return provider ? `${group} of ${provider}` : `${group} of a provider that is gone`;
}

export default function GroupsPage() {
  useTitle("Groups");
  const tenant = useTenant();
  const path = { tenant: tenant.slug };
  const queryKey = ["tenant", tenant.slug, "groups"];
  // Grants to a group go with it.
  const { change, failure } = useChange(["tenant", tenant.slug]);
  const [making, setMaking] = useState(false);
  const [deleting, setDeleting] = useState<Group>();
  const lacks = tenant.lacks("access:manage");
  const remove = (group: string) => take(api.DELETE("/api/v1/tenants/{tenant}/groups/{group}", { params: { path: { ...path, group } } }));
  const columns: Column<Group>[] = [
    { head: "Group", kind: "main", cell: (it) => <Link to={to.group(tenant.slug, it.id)}>{it.name}</Link> },
    { head: "Members", cell: fedBy },
    { head: "Made by", cell: (it) => <Who id={it.created_by} /> },
    { head: "Since", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
    {
      head: "",
      cell: (it) => (
        <Button small aria-label={`Delete ${it.name}`} reason={lacks} onClick={() => setDeleting(it)}>
          Delete
        </Button>
      ),
    },
  ];
  const make = (look?: "primary") => (
    <Button kind={look} reason={lacks} onClick={() => setMaking(true)}>
      Make a group
    </Button>
  );
  return (
    <>
      <Head title="Groups" about="A group gives its members what is granted to it, and nothing else.">
        {tenant.can("users:manage") && (
          <Link className="button" to={to.groupRoles(tenant.slug)}>
            Roles of providers’ groups
          </Link>
        )}
        {make("primary")}
      </Head>
      {failure}
      <section className="panel">
        <Listing
          name="Groups"
          queryKey={queryKey}
          load={(query, signal) => take(api.GET("/api/v1/tenants/{tenant}/groups", { params: { path, query }, signal }))}
          columns={columns}
          rowKey={(it) => it.id}
          exported={({ id, name, provider, provider_group, created_at, created_by }) => ({
            id,
            name,
            provider,
            provider_group,
            created_at,
            created_by,
          })}
          empty={
            <Empty
              title="No groups"
              action={make()}
            >
              Make one, and grant it what all its members reach.
            </Empty>
          }
        />
      </section>
      {making && <MakeDialog onClose={() => setMaking(false)} />}
      {deleting && (
        <Confirm
          title={`Delete ${deleting.name}?`}
          action="Delete"
          onClose={() => setDeleting(undefined)}
          onConfirm={() => void change(() => remove(deleting.id))}
        >
          The grants to it go with it: what its members reach by them alone ends, and open connections end within seconds.
        </Confirm>
      )}
    </>
  );
}

function MakeDialog({ onClose }: { onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, "groups"]);
  const [of, setOf] = useState({ name: "", from: "here", provider: "", group: "" });
  const set = (name: keyof typeof of) => (event: { target: { value: string } }) => setOf({ ...of, [name]: event.target.value });
  const fed = of.from === "provider";
  const make = async () => {
    const body = { name: of.name, ...(fed ? { provider: of.provider, provider_group: of.group } : {}) };
    const done = await change(() => take(api.POST("/api/v1/tenants/{tenant}/groups", { params: { path: { tenant: slug } }, body })));
    if (done) onClose();
  };
  return (
    <Dialog title="Make a group" onClose={onClose} onSubmit={() => make()}>
      {failure}
      <TextField label="Name" required help="Lower-case letters, digits and -, at most 63" value={of.name} onChange={set("name")} />
      <Select label="Its members" value={of.from} onChange={set("from")}>
        <option value="here">are kept here</option>
        <option value="provider">are those of an identity provider’s group</option>
      </Select>
      {fed && <ProviderField value={of.provider} onChange={set("provider")} />}
      {fed && (
        <TextField label="Group there" required help="Exactly as the provider spells it" value={of.group} onChange={set("group")} />
      )}
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Make
        </Button>
      </div>
    </Dialog>
  );
}

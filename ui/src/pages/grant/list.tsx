// Who may reach what: grants, and giving one.
import { useState } from "react";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Select, TextField } from "../../design/field";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { Listing, useFilter } from "../../list/keyset";
import { SearchField } from "../../list/search";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { placeOf, termsOf } from "./eligible";

type Grant = Schemas["Grant"];

// What somebody typed as a list.
const listed = (text: string) => text.split(/[\s,]+/).filter(Boolean);
/** For how long a grant was not used that perhaps nobody needs. */
const UNUSED_DAYS = ["30", "90", "180"];
const daysAgo = (days: number) => new Date(Date.now() - days * 86_400_000).toISOString();

export default function GrantsPage() {
  useTitle("Grants");
  const tenant = useTenant();
  const path = { tenant: tenant.slug };
  const queryKey = ["tenant", tenant.slug, "grants"];
  const { change, failure } = useChange(queryKey);
  const lacks = tenant.lacks("access:manage");
  const [giving, setGiving] = useState(false);
  const [taking, setTaking] = useState<Grant>();
  const [user, setUser] = useFilter("user");
  const [destination, setDestination] = useFilter("destination");
  const [unused, setUnused] = useFilter("unused");
  const since = UNUSED_DAYS.includes(unused) ? unused : "";
  const filters = Object.fromEntries(Object.entries({ user, destination }).filter(([, value]) => value));
  const remove = (grant: string) => take(api.DELETE("/api/v1/tenants/{tenant}/grants/{grant}", { params: { path: { ...path, grant } } }));
  const columns: Column<Grant>[] = [
    {
      head: "Who",
      kind: "main",
      cell: (it) => (
        <>
          {it.user ?? `group ${it.group ?? ""}`}
          {it.reason && <div className="under">{it.reason}</div>}
        </>
      ),
    },
    {
      head: "Reaches",
      cell: (it) => (
        <>
          {placeOf(it)}
          {termsOf(it).map((line) => (
            <div className="under" key={String(line)}>
              {line}
            </div>
          ))}
        </>
      ),
    },
    { head: "As", cell: (it) => it.role },
    { head: "In", cell: (it) => it.namespace ?? "all namespaces" },
    { head: "Hours", cell: (it) => it.hours ?? "any" },
    { head: "Until", kind: "nowrap", cell: (it) => (it.expires_at ? <When at={it.expires_at} /> : "taken away") },
    { head: "Last used", kind: "nowrap", cell: (it) => <When at={it.last_used_at} /> },
    {
      head: "Origin",
      cell: (it) => (
        <>
          <Badge word={it.origin} />
          {it.approval && <div className="under">may only ask: each time somebody approves it</div>}
          {it.rests_on && <div className="under">approved under an eligible grant</div>}
        </>
      ),
    },
    {
      head: "",
      cell: (it) => (
        <Button small aria-label={`Take away from ${it.user ?? it.group ?? ""}`} reason={lacks} onClick={() => setTaking(it)}>
          Take away
        </Button>
      ),
    },
  ];
  const give = (look?: "primary") => (
    <Button kind={look} reason={lacks} onClick={() => setGiving(true)}>
      Give a grant
    </Button>
  );
  return (
    <>
      <Head title="Grants" about="Who may reach which destination, as what. Without a grant nobody reaches anything.">
        {give("primary")}
      </Head>
      {failure}
      <div className="filters">
        <SearchField among label="Member" text={user} onSearch={setUser} />
        <SearchField among label="Destination" text={destination} onSearch={setDestination} />
        <Select label="Not used for" value={since} onChange={(event) => setUnused(event.target.value)}>
          <option value="">any</option>
          {UNUSED_DAYS.map((days) => (
            <option key={days} value={days}>
              {days} days
            </option>
          ))}
        </Select>
      </div>
      <section className="panel">
        <Listing
          name="Grants"
          queryKey={[...queryKey, filters, since]}
          load={(page, signal) => {
            const query = { ...filters, ...(since ? { unused_since: daysAgo(Number(since)) } : {}), ...page };
            return take(api.GET("/api/v1/tenants/{tenant}/grants", { params: { path, query }, signal }));
          }}
          columns={columns}
          rowKey={(it) => it.id}
          exported={(it) => ({
            id: it.id,
            user: it.user,
            group: it.group,
            reaches: placeOf(it),
            role: it.role,
            namespace: it.namespace,
            networks: it.networks?.join(" "),
            extensions: it.extensions?.join(" "),
            force_command: it.force_command,
            hours: it.hours,
            expires_at: it.expires_at,
            last_used_at: it.last_used_at,
            origin: it.origin,
            approval: it.approval ? "yes" : "",
            rests_on: it.rests_on,
            created_by: it.created_by,
          })}
          empty={
            since || Object.keys(filters).length > 0 ? (
              <Empty title="No grants like that">Choose another member, destination or time.</Empty>
            ) : (
              <Empty title="No grants" action={give()}>
                Give one to a member or a group, or let people ask for access.
              </Empty>
            )
          }
        />
      </section>
      {giving && <GiveDialog onClose={() => setGiving(false)} />}
      {taking && (
        <Confirm
          title="Take this grant away?"
          action="Take away"
          onClose={() => setTaking(undefined)}
          onConfirm={() => void change(() => remove(taking.id))}
        >
          {taking.approval
            ? `${taking.user ?? taking.group ?? ""} may no longer ask for ${placeOf(taking)} by it, and what was approved under it ends within seconds.`
            : `${taking.user ?? taking.group ?? ""} no longer reaches ${placeOf(taking)} by it, and open connections end within seconds.`}
        </Confirm>
      )}
    </>
  );
}

function GiveDialog({ onClose }: { onClose: () => void }) {
  const { slug } = useTenant();
  const { change, failure } = useChange(["tenant", slug, "grants"]);
  const [of, setOf] = useState({ to: "user", who: "", destination: "", role: "view", namespace: "", hours: "", until: "", reason: "", networks: "", lends: "", command: "", gives: "access" });
  const set = (name: keyof typeof of) => (event: { target: { value: string } }) => setOf({ ...of, [name]: event.target.value });
  const give = async () => {
    const body = {
      [of.to]: of.who,
      destination: of.destination,
      role: of.role,
      namespace: of.namespace || null,
      hours: of.hours || null,
      expires_at: of.until ? `${of.until}T00:00:00Z` : null,
      reason: of.reason,
      ...(of.gives === "asking" && { approval: true }),
      ...(of.networks && { networks: listed(of.networks) }),
      ...(of.lends && { extensions: of.lends === "none" ? [] : listed(of.lends) }),
      ...(of.command && { force_command: of.command }),
    };
    const done = await change(() => take(api.POST("/api/v1/tenants/{tenant}/grants", { params: { path: { tenant: slug } }, body })));
    if (done) onClose();
  };
  return (
    <Dialog title="Give a grant" onClose={onClose} onSubmit={() => give()}>
      {failure}
      <Select
        label="It gives"
        help={of.gives === "asking" ? "Nothing by itself: they ask with a reason, and somebody else approves it for a while" : undefined}
        value={of.gives}
        onChange={set("gives")}
      >
        <option value="access">access at once</option>
        <option value="asking">the right to ask for it</option>
      </Select>
      <Select label="To a" value={of.to} onChange={set("to")}>
        <option value="user">member</option>
        <option value="group">group</option>
      </Select>
      <TextField label={of.to === "user" ? "Login name" : "Group"} required value={of.who} onChange={set("who")} />
      <TextField label="Destination" required value={of.destination} onChange={set("destination")} />
      <TextField label="Role there" required help="Such as view, edit, admin; role:NAME is a Role of the namespace" value={of.role} onChange={set("role")} />
      <TextField label="Only in this namespace (optional)" value={of.namespace} onChange={set("namespace")} />
      <TextField
        label="Host: only from these networks (optional)"
        placeholder="10.0.0.0/8, 2001:db8::/32"
        value={of.networks}
        onChange={set("networks")}
      />
      <TextField
        label="Host: lends (optional)"
        placeholder="permit-pty"
        help="Of what the host allows: permit-pty, permit-port-forwarding, permit-agent-forwarding, permit-X11-forwarding, permit-user-rc, or none"
        value={of.lends}
        onChange={set("lends")}
      />
      <TextField label="Host: runs only this command (optional)" value={of.command} onChange={set("command")} />
      <TextField label="Only in these hours (optional)" placeholder="mon-fri 08:00-18:00 +01:00" value={of.hours} onChange={set("hours")} />
      <TextField label="Until (optional)" type="date" value={of.until} onChange={set("until")} />
      <TextField label="Reason" value={of.reason} onChange={set("reason")} />
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" type="submit">
          Give
        </Button>
      </div>
    </Dialog>
  );
}

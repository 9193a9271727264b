// Clusters and hosts that are reached through Cairn: mine, and all of the tenant with who reaches each.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useNavigate } from "react-router";
import { api, type Schemas, sentence, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Dialog } from "../../design/dialog";
import { Head, Panel } from "../../design/panel";
import { Copyable } from "../../design/secret";
import { Empty, Failed, Loading } from "../../design/state";
import { type Column, Table } from "../../design/table";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { Listing, type Load } from "../../list/keyset";
import { lost } from "../../list/lost";
import { More, rowsOf, useGrowing } from "../../list/more";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { textOf } from "../fleet/labels";
import { AskDialog } from "../request/ask";
import { ReachersTable, useReachers } from "./reachers";
import { HostDialog } from "./register";
import { AddSet } from "./set";

type Destination = Schemas["Destination"];

/** What reaches it from a terminal. */
export function commandFor(kind: string, name: string, role?: string): string {
  if (kind !== "ssh") return `cairn use ${name}`;
  return `cairn ssh ${role ? `${role}@` : ""}${name}`;
}

export default function DestinationsPage() {
  useTitle("Destinations");
  const tenant = useTenant();
  const [asking, setAsking] = useState<"ask" | "glass">();
  const params = { path: { tenant: tenant.slug } };
  const glass = useQuery({
    queryKey: ["tenant", tenant.slug, "reach", "break-glass"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/break-glass", { params, signal })),
  });
  // Until it is known, and where it cannot be, the API refuses whoever may not.
  const refused = glass.data?.refused ? sentence(glass.data.refused) : undefined;
  return (
    <>
      <Head title="Destinations" about="What is reached through Cairn. Reaching one needs a grant, whatever one’s role is.">
        <Button reason={refused} onClick={() => setAsking("glass")}>Break glass…</Button>
        <Button kind="primary" onClick={() => setAsking("ask")}>
          Ask for access
        </Button>
      </Head>
      <Mine />
      {tenant.can("access:manage") && <All />}
      {asking && <AskDialog {...(asking === "glass" ? { glass: { s_max: glass.data?.s_max } } : {})} onClose={() => setAsking(undefined)} />}
    </>
  );
}

function Mine() {
  const { slug } = useTenant();
  const load: Load<Schemas["Reach"]> = (query, signal) =>
    take(api.GET("/api/v1/tenants/{tenant}/reach", { params: { path: { tenant: slug }, query }, ...(signal ? { signal } : {}) }));
  const query = useGrowing(load, { queryKey: ["tenant", slug, "reach"], every: 30_000 });
  if (query.isPending) return <Loading rows={3} />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  return (
    <Panel title="What you reach now" flush>
      {rowsOf(query.data).length === 0 ? (
        <Empty title="Nothing">Ask for access, and whoever manages it is shown your request.</Empty>
      ) : (
        <Table
          name="What you reach"
          rows={rowsOf(query.data)}
          rowKey={(it) => `${it.destination} ${it.role}`}
          columns={[
            { head: "Destination", kind: "main", cell: (it) => it.name },
            { head: "Kind", cell: (it) => it.kind },
            { head: "As", cell: (it) => it.role },
            { head: "In", cell: (it) => (it.kind === "ssh" ? "" : it.namespaces?.join(", ") || "all namespaces") },
            { head: "Until", kind: "nowrap", cell: (it) => (it.until ? <When at={it.until} /> : "taken away") },
            { head: "With", cell: (it) => <Copyable name={`Command for ${it.name}`} text={commandFor(it.kind, it.name, it.role)} /> },
          ]}
        />
      )}
      <More query={query} />
    </Panel>
  );
}

function All() {
  const tenant = useTenant();
  const path = { tenant: tenant.slug };
  const queryKey = ["tenant", tenant.slug, "destinations"];
  const { change, failure } = useChange(queryKey);
  const [shown, setShown] = useState<Destination>();
  const [deleting, setDeleting] = useState<Destination>();
  const [adding, setAdding] = useState<"host" | "set">();
  const navigate = useNavigate();
  const add = (
    <span className="row">
      <Button small onClick={() => setAdding("set")}>
        Add a set of hosts
      </Button>
      <Button small onClick={() => setAdding("host")}>
        Add an SSH host
      </Button>
    </span>
  );
  const added = (made?: string) => {
    setAdding(undefined);
    if (made) void navigate(to.destination(tenant.slug, made));
  };
  const remove = (destination: string) =>
    take(api.DELETE("/api/v1/tenants/{tenant}/destinations/{destination}", { params: { path: { ...path, destination } } }));
  const columns: Column<Destination>[] = [
    {
      head: "Destination",
      kind: "main",
      cell: (it) => (
        <>
          <Link to={to.destination(tenant.slug, it.name)}>{it.name}</Link>
          <div className="under">{it.selector ? `hosts with ${textOf(it.selector)}` : textOf(it.labels)}</div>
        </>
      ),
    },
    { head: "Kind", cell: (it) => <Badge word={it.kind} /> },
    { head: "Relay", cell: (it) => (it.kind === "set" ? "of each host" : it.way === "direct" ? <Badge word="not recorded" /> : (it.relay_name ?? it.relay ?? "none")) },
    { head: "Version", cell: (it) => it.version },
    { head: "Last seen", kind: "nowrap", cell: (it) => <When at={it.last_seen_at} /> },
    {
      head: "",
      cell: (it) => (
        <span className="row">
          <Button small aria-label={`Who reaches ${it.name}`} onClick={() => setShown(it)}>
            Who reaches it
          </Button>
          <Button small aria-label={`Delete ${it.name}`} onClick={() => setDeleting(it)}>
            Delete
          </Button>
        </span>
      ),
    },
  ];
  return (
    <Panel title="All of the tenant" flush action={add}>
      {failure}
      <Listing
        name="Destinations"
        queryKey={queryKey}
        load={(query, signal) => take(api.GET("/api/v1/tenants/{tenant}/destinations", { params: { path, query }, signal }))}
        columns={columns}
        rowKey={(it) => it.id}
        exported={(it) => ({
          id: it.id,
          name: it.name,
          kind: it.kind,
          relay: it.relay_name,
          way: it.way,
          labels: textOf(it.labels),
          selector: textOf(it.selector ?? {}),
          version: it.version,
          last_seen_at: it.last_seen_at,
          node: it.node,
        })}
        empty={
          <Empty title="No destinations" action={add}>
            A relay that runs in a cluster makes it a destination by itself. A host is one when you say what it is, and a set of hosts when you say which
            labels they have.
          </Empty>
        }
      />
      {adding === "host" && <HostDialog onClose={added} />}
      {adding === "set" && <AddSet onClose={added} />}
      {shown && <Reachers of={shown} onClose={() => setShown(undefined)} />}
      {deleting && (
        <Confirm
          title={`Delete ${deleting.name}?`}
          action="Delete"
          onClose={() => setDeleting(undefined)}
          onConfirm={() => void change(() => remove(deleting.id))}
        >
          Nobody reaches it any more, and its grants are gone. A relay that still serves a cluster makes it anew, without grants.
        </Confirm>
      )}
    </Panel>
  );
}

function Reachers({ of, onClose }: { of: Destination; onClose: () => void }) {
  const query = useReachers(of.id);
  return (
    <Dialog title={`Who reaches ${of.name} now`} onClose={onClose}>
      {query.isPending ? (
        <Loading rows={3} />
      ) : lost(query) ? (
        <Failed {...told(query.error)} onRetry={() => void query.refetch()} />
      ) : rowsOf(query.data).length === 0 ? (
        <p>Nobody.</p>
      ) : (
        <>
          <ReachersTable name="Who reaches it" of={rowsOf(query.data)} />
          <More query={query} />
        </>
      )}
      <div className="actions">
        <Button onClick={onClose}>Close</Button>
      </div>
    </Dialog>
  );
}

// One destination: what it is, who reaches it now, and for a host what it has to be told.
import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { Link, useNavigate, useParams } from "react-router";
import { api, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Facts } from "../../design/facts";
import { Head, Panel } from "../../design/panel";
import { Copyable } from "../../design/secret";
import { Empty, Failed, Loading } from "../../design/state";
import { When } from "../../design/time";
import { Confirm, useChange } from "../../list/change";
import { lost } from "../../list/lost";
import { More, rowsOf } from "../../list/more";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { textOf } from "../fleet/labels";
import { eligibleOf, Glass, MayAsk } from "../grant/eligible";
import { ChangeDialog } from "./change";
import { HostPanels } from "./host";
import { commandFor } from "./list";
import { ReachersTable, useReachers } from "./reachers";
import { DIRECT } from "./register";
import { ChangeSet, SetHosts, saysByLabels } from "./set";

export default function DestinationPage() {
  const { destination = "" } = useParams();
  const tenant = useTenant();
  const { slug } = tenant;
  const path = { tenant: slug, destination };
  const navigate = useNavigate();
  const { change, failure } = useChange(["tenant", slug, "destinations"]);
  const [changing, setChanging] = useState(false);
  const [deleting, setDeleting] = useState(false);
  const query = useQuery({
    queryKey: ["tenant", slug, "destination", destination],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/destinations/{destination}", { params: { path }, signal })),
  });
  useTitle(query.data?.name ?? "Destination");
  if (query.isPending) return <Loading />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const it = query.data;
  const remove = async () => {
    const done = await change(() =>
      take(api.DELETE("/api/v1/tenants/{tenant}/destinations/{destination}", { params: { path: { tenant: slug, destination: it.id } } })),
    );
    if (done) await navigate(to.destinations(slug));
  };
  return (
    <>
      <nav className="crumbs" aria-label="Where you are">
        <Link to={to.destinations(slug)}>Destinations</Link> <span aria-hidden="true">/</span> <span>{it.name}</span>
      </nav>
      <Head title={it.name}>
        <Badge word={it.kind} />
        <Button onClick={() => setChanging(true)}>Change…</Button>
        <Button onClick={() => setDeleting(true)}>Delete…</Button>
      </Head>
      {failure}
      <div className="split">
        <div className="stack">
          {it.kind === "set" && <SetHosts of={it} />}
          <Reachers destination={it.id} name={it.name} set={it.kind === "set"} />
          {it.kind === "ssh" && <HostPanels destination={it.id} />}
        </div>
        <div className="stack">
          <Panel title="About it">
            <Facts
              of={[
                ["Kind", it.kind],
                ...(it.kind === "set"
                  ? ([["Labels of its hosts", textOf(it.selector ?? {})]] as [string, ReactNode][])
                  : ([
                      ["Labels", textOf(it.labels) || "none"],
                      ["By its labels", it.by_labels ? saysByLabels(it.by_labels) : "nothing"],
                      ...(it.way ? [["Reached", it.way === "direct" ? DIRECT : "through its relay: cut with its grant, recorded as the tenant says"]] : []),
                      ["Relay", it.relay ? <RelayLink key="relay" id={it.relay} name={it.relay_name} /> : "none"],
                      [it.kind === "ssh" ? "Accounts" : "Roles", it.roles.join(", ") || "none yet"],
                    ] as [string, ReactNode][])),
                ...(it.kind !== "kubernetes"
                  ? []
                  : ([
                      ["Namespaces", it.namespaces.join(", ") || "none yet"],
                      ["Without the server", it.address ?? "not reached"],
                      ...(it.certificate_ends_at
                        ? [["Certificate there ends", <When key="ends" at={it.certificate_ends_at} />]]
                        : []),
                      ["Version", it.version || "none yet"],
                    ] as [string, ReactNode][])),
                ...(it.kind === "set" ? [] : ([["Last seen", <When key="seen" at={it.last_seen_at} />]] as [string, ReactNode][])),
                ["Since", <When key="since" at={it.created_at} />],
                [
                  "In the graph",
                  tenant.can("nodes:read") ? (
                    <Link key="node" to={to.node(slug, it.node)}>
                      Its node
                    </Link>
                  ) : (
                    <code key="node">{it.node}</code>
                  ),
                ],
                ["Id", <code key="id">{it.id}</code>],
              ]}
            />
          </Panel>
          <Panel title="How one reaches it">
            <div className="stack">
              {it.kind === "set" ? (
                <p>Nobody connects to a set: whoever is granted it reaches each of its hosts by the host’s own name.</p>
              ) : (
                <Copyable name="Command" text={commandFor(it.kind, it.name)} />
              )}
              {it.kind === "ssh" && (
                <>
                  <p className="small muted">
                    Once, for plain <code>ssh</code>, <code>scp</code>, <code>rsync</code> and <code>git</code>: it writes a file and says how to include
                    it; then it is <code>{it.name}.cairn</code>.
                  </p>
                  <Copyable name="Command for the include file" text="cairn ssh --include" />
                </>
              )}
            </div>
          </Panel>
        </div>
      </div>
      {changing && (it.kind === "set" ? <ChangeSet of={it} onClose={() => setChanging(false)} /> : <ChangeDialog of={it} onClose={() => setChanging(false)} />)}
      {deleting && (
        <Confirm title={`Delete ${it.name}?`} action="Delete" onClose={() => setDeleting(false)} onConfirm={() => void remove()}>
          {it.kind === "set"
            ? "Its grants are gone, and nobody reaches its hosts by them any more. The hosts stay, with their own grants."
            : it.kind === "ssh"
            ? "Nobody gets a certificate for it any more, and its grants are gone. The host keeps what it was told."
            : "Nobody reaches it any more, and its grants are gone. A relay that still serves it makes it anew, without grants."}
        </Confirm>
      )}
    </>
  );
}

function RelayLink({ id, name }: { id: string; name?: string | null | undefined }) {
  const tenant = useTenant();
  return tenant.can("fleet:manage") ? <Link to={to.relay(tenant.slug, id)}>{name ?? id}</Link> : (name ?? id);
}

function Reachers({ destination, name, set }: { destination: string; name: string; set: boolean }) {
  const { slug } = useTenant();
  const query = useReachers(destination);
  return (
    <Panel title={set ? "Who is granted it now" : "Who reaches it now"} flush action={<Link to={to.grants(slug, { destination: name })}>Its grants</Link>}>
      {query.isPending ? (
        <Loading rows={3} />
      ) : lost(query) ? (
        <Failed {...told(query.error)} onRetry={() => void query.refetch()} />
      ) : rowsOf(query.data).length === 0 ? (
        <Empty title="Nobody">A grant lets somebody in, or a group; members ask for one under Destinations.</Empty>
      ) : (
        <>
          <ReachersTable name="Who reaches it" of={rowsOf(query.data)} />
          <More query={query} />
        </>
      )}
      <Glass pages={query.data?.pages} />
      <MayAsk
        name="Who may ask for it"
        queryKey={["tenant", slug, "destination-eligible", destination]}
        load={eligibleOf({ slug, destination })}
        about="Eligible grants: whom they name may ask for it, and reaches nothing until somebody else approves it."
      />
    </Panel>
  );
}

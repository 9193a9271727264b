// What changed since the person last said that they have seen it. Looking moves nothing; they say so.
import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Link } from "react-router";
import { api, type Schemas, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Panel } from "../../design/panel";
import { Empty, Failed, Loading } from "../../design/state";
import { Table } from "../../design/table";
import { When } from "../../design/time";
import { useChange } from "../../list/change";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";

type News = Schemas["Changes"];
type Counts = Schemas["SeverityCounts"];

const MINUTE_MS = 60_000;
const SEVERITIES = ["critical", "high", "medium", "low", "info"] as const;
/** Types of nodes that are named in one line. */
const TYPES = 4;

interface Line {
  what: string;
  count: number;
  path: string;
  /** Whether there are more than were counted. */
  more?: boolean;
  which?: ReactNode;
}

const sum = (counts: Counts) => SEVERITIES.reduce((all, it) => all + counts[it], 0);
const bySeverity = (counts: Counts) =>
  SEVERITIES.filter((it) => counts[it] > 0)
    .map((it) => `${counts[it].toLocaleString("en")} ${it}`)
    .join(", ");

function byType(nodes: Schemas["NodeChanges"], of: "first_seen" | "changed" | "closed"): string {
  const some = nodes.by_type.filter((it) => it[of] > 0).sort((a, b) => b[of] - a[of]);
  const named = some.slice(0, TYPES).map((it) => `${it[of].toLocaleString("en")} ${it.type}`);
  return [...named, ...(some.length > TYPES ? [`${some.length - TYPES} more types`] : [])].join(", ");
}

function units(fleet: Schemas["FleetChanges"], what: string): ReactNode {
  return fleet.units
    .filter((it) => it.what === what)
    .map((it) => it.name)
    .join(", ");
}

/** A line for each thing that changed, the most urgent first. */
function lines(slug: string, news: News): Line[] {
  const { findings, nodes, fleet, access, jobs } = news;
  const all: Line[] = [];
  if (findings) {
    const more = findings.more;
    const newest = findings.newest.map((it) => (
      <div key={it.id}>
        <Badge word={it.severity} /> <Link to={to.finding(slug, it.id)}>{it.title}</Link> <span className="muted">{it.node_name}</span>
      </div>
    ));
    const opened = (
      <>
        {bySeverity(findings.opened)}
        {newest}
      </>
    );
    all.push({ what: "Findings opened", count: sum(findings.opened), path: to.findings(slug, { status: "open" }), more, which: opened });
  }
  if (access) all.push({ what: "Access requests that wait", count: access.waiting, path: to.requests(slug), more: access.more });
  if (jobs) {
    const newest = jobs.newest.map((it) => (
      <div key={it.id}>
        <Link to={to.job(slug, it.id)}>{it.plugin}</Link> <span className="muted">{it.error}</span>
      </div>
    ));
    all.push({ what: "Jobs that failed", count: jobs.failed, path: to.jobs(slug, { status: "failed" }), more: jobs.more, which: newest });
  }
  if (fleet) {
    // The list of agents, unless all of them are relays.
    const path = (what: string) =>
      fleet.units.some((it) => it.what === what && it.kind === "agent") ? to.agents(slug) : to.relays(slug);
    for (const [what, count] of [
      ["cloned", fleet.cloned],
      ["silent", fleet.silent],
      ["revoked", fleet.revoked],
      ["enrolled", fleet.enrolled],
    ] as const)
      all.push({ what: `Agents and relays ${what}`, count, path: path(what), which: units(fleet, what) });
  }
  if (findings) {
    const { accepted, resolved, more } = findings;
    all.push({ what: "Findings accepted", count: sum(accepted), path: to.findings(slug, { status: "accepted" }), more, which: bySeverity(accepted) });
    all.push({ what: "Findings resolved", count: sum(resolved), path: to.findings(slug, { status: "resolved" }), more, which: bySeverity(resolved) });
  }
  if (access) {
    all.push({ what: "Grants made", count: access.made, path: to.grants(slug), more: access.more });
    all.push({ what: "Grants taken away", count: access.taken, path: to.grants(slug), more: access.more });
  }
  if (nodes) {
    for (const [what, of] of [
      ["Nodes first seen", "first_seen"],
      ["Nodes changed", "changed"],
      ["Nodes closed", "closed"],
    ] as const)
      all.push({ what, count: nodes[of], path: to.nodes(slug, of === "closed" ? { closed: "true" } : {}), more: nodes.more, which: byType(nodes, of) });
  }
  return all.filter((it) => it.count > 0);
}

export function Changes() {
  const { slug } = useTenant();
  const query = useQuery({
    queryKey: ["tenant", slug, "changes"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/changes", { params: { path: { tenant: slug } }, signal })),
    refetchInterval: MINUTE_MS,
  });
  const { change, failure } = useChange(["tenant", slug, "changes"]);
  if (query.isPending || lost(query)) {
    return (
      <Panel title="What changed">
        {query.isPending ? <Loading rows={3} /> : <Failed {...told(query.error)} onRetry={() => void query.refetch()} />}
      </Panel>
    );
  }
  const { since, until } = query.data;
  const see = () => take(api.PUT("/api/v1/tenants/{tenant}/changes/seen", { params: { path: { tenant: slug } }, body: { until } }));
  const rows = lines(slug, query.data);
  return (
    <Panel
      title="What changed"
      flush
      action={
        <span className="row">
          <span className="small muted">
            since <When at={since} />
          </span>
          <Button small reason={rows.length === 0 ? "There is nothing that you have not seen." : undefined} onClick={() => void change(see)}>
            I have seen this
          </Button>
        </span>
      }
    >
      {failure}
      {rows.length === 0 ? (
        <Empty title="Nothing that you have not seen">What changes from now on is here, until you say that you have seen it.</Empty>
      ) : (
        <Table
          name="What changed"
          rows={rows}
          rowKey={(it) => it.what}
          columns={[
            { head: "What", kind: "main", cell: (it) => <Link to={it.path}>{it.what}</Link> },
            { head: "How many", kind: "number", cell: (it) => `${it.count.toLocaleString("en")}${it.more ? " or more" : ""}` },
            { head: "Which", cell: (it) => it.which },
          ]}
        />
      )}
    </Panel>
  );
}

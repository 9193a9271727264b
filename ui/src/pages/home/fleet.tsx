// How the agents and relays are.
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { api, type Schemas, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Panel } from "../../design/panel";
import { Empty, Failed, Loading } from "../../design/state";
import { Table } from "../../design/table";
import { When } from "../../design/time";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";

type Unit = Schemas["FleetUnit"];

const MINUTE_MS = 60_000;
/** How many of each kind are looked at; with more the page says so. */
const LOOKED_AT = "500";
const SHOWN = 5;

/** In the words of the fleet's own pages. */
const word = (unit: Unit) => (unit.state === "active" ? (unit.health ?? "active") : unit.state);
const isWell = (unit: Unit) => word(unit) === "online" && !unit.cloned_at;

export function Fleet() {
  const { slug } = useTenant();
  const query = useQuery({
    queryKey: ["tenant", slug, "fleet", "health"],
    queryFn: async ({ signal }) => {
      const params = { path: { tenant: slug }, query: { limit: LOOKED_AT } };
      const [agents, relays] = await Promise.all([
        take(api.GET("/api/v1/tenants/{tenant}/agents", { params, signal })),
        take(api.GET("/api/v1/tenants/{tenant}/relays", { params, signal })),
      ]);
      return [
        { kind: "agents", path: to.agents(slug), page: agents },
        { kind: "relays", path: to.relays(slug), page: relays },
      ];
    },
    refetchInterval: MINUTE_MS,
  });
  if (query.isPending || lost(query)) {
    return (
      <Panel title="Fleet">
        {query.isPending ? <Loading rows={2} /> : <Failed {...told(query.error)} onRetry={() => void query.refetch()} />}
      </Panel>
    );
  }
  const rows = query.data.map(({ kind, path, page }) => {
    // One that was sent away is no trouble.
    const units = page.items.filter((it) => it.state !== "revoked");
    const versions = new Set(units.map((it) => it.version));
    return { kind, path, all: units.length, more: Boolean(page.next_page), versions: versions.size, unwell: units.filter((it) => !isWell(it)) };
  });
  const unwell = rows.flatMap(({ kind, path, unwell }) => unwell.map((unit) => ({ kind, path, unit })));
  return (
    <Panel title="Fleet" flush>
      {rows.every((it) => it.all === 0) ? (
        <Empty title="No agents and no relays">
          An agent reports the host that it runs on; a relay works in a network that this server does not reach. <Link to={to.agents(slug)}>Let one in</Link>.
        </Empty>
      ) : (
        <>
          <Table
            name="Fleet"
            rows={rows}
            rowKey={(it) => it.kind}
            columns={[
              { head: "Kind", kind: "main", cell: (it) => <Link to={it.path}>{it.kind}</Link> },
              { head: "There", kind: "number", cell: (it) => `${it.all.toLocaleString("en")}${it.more ? " or more" : ""}` },
              { head: "In trouble", kind: "number", cell: (it) => it.unwell.length.toLocaleString("en") },
              { head: "Versions", kind: "number", cell: (it) => it.versions },
            ]}
          />
          {unwell.length > 0 && (
            <Table
              name="In trouble"
              rows={unwell.slice(0, SHOWN)}
              rowKey={(it) => it.unit.id}
              columns={[
                { head: "In trouble", kind: "main", cell: (it) => <Link to={it.path}>{it.unit.name}</Link> },
                { head: "State", cell: (it) => <Badge word={it.unit.cloned_at ? "cloned" : word(it.unit)} /> },
                { head: "Last seen", kind: "nowrap", cell: (it) => <When at={it.unit.last_seen_at} /> },
              ]}
            />
          )}
        </>
      )}
    </Panel>
  );
}

// The nodes of a tenant.
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Select } from "../../design/field";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Listing, useFilter } from "../../list/keyset";
import { SearchField } from "../../list/search";
import { TypedField } from "../../list/typed";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { RunJob } from "../job/run";

type Node = Schemas["Node"];

export default function NodesPage() {
  useTitle("Nodes");
  const { slug } = useTenant();
  const path = { tenant: slug };
  const [type, setType] = useFilter("type");
  const [name, setName] = useFilter("name");
  const [closed, setClosed] = useFilter("closed");
  const [asOf, setAsOf] = useFilter("as_of", { typed: true });
  const [changed, setChanged] = useFilter("changed_since", { typed: true });
  const [first, setFirst] = useFilter("first_seen_since", { typed: true });
  const counts = useQuery({
    queryKey: ["tenant", slug, "node-counts"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/node-counts", { params: { path }, signal })),
  });
  const all = { type, name, closed, as_of: asOf, changed_since: changed, first_seen_since: first };
  const filters = Object.fromEntries(Object.entries(all).filter(([, value]) => value));
  const columns: Column<Node>[] = [
    {
      head: "Node",
      kind: "main",
      cell: (it) => (
        <>
          <Link to={to.node(slug, it.id)}>{it.name}</Link>
          <div className="under mono">{it.id}</div>
        </>
      ),
    },
    { head: "Type", kind: "nowrap", cell: (it) => <code>{it.type}</code> },
    { head: "Region", kind: "nowrap", cell: (it) => it.region || "none" },
    { head: "State", cell: (it) => <Badge word={it.closed_at ? "gone" : "present"} /> },
    { head: "First seen", kind: "nowrap", cell: (it) => <When at={it.first_seen} /> },
    { head: "Changed", kind: "nowrap", cell: (it) => <When at={it.valid_from} /> },
    { head: "Last seen", kind: "nowrap", cell: (it) => <When at={it.discovered_at} /> },
  ];
  return (
    <>
      <Head title="Nodes" about="Everything that discovery found, also as it was at another time." />
      <div className="filters">
        <Select label="Type" wide value={type} onChange={(event) => setType(event.target.value)}>
          <option value="">All types</option>
          {type && !counts.data?.items.some((it) => it.type === type) && <option value={type}>{type}</option>}
          {counts.data?.items.map((it) => (
            <option key={it.type} value={it.type}>
              {it.type} ({it.count})
            </option>
          ))}
        </Select>
        <SearchField label="Name contains" text={name} onSearch={setName} />
        <TypedField
          label="As of (UTC)"
          type="datetime-local"
          text={asOf.slice(0, 16)}
          onType={(at) => setAsOf(at ? `${at}:00Z` : "")}
        />
        <TypedField
          label="Changed since (UTC)"
          type="datetime-local"
          text={changed.slice(0, 16)}
          onType={(at) => setChanged(at ? `${at}:00Z` : "")}
        />
        <TypedField
          label="First seen since (UTC)"
          type="datetime-local"
          text={first.slice(0, 16)}
          onType={(at) => setFirst(at ? `${at}:00Z` : "")}
        />
        <label className="check">
          <input type="checkbox" checked={closed === "true"} onChange={(event) => setClosed(event.target.checked ? "true" : "")} />
          Also what is gone
        </label>
      </div>
      <section className="panel">
        <Listing
          name="Nodes"
          queryKey={["tenant", slug, "nodes", filters]}
          load={(page, signal) =>
            take(api.GET("/api/v1/tenants/{tenant}/nodes", { params: { path, query: { ...filters, ...page } }, signal }))
          }
          columns={columns}
          rowKey={(it) => it.id}
          exported={({ id, type, name, provider, region, first_seen, valid_from, discovered_at }) => ({
            id,
            type,
            name,
            provider,
            region,
            first_seen,
            changed: valid_from,
            discovered_at,
          })}
          empty={
            Object.keys(filters).length > 0 ? (
              <Empty title="Nothing matches">Choose another type, another part of the name, or an earlier time.</Empty>
            ) : (
              <Empty title="Nothing discovered yet" action={<RunJob />}>
                Run a discovery job: <code>cairn jobs run --plugin host --wait</code> reads the server’s own machine.
              </Empty>
            )
          }
        />
      </section>
    </>
  );
}

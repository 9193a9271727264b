// The findings of a tenant: filters in the address, and accepting many at once.
import { useState } from "react";
import { Link } from "react-router";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Select } from "../../design/field";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Listing, useFilter } from "../../list/keyset";
import { SearchField } from "../../list/search";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { AcceptDialog } from "./accept";

type Finding = Schemas["Finding"];

const SEVERITIES = ["critical", "high", "medium", "low", "info"];
const STATUSES = ["open", "accepted", "resolved"];

export default function FindingsPage() {
  useTitle("Findings");
  const tenant = useTenant();
  const { slug } = tenant;
  const [status, setStatus] = useFilter("status");
  const [severity, setSeverity] = useFilter("severity");
  const [text, setText] = useFilter("text");
  const [rule, setRule] = useFilter("rule");
  const [node, setNode] = useFilter("node");
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [accepting, setAccepting] = useState(false);
  const filters = Object.fromEntries(Object.entries({ status, severity, text, rule, node }).filter(([, value]) => value));
  const choose = (ids: string[], on: boolean) => {
    const next = new Set(chosen);
    for (const id of ids) if (on) next.add(id);
      else next.delete(id);
    setChosen(next);
  };
  const columns: Column<Finding>[] = [
    {
      head: "Choose",
      cell: (it) => (
        <input
          type="checkbox"
          aria-label={`Choose ${it.title} on ${it.node_name}`}
          checked={chosen.has(it.id)}
          onChange={(event) => choose([it.id], event.target.checked)}
        />
      ),
    },
    { head: "Severity", cell: (it) => <Badge word={it.severity} /> },
    {
      head: "Finding",
      kind: "main",
      cell: (it) => (
        <>
          <Link to={to.finding(slug, it.id)}>{it.title}</Link>
          <div className="under">{it.message}</div>
        </>
      ),
    },
    { head: "Node", cell: (it) => (tenant.can("nodes:read") ? <Link to={to.node(slug, it.node)}>{it.node_name}</Link> : it.node_name) },
    { head: "Status", cell: (it) => <Badge word={it.status} /> },
    { head: "Risk", kind: "number", cell: (it) => it.risk },
    { head: "First seen", kind: "nowrap", cell: (it) => <When at={it.first_seen} /> },
  ];
  const isFiltered = Object.keys(filters).length > 0;
  return (
    <>
      <Head title="Findings" about="What violates a rule, the worst first." />
      <div className="filters">
        <Select label="Status" value={status} onChange={(event) => setStatus(event.target.value)}>
          <option value="">All</option>
          {STATUSES.map((it) => (
            <option key={it}>{it}</option>
          ))}
        </Select>
        <Select label="Severity" value={severity} onChange={(event) => setSeverity(event.target.value)}>
          <option value="">All</option>
          {SEVERITIES.map((it) => (
            <option key={it}>{it}</option>
          ))}
        </Select>
        <SearchField key={text} label="Message contains" text={text} onSearch={setText} />
        {rule && (
          <Button onClick={() => setRule("")}>
            Rule {rule} <span aria-label="remove">×</span>
          </Button>
        )}
        {node && (
          <Button onClick={() => setNode("")}>
            One node <span aria-label="remove">×</span>
          </Button>
        )}
      </div>
      <section className="panel">
        <Listing
          name="Findings"
          queryKey={["tenant", slug, "findings", filters]}
          load={(page, signal) =>
            take(api.GET("/api/v1/tenants/{tenant}/findings", { params: { path: { tenant: slug }, query: { ...filters, ...page } }, signal }))
          }
          columns={columns}
          rowKey={(it) => it.id}
          exported={(it) => ({
            id: it.id,
            severity: it.severity,
            risk: it.risk,
            status: it.status,
            rule: it.rule,
            title: it.title,
            node: it.node,
            message: it.message,
            controls: it.controls.join(" "),
            first_seen: it.first_seen,
          })}
          actions={(rows) => (
            <div className="pager">
              <span className="check">
                <input
                  type="checkbox"
                  id="all-rows"
                  checked={rows.every((row) => chosen.has(row.id))}
                  onChange={(event) => choose(rows.map((row) => row.id), event.target.checked)}
                />
                <label htmlFor="all-rows">All on this page</label>
                {chosen.size > 0 && <span>· {chosen.size} chosen</span>}
              </span>
              <Button
                small
                reason={tenant.lacks("findings:write") ?? (chosen.size === 0 ? "Choose findings first." : undefined)}
                onClick={() => setAccepting(true)}
              >
                Accept…
              </Button>
            </div>
          )}
          empty={
            isFiltered ? (
              <Empty title="Nothing matches">Take a filter away, or search for another part of the message.</Empty>
            ) : (
              <Empty title="No findings">
                Nothing violates a rule, or nothing was discovered yet. Run a discovery job, and findings follow within a minute.
              </Empty>
            )
          }
        />
      </section>
      {accepting && (
        <AcceptDialog
          ids={[...chosen]}
          onClose={(done) => {
            setAccepting(false);
            if (done) setChosen(new Set());
          }}
        />
      )}
    </>
  );
}

// The findings of a tenant, one by one or in groups: filters in the address, and changing many at once.
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
import { type FindingsOf, to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { useJudging } from "../control/judge";
import { ALLOWED, ChangeDialog, type Subject, type Verb } from "./change";
import { useChoice } from "./choose";
import { GROUPS, Groups, isGroup } from "./groups";
import { RunJob } from "../job/run";

type Finding = Schemas["Finding"];

const SEVERITIES = ["critical", "high", "medium", "low", "info"];
const STATUSES = ["open", "accepted", "resolved"];
const VERBS: [Verb, string][] = [
  ["accept", "Accept…"],
  ["resolve", "Resolve…"],
  ["reopen", "Open again…"],
];

export default function FindingsPage() {
  useTitle("Findings");
  const [status, setStatus] = useFilter("status");
  const [severity, setSeverity] = useFilter("severity");
  const [text, setText] = useFilter("text");
  const [rule, setRule] = useFilter("rule");
  const [node, setNode] = useFilter("node");
  const [type, setType] = useFilter("type");
  const [framework, setFramework] = useFilter("framework");
  const [control, setControl] = useFilter("control");
  const [group, setGroup] = useFilter("group");
  const judging = useJudging();
  const filters: FindingsOf = Object.fromEntries(
    Object.entries({ status, severity, text, rule, node, type, framework, control }).filter(([, value]) => value),
  );
  return (
    <>
      <Head title="Findings" about="What violates a rule, the worst first.">
        {judging.button}
      </Head>
      {judging.outcome}
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
        <SearchField label="Message, rule or node contains" text={text} onSearch={setText} />
        <Select label="Group by" value={isGroup(group) ? group : ""} onChange={(event) => setGroup(event.target.value)}>
          <option value="">nothing</option>
          {GROUPS.map((it) => (
            <option key={it}>{it}</option>
          ))}
        </Select>
        {rule && <Taken what={`Rule ${rule}`} onRemove={() => setRule("")} />}
        {node && <Taken what="One node" onRemove={() => setNode("")} />}
        {type && <Taken what={`Nodes of type ${type}`} onRemove={() => setType("")} />}
        {control && <Taken what={`Control ${control}`} onRemove={() => setControl("")} />}
        {framework && !control && <Taken what={`Framework ${framework}`} onRemove={() => setFramework("")} />}
      </div>
      {/* What was chosen belongs to what is shown: another filter begins anew. */}
      {isGroup(group) ? <Groups by={group} filters={filters} /> : <Findings key={JSON.stringify(filters)} filters={filters} />}
    </>
  );
}

/** A filter that has no field of its own: it can be taken away. */
function Taken({ what, onRemove }: { what: string; onRemove: () => void }) {
  return (
    <Button onClick={onRemove}>
      {what} <span aria-label="remove">×</span>
    </Button>
  );
}

function Findings({ filters }: { filters: FindingsOf }) {
  const tenant = useTenant();
  const { slug } = tenant;
  const choice = useChoice<Finding>();
  const [changing, setChanging] = useState<Verb>();
  const columns = (page: Finding[]): Column<Finding>[] => [
    { head: "Choose", cell: (it) => choice.box(it, page, `${it.title} on ${it.node_name}`) },
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
  const subject: Subject = choice.everything ? { filter: filters } : { rows: choice.rows };
  const lacks = (verb: Verb) => {
    if (tenant.lacks("findings:write")) return tenant.lacks("findings:write");
    if (choice.everything) return undefined;
    if (choice.rows.length === 0) return "Choose findings first.";
    return choice.rows.some((row) => ALLOWED[verb].includes(row.status)) ? undefined : "None of the chosen is in a state for this.";
  };
  return (
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
                checked={rows.every((row) => choice.has(row.id))}
                onChange={(event) => choice.choose(rows, event.target.checked)}
              />
              <label htmlFor="all-rows">All on this page</label>
              <input
                type="checkbox"
                id="all-matching"
                checked={choice.everything}
                onChange={(event) => choice.setEverything(event.target.checked)}
              />
              <label htmlFor="all-matching">All that match, on every page</label>
              <span role="status">{choice.everything ? "· all chosen" : choice.rows.length > 0 ? `· ${choice.rows.length} chosen` : ""}</span>
            </span>
            <span className="row">
              {VERBS.map(([verb, name]) => (
                <Button key={verb} small reason={lacks(verb)} onClick={() => setChanging(verb)}>
                  {name}
                </Button>
              ))}
            </span>
          </div>
        )}
        empty={
          Object.keys(filters).length > 0 ? (
            <Empty title="Nothing matches">Take a filter away, or search for another part of the message.</Empty>
          ) : (
            <Empty title="No findings" action={<RunJob />}>
              Nothing violates a rule, or nothing was discovered yet. Run a discovery job, and findings follow within a minute.
            </Empty>
          )
        }
      />
      {changing && (
        <ChangeDialog
          verb={changing}
          subject={subject}
          onClose={(over) => {
            setChanging(undefined);
            if (over) choice.clear();
          }}
        />
      )}
    </section>
  );
}

// Findings in groups, each with the way to those that are in it.
import { Link } from "react-router";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { Listing } from "../../list/keyset";
import { type FindingsOf, to } from "../../paths";
import { useTenant } from "../../session/me";
import { RunJob } from "../job/run";

type Group = Schemas["FindingGroup"];

export const GROUPS = ["rule", "node", "framework", "control"] as const;
export type By = (typeof GROUPS)[number];

export const isGroup = (word: string): word is By => (GROUPS as readonly string[]).includes(word);

const SEVERITIES = ["critical", "high", "medium", "low", "info"];
const HEADS: Record<By, string> = { rule: "Rule", node: "Node", framework: "Framework", control: "Control" };

const bySeverity = (group: Group, severity: string) =>
  group.counts.filter((it) => it.severity === severity).reduce((sum, it) => sum + it.count, 0);

/** The filter that names a group's findings. */
function inside(by: By, key: string): FindingsOf {
  if (by !== "control") return { [by]: key };
  const at = key.indexOf(":");
  return { framework: key.slice(0, at), control: key.slice(at + 1) };
}

export function Groups({ by, filters }: { by: By; filters: FindingsOf }) {
  const { slug } = useTenant();
  const columns: Column<Group>[] = [
    {
      head: HEADS[by],
      kind: "main",
      cell: (it) => (
        <>
          <Link to={to.findings(slug, { ...filters, ...inside(by, it.key) })}>{it.label || it.key}</Link>
          <div className="under">
            {it.key}
            {it.type && ` · ${it.type}`}
          </div>
        </>
      ),
    },
    {
      head: "Severity",
      cell: (it) => (
        <span className="row">
          {SEVERITIES.filter((severity) => bySeverity(it, severity) > 0).map((severity) => (
            <span key={severity}>
              {bySeverity(it, severity)}&nbsp;
              <Badge word={severity} />
            </span>
          ))}
        </span>
      ),
    },
    { head: "Open", kind: "number", cell: (it) => it.open },
    { head: "Accepted", kind: "number", cell: (it) => it.accepted },
    { head: "Resolved", kind: "number", cell: (it) => it.resolved },
    { head: "Risk", kind: "number", cell: (it) => it.risk },
  ];
  return (
    <section className="panel">
      <Listing
        name="Groups of findings"
        queryKey={["tenant", slug, "finding-groups", by, filters]}
        load={(page, signal) =>
          take(
            api.GET("/api/v1/tenants/{tenant}/finding-groups", {
              params: { path: { tenant: slug }, query: { ...filters, by, ...page } },
              signal,
            }),
          )
        }
        columns={columns}
        rowKey={(it) => it.key}
        exported={(it) => ({
          [by]: it.key,
          label: it.label,
          type: it.type ?? "",
          risk: it.risk,
          open: it.open,
          accepted: it.accepted,
          resolved: it.resolved,
          ...Object.fromEntries(SEVERITIES.map((severity) => [severity, bySeverity(it, severity)])),
        })}
        empty={<Empty title="No groups" action={<RunJob />}>No finding matches: take a filter away, or run a discovery job.</Empty>}
      />
    </section>
  );
}

// One control: its rules and how they judged, which nodes fail, who says so, and the proof.
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "react-router";
import { api, type Schemas, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Facts } from "../../design/facts";
import { Head, Panel } from "../../design/panel";
import { Empty, Failed, Loading, Notice } from "../../design/state";
import { Table } from "../../design/table";
import { When } from "../../design/time";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { Bundle } from "../evidence/bundle";

const SHOWN = "20";

export default function ControlPage() {
  const { control: id = "" } = useParams();
  const { slug, can } = useTenant();
  const query = useQuery({
    queryKey: ["tenant", slug, "control", id],
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/tenants/{tenant}/controls/{control}", { params: { path: { tenant: slug, control: id } }, signal })),
  });
  useTitle(query.data?.control ?? "Control");
  if (query.isPending) return <Loading />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const it = query.data;
  return (
    <>
      <nav className="crumbs" aria-label="Where you are">
        <Link to={to.controls(slug)}>Controls</Link> <span aria-hidden="true">/</span>
        <Link to={to.controls(slug, { framework: it.framework })}>{it.framework_title}</Link>
      </nav>
      <Head title={`${it.control} ${it.title}`.trim()} about={it.framework_title}>
        <Link className="button" to={to.findings(slug, { framework: it.framework, control: it.control })}>
          Findings
        </Link>
      </Head>
      <div className="split">
        <div className="stack">
          <Panel title="Rules" flush>
            <Rules of={it} />
          </Panel>
          <Failing framework={it.framework} control={it.control} />
          <Panel
            title="Evidence"
            action={can("evidence:read") && <Link to={to.evidence(slug, { framework: it.framework, control: it.control })}>Its evidence</Link>}
          >
            <Proof of={it} />
          </Panel>
        </div>
        <Panel title="About it">
          <Facts
            of={[
              ["Result", <Badge key="result" word={it.result.replace("_", " ")} />],
              ["Passed", it.passed],
              ["Failed", it.failed],
              ["Unknown", it.errors],
              ["Judged", <When key="judged" at={it.evaluated_at} />],
              ["Framework", it.framework],
            ]}
          />
        </Panel>
      </div>
    </>
  );
}

function Rules({ of }: { of: Schemas["ControlDetail"] }) {
  const { slug } = useTenant();
  if (of.rules.length === 0) return <Empty title="No rules">No installed rule supports this control; it is shown by attestation.</Empty>;
  return (
    <Table
      name="Rules of this control"
      rows={of.rules}
      rowKey={(it) => it.rule}
      columns={[
        {
          head: "Rule",
          kind: "main",
          cell: (it) => (
            <>
              {it.severity ? <Link to={to.rule(slug, it.rule)}>{it.title}</Link> : it.title}
              <div className="under">
                {it.rule} · {it.node_types.join(", ")}
              </div>
            </>
          ),
        },
        { head: "Severity", cell: (it) => it.severity && <Badge word={it.severity} /> },
        { head: "Passed", kind: "number", cell: (it) => it.passed ?? "not judged" },
        {
          head: "Failed",
          kind: "number",
          cell: (it) => (it.failed ? <Link to={to.findings(slug, { rule: it.rule, group: "node" })}>{it.failed}</Link> : (it.failed ?? "")),
        },
        { head: "Unknown", kind: "number", cell: (it) => it.unknown ?? "" },
      ]}
    />
  );
}

/** The nodes that speak against it, the worst first. */
function Failing({ framework, control }: { framework: string; control: string }) {
  const tenant = useTenant();
  const { slug } = tenant;
  const filter = { framework, control, status: "open" };
  const query = useQuery({
    queryKey: ["tenant", slug, "finding-groups", "node", filter],
    queryFn: ({ signal }) =>
      take(
        api.GET("/api/v1/tenants/{tenant}/finding-groups", {
          params: { path: { tenant: slug }, query: { ...filter, by: "node", limit: SHOWN } },
          signal,
        }),
      ),
  });
  return (
    <Panel title="Nodes that fail" flush action={<Link to={to.findings(slug, { ...filter, group: "node" })}>All</Link>}>
      {query.isPending && <Loading rows={3} />}
      {lost(query) && <Failed {...told(query.error)} onRetry={() => void query.refetch()} />}
      {query.data?.items.length === 0 && (
        <Empty title="None">No node has an open finding here. What could not be judged is counted as unknown, and is no pass.</Empty>
      )}
      {query.data && query.data.items.length > 0 && (
        <Table
          name="Nodes that fail"
          rows={query.data.items}
          rowKey={(it) => it.key}
          columns={[
            {
              head: "Node",
              kind: "main",
              cell: (it) => (
                <>
                  {tenant.can("nodes:read") ? <Link to={to.node(slug, it.key)}>{it.label}</Link> : it.label}
                  <div className="under">{it.type}</div>
                </>
              ),
            },
            {
              head: "Open findings",
              kind: "number",
              cell: (it) => <Link to={to.findings(slug, { ...filter, node: it.key })}>{it.open}</Link>,
            },
            { head: "Risk", kind: "number", cell: (it) => it.risk },
          ]}
        />
      )}
    </Panel>
  );
}

/** Who says so, on what; and the bundle that proves it to anybody. */
function Proof({ of }: { of: Schemas["ControlDetail"] }) {
  const { judgement } = of;
  const { slug, can } = useTenant();
  const statement = (id: string, shown: string) => (can("evidence:read") ? <Link to={to.statement(slug, id)}>{shown}</Link> : shown);
  if (!judgement) return <p className="muted">Nothing is signed yet: it was not judged, or no rule had a node to judge.</p>;
  return (
    <div className="stack">
      {!judgement.verified && (
        <Notice kind="care">
          It is signed by a key that is not in use any more, so its numbers by rule are not shown; the next evaluation signs anew.
        </Notice>
      )}
      <Facts
        of={[
          ["Signed", <When key="signed" at={judgement.signed_at} />],
          ["By the key", <code key="key">{judgement.key}</code>],
          ["With the rules", judgement.rules_sha256 && <code key="rules">{judgement.rules_sha256}</code>],
          ["Statement", <code key="id">{statement(judgement.evidence, judgement.evidence)}</code>],
          ["Rests on", `${judgement.basis_total} collections`],
        ]}
      />
      {judgement.basis.length > 0 && (
        <Table
          name="Collections that it rests on"
          rows={judgement.basis}
          rowKey={(it) => it.evidence}
          columns={[
            { head: "Scope", kind: "main", cell: (it) => statement(it.evidence, it.scope ?? "none") },
            { head: "Kind", cell: (it) => <Badge word={it.kind} /> },
            { head: "Signed", kind: "nowrap", cell: (it) => <When at={it.signed_at} /> },
          ]}
        />
      )}
      <Bundle about={{ framework: of.framework, control: of.control }} name={`${of.framework}-${of.control}.zip`} />
    </div>
  );
}

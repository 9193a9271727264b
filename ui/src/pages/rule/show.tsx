// One rule: what it checks, why, what to do, for which controls, and how many of this tenant's nodes violate it.
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "react-router";
import { api, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Facts } from "../../design/facts";
import { Head, Panel } from "../../design/panel";
import { Prose } from "../../design/prose";
import { Copyable } from "../../design/secret";
import { Empty, Failed, Loading } from "../../design/state";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { ControlLink } from "./control";

export default function RulePage() {
  const { rule: id = "" } = useParams();
  const tenant = useTenant();
  const { slug } = tenant;
  const rules = useQuery({ queryKey: ["rules"], queryFn: ({ signal }) => take(api.GET("/api/v1/rules", { signal })) });
  const groups = useQuery({
    queryKey: ["tenant", slug, "finding-groups", "rule", { rule: id }],
    queryFn: ({ signal }) =>
      take(api.GET("/api/v1/tenants/{tenant}/finding-groups", { params: { path: { tenant: slug }, query: { rule: id } }, signal })),
  });
  const it = rules.data?.items.find((rule) => rule.id === id);
  useTitle(it?.title ?? "Rule");
  if (rules.isPending) return <Loading />;
  if (lost(rules)) return <Failed {...told(rules.error)} onRetry={() => void rules.refetch()} />;
  if (!it) return <Empty page title="There is no such rule">It is not in the packs that are in force.</Empty>;
  const group = groups.data?.items[0];
  const count = (status: "open" | "accepted" | "resolved") =>
    groups.data && <Link key={status} to={to.findings(slug, { rule: id, status })}>{group?.[status] ?? 0}</Link>;
  return (
    <>
      <nav className="crumbs" aria-label="Where you are">
        <Link to={to.rules(slug)}>Rules</Link> <span aria-hidden="true">/</span> <span>{it.id}</span>
      </nav>
      <Head title={it.title} about={it.rationale || it.id}>
        <Link className="button" to={to.findings(slug, { rule: id })}>
          Findings
        </Link>
      </Head>
      <div className="split">
        <div className="stack">
          <Panel title="What a node that complies fulfils">
            <pre className="block" aria-label="Condition" tabIndex={0}>
              {it.condition}
            </pre>
          </Panel>
          <Panel title="What to do">
            <div className="stack">
              <p>
                <Prose text={it.remediation} />
              </p>
              {it.patches.map((patch) => (
                <div key={patch.form}>
                  <p className="muted">
                    <Prose text={`${patch.form}, ${patch.where}. A finding shows it with the values of its node.`} />
                  </p>
                  <Copyable name={`Patch, ${patch.form}`} text={patch.text} />
                </div>
              ))}
            </div>
          </Panel>
          <Panel title="Controls">
            <ul>
              {it.controls.map((control) => (
                <li key={control}>
                  <ControlLink id={control} />
                </li>
              ))}
            </ul>
          </Panel>
        </div>
        <Panel title="About it">
          {lost(groups) && <Failed {...told(groups.error)} onRetry={() => void groups.refetch()} />}
          <Facts
            of={[
              ["Severity", <Badge key="severity" word={it.severity} />],
              ["Judges", it.node_types.join(", ")],
              ["Open", count("open")],
              ["Accepted", count("accepted")],
              ["Resolved", count("resolved")],
              ["Pack", <Link key="pack" to={to.rules(slug, { pack: it.pack })}>{it.pack}</Link>],
              ["Comes from", it.source || "the pack says nothing"],
              ...it.references.map((address, at) => [`Reference ${at + 1}`, <code key={address}>{address}</code>] as [string, React.ReactNode]),
            ]}
          />
        </Panel>
      </div>
    </>
  );
}

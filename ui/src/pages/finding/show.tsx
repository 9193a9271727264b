// One finding: what is wrong, by which values, what to do, and the proof.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useParams } from "react-router";
import { api, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Facts, Json } from "../../design/facts";
import { Head, Panel } from "../../design/panel";
import { Prose } from "../../design/prose";
import { Copyable } from "../../design/secret";
import { Failed, Loading, Notice } from "../../design/state";
import { Moment, When } from "../../design/time";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useWithProof } from "../../session/proof";
import { useTitle } from "../../shell/title";
import { Bundle } from "../evidence/bundle";
import { ControlLink } from "../rule/control";
import { ChangeDialog } from "./change";

export default function FindingPage() {
  const { finding: id = "" } = useParams();
  const tenant = useTenant();
  const { slug } = tenant;
  const path = { tenant: slug, finding: id };
  const client = useQueryClient();
  const withProof = useWithProof();
  const query = useQuery({
    queryKey: ["tenant", slug, "finding", id],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/findings/{finding}", { params: { path }, signal })),
  });
  const [accepting, setAccepting] = useState(false);
  const [failed, setFailed] = useState<unknown>();
  useTitle(query.data?.title ?? "Finding");
  if (query.isPending) return <Loading />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const it = query.data;
  const change = async (work: () => Promise<unknown>) => {
    setFailed(undefined);
    try {
      await withProof(work);
    } catch (error) {
      setFailed(error);
    }
    await client.invalidateQueries({ queryKey: ["tenant", slug] });
  };
  const resolve = () => take(api.POST("/api/v1/tenants/{tenant}/findings/{finding}/resolve", { params: { path } }));
  const reopen = () => take(api.POST("/api/v1/tenants/{tenant}/findings/{finding}/reopen", { params: { path } }));
  const lacks = tenant.lacks("findings:write");
  return (
    <>
      <nav className="crumbs" aria-label="Where you are">
        <Link to={to.findings(slug)}>Findings</Link> <span aria-hidden="true">/</span> <span>{it.rule}</span>
      </nav>
      <Head title={it.title} about={it.message}>
        {it.status === "open" && (
          <>
            <Button reason={lacks} onClick={() => setAccepting(true)}>
              Accept…
            </Button>
            <Button reason={lacks} onClick={() => void change(resolve)}>
              Resolve
            </Button>
          </>
        )}
        {it.status !== "open" && (
          <Button reason={lacks} onClick={() => void change(reopen)}>
            Open again
          </Button>
        )}
      </Head>
      {failed !== undefined && <Failed {...told(failed)} />}
      {it.acceptance && (
        <Notice kind="care">
          Accepted by {it.acceptance.by} until <When at={it.acceptance.until} />: {it.acceptance.reason}
        </Notice>
      )}
      <div className="split">
        <div className="stack">
          <Panel title="Values that made it fail">
            <Json name="Values that made it fail" value={it.values} />
          </Panel>
          <Panel title="What to do">
            <div className="stack">
              <p>
                <Prose text={it.remediation || "The rule says nothing about this."} />
              </p>
              {it.patches?.map((patch) => (
                <div key={patch.form}>
                  <p className="muted">
                    <Prose text={`${patch.form}, ${patch.where}`} />
                  </p>
                  {patch.text ? (
                    <Copyable name={`Patch, ${patch.form}`} text={patch.text} />
                  ) : (
                    <Notice kind="care">
                      <Prose text={`There is no patch for this node: ${patch.missing ?? ""}.`} />
                    </Notice>
                  )}
                </div>
              ))}
            </div>
          </Panel>
          <Panel title="Evidence">
            <Bundle about={{ finding: it.id }} name={`${it.id}.zip`} />
          </Panel>
        </div>
        <Panel title="About it">
          <Facts
            of={[
              ["Severity", <Badge key="severity" word={it.severity} />],
              ["Status", <Badge key="status" word={it.status} />],
              ["Risk", `${it.risk} of 100`],
              [
                "Node",
                tenant.can("nodes:read") ? (
                  <Link key="node" to={to.node(slug, it.node)}>
                    {it.node_name}
                  </Link>
                ) : (
                  it.node_name
                ),
              ],
              [
                "Rule",
                <Link key="rule" to={to.rule(slug, it.rule)}>
                  {it.rule}
                </Link>,
              ],
              ["Controls", it.controls.length > 0 ? it.controls.map((id) => <div key={id}><ControlLink id={id} /></div>) : "none"],
              ["First seen", <Moment key="first" at={it.first_seen} />],
              ["Last changed", <Moment key="changed" at={it.changed_at} />],
              ["Id", <code key="id">{it.id}</code>],
            ]}
          />
        </Panel>
      </div>
      {accepting && <ChangeDialog verb="accept" subject={{ rows: [it] }} onClose={() => setAccepting(false)} />}
    </>
  );
}

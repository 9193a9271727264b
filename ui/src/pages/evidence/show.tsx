// One signed statement: what it is about, which bytes it rests on, who signed it, and that the log has it.
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "react-router";
import { api, take, told } from "../../api/client";
import { Badge } from "../../design/badge";
import { Facts } from "../../design/facts";
import { Head, Panel } from "../../design/panel";
import { Copyable } from "../../design/secret";
import { Empty, Failed, Loading } from "../../design/state";
import { Moment } from "../../design/time";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { Bundle } from "./bundle";
import { about, KINDS } from "./list";

const NOTHING: Record<string, string> = {
  assessment: "A judgement rests on collections, which its bundle has with it.",
  "null-result": "It was asked completely, and there was nothing to keep.",
};

export default function StatementPage() {
  const { evidence = "" } = useParams();
  const tenant = useTenant();
  const { slug } = tenant;
  const params = { path: { tenant: slug, evidence } };
  const query = useQuery({
    queryKey: ["tenant", slug, "statement", evidence],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/evidence/{evidence}", { params, signal })),
    staleTime: Infinity,
  });
  const key = useQuery({ queryKey: ["evidence-key"], queryFn: ({ signal }) => take(api.GET("/api/v1/evidence-key", { signal })) });
  useTitle(query.data ? about(query.data) : "Evidence");
  if (query.isPending) return <Loading />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const it = query.data;
  const judged = it.framework && it.control ? { framework: it.framework, control: it.control } : undefined;
  return (
    <>
      <nav className="crumbs" aria-label="Where you are">
        <Link to={to.evidence(slug)}>Evidence</Link> <span aria-hidden="true">/</span> <span>{about(it)}</span>
      </nav>
      <Head title={about(it)} about={KINDS[it.kind]}>
        {tenant.can("logs:read") && (
          <Link className="button" to={to.audit(slug, { text: it.id })}>
            Its record in the log
          </Link>
        )}
      </Head>
      <div className="split">
        <div className="stack">
          <Panel title="Collected bytes" flush={it.artifacts.length === 0}>
            {it.artifacts.length === 0 ? (
              <Empty title="None of its own">
                {NOTHING[it.kind] ?? "Nothing was kept with it."}
              </Empty>
            ) : (
              <div className="stack">
                <p className="muted">
                  SHA-256 of each artifact, as they were signed. <code>sha256sum</code> of a bundle’s files gives the same.
                </p>
                <Copyable name="Digests" text={it.artifacts.join("\n")} />
              </div>
            )}
          </Panel>
          <Panel title="Bundle">
            {it.kind === "recording" ? (
              <p className="muted">
                What a session showed has a bundle of its own, on <Link to={to.recordings(slug)}>the recording’s page</Link>.
              </p>
            ) : (
              <Bundle about={{ evidence: it.id }} name={`${it.id}.zip`} statement={it.id} />
            )}
          </Panel>
          {judged && (
            <Panel title="Bundle of the control as it stands now">
              <div className="stack">
                <p className="muted">It has the judgement that holds now, which need not be this statement.</p>
                <Bundle about={judged} name={`${judged.framework}-${judged.control}.zip`} statement={it.id} />
              </div>
            </Panel>
          )}
        </div>
        <Panel title="About it">
          <div className="stack">
            {lost(key) && <Failed {...told(key.error)} onRetry={() => void key.refetch()} />}
            <Facts
              of={[
                ["Kind", <Badge key="kind" word={it.kind} />],
                [
                  "About",
                  judged && tenant.can("findings:read") ? (
                    <Link key="about" to={to.control(slug, `${judged.framework}:${judged.control}`)}>
                      {about(it)}
                    </Link>
                  ) : (
                    <span key="about" className="mono">
                      {about(it)}
                    </span>
                  ),
                ],
                ["Signed", <Moment key="at" at={it.created_at} />],
                ["Key", <code key="key">{it.key}</code>],
                ["This key", lost(key) ? "unknown" : key.isPending ? "…" : key.data.fingerprint === it.key ? "signs today" : "signed earlier, and signs no more"],
                ["Id", <code key="id">{it.id}</code>],
              ]}
            />
          </div>
        </Panel>
      </div>
    </>
  );
}

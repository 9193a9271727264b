// The evidence of a tenant.
import { Link } from "react-router";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Select } from "../../design/field";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Listing, useFilter, useFilters } from "../../list/keyset";
import { SearchField } from "../../list/search";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { RunJob } from "../job/run";

type Evidence = Schemas["Evidence"];

/** What was signed, by the words of the API. */
export const KINDS: Record<string, string> = {
  "api-response": "Answers of an API",
  config: "Configuration that was read",
  scan: "What a scan saw",
  "null-result": "Asked completely, and nothing there",
  assessment: "How a control or a finding was judged",
  attestation: "What somebody attests",
  recording: "A session that was recorded",
};

/** A recording has neither a control nor a scope. */
export const about = (it: Evidence) =>
  it.control ? `${it.framework} ${it.control}` : (it.scope ?? (it.kind === "recording" ? "a recorded session" : it.id));

export default function EvidencePage() {
  useTitle("Evidence");
  const { slug } = useTenant();
  const [kind, setKind] = useFilter("kind");
  const [scope, setScope] = useFilter("scope");
  const [{ framework, control }, setJudged] = useFilters(["framework", "control"]);
  const filters = Object.fromEntries(Object.entries({ kind, scope, framework, control }).filter(([, value]) => value));
  const columns: Column<Evidence>[] = [
    {
      head: "About",
      kind: "main",
      cell: (it) => (
        <>
          <Link to={to.statement(slug, it.id)}>{about(it)}</Link>
          <div className="under mono">{it.id}</div>
        </>
      ),
    },
    { head: "Kind", cell: (it) => <Badge word={it.kind} /> },
    { head: "Signing key", cell: (it) => <code title={it.key}>{it.key.slice(0, 12)}…</code> },
    { head: "Signed", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
  ];
  return (
    <>
      <Head title="Evidence" about="Signed statements: how each scope was read, and how each control and finding was judged.">
        <Link className="button" to={to.verify(slug)}>
          Verify a bundle
        </Link>
      </Head>
      <div className="filters">
        <Select label="Kind" wide value={kind} onChange={(event) => setKind(event.target.value)}>
          <option value="">All</option>
          {Object.entries(KINDS).map(([word, what]) => (
            <option key={word} value={word}>
              {what}
            </option>
          ))}
        </Select>
        {(framework || control) && (
          <Button onClick={() => setJudged({ framework: "", control: "" })}>
            {`${framework} ${control}`.trim()} <span aria-label="remove">×</span>
          </Button>
        )}
        <SearchField label="Scope" text={scope} onSearch={setScope} />
      </div>
      <section className="panel">
        <Listing
          name="Evidence"
          queryKey={["tenant", slug, "evidence", filters]}
          load={(page, signal) =>
            take(api.GET("/api/v1/tenants/{tenant}/evidence", { params: { path: { tenant: slug }, query: { ...filters, ...page } }, signal }))
          }
          columns={columns}
          rowKey={(it) => it.id}
          exported={({ id, kind, scope, framework, control, key, created_at }) => ({ id, kind, scope, framework, control, key, created_at })}
          empty={
            <Empty title="No evidence here" action={<RunJob />}>
              Evidence comes with every discovery job and every judgement. Run a job, or choose other filters.
            </Empty>
          }
        />
      </section>
    </>
  );
}

// The coverage ledger: what each source last said of each scope, and what it left out.
import { Link } from "react-router";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Select, TextField } from "../../design/field";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Listing, useFilter } from "../../list/keyset";
import { SearchField } from "../../list/search";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { RunJob } from "../job/run";

type Entry = Schemas["CoverageEntry"];

const VERDICTS = ["complete", "unchanged", "partial", "denied", "throttled", "failed", "absent", "unfinished", "not_tried"];

export default function CoveragePage() {
  useTitle("Coverage");
  const tenant = useTenant();
  const { slug } = tenant;
  const [verdict, setVerdict] = useFilter("verdict");
  const [source, setSource] = useFilter("source");
  const [kind, setKind] = useFilter("kind");
  const [scope, setScope] = useFilter("scope");
  const filters = Object.fromEntries(Object.entries({ verdict, source, kind, scope }).filter(([, of]) => of));
  const words = (label: string, placeholder: string, text: string, set: (text: string) => void) => (
    <TextField
      key={`${label} ${text}`}
      label={label}
      placeholder={placeholder}
      defaultValue={text}
      onBlur={(event) => {
        if (event.target.value.trim() !== text) set(event.target.value.trim());
      }}
      onKeyDown={(event) => {
        if (event.key === "Enter") set(event.currentTarget.value.trim());
      }}
    />
  );
  const columns: Column<Entry>[] = [
    {
      head: "Scope",
      kind: "main",
      cell: (it) => (
        <>
          {it.evidence && tenant.can("evidence:read") ? (
            <Link className="mono" to={to.statement(slug, it.evidence)}>
              {it.scope}
            </Link>
          ) : (
            <span className="mono">{it.scope}</span>
          )}
          {it.verdict === "not_tried" && <div className="under">The newest job left it out; last: {it.last_verdict}.</div>}
          {it.reason && <div className="under">{it.reason}</div>}
        </>
      ),
    },
    { head: "Kind", cell: (it) => <Link to={to.coverage(slug, { kind: it.kind })}>{it.kind}</Link> },
    { head: "Source", cell: (it) => <Link to={to.coverage(slug, { source: it.source })}>{it.source}</Link> },
    { head: "Verdict", cell: (it) => <Badge word={it.verdict.replace("_", " ")} /> },
    { head: "Readings", kind: "number", cell: (it) => it.generation.toLocaleString("en") },
    { head: "Last tried", kind: "nowrap", cell: (it) => <When at={it.tried_at} /> },
    { head: "Last complete", kind: "nowrap", cell: (it) => <When at={it.complete_at} /> },
    {
      head: "Job",
      cell: (it) =>
        it.job && tenant.can("jobs:manage") ? (
          <Link to={to.job(slug, it.job)} aria-label={`Job that read ${it.scope}`}>
            Job
          </Link>
        ) : (
          ""
        ),
    },
  ];
  return (
    <>
      <Head title="Coverage" about="What was read of which source, how much of it, and what was left out. Only a scope that was read completely closes what is gone." />
      <div className="filters">
        <Select label="Verdict" value={verdict} onChange={(event) => setVerdict(event.target.value)}>
          <option value="">All</option>
          {VERDICTS.map((it) => (
            <option key={it} value={it}>
              {it.replace("_", " ")}
            </option>
          ))}
        </Select>
        {words("Source", "aws", source, setSource)}
        {words("Kind", "ec2.instances", kind, setKind)}
        <SearchField label="Scope begins with" text={scope} onSearch={setScope} />
      </div>
      <section className="panel">
        <Listing
          name="Coverage"
          queryKey={["tenant", slug, "coverage", filters]}
          load={(page, signal) => {
            const params = { path: { tenant: slug }, query: { ...filters, ...page } };
            return take(api.GET("/api/v1/tenants/{tenant}/coverage", { params, signal }));
          }}
          columns={columns}
          rowKey={(it) => `${it.scope} ${it.source}`}
          exported={({ scope, source, kind, verdict, last_verdict, generation, reason, tried_at, complete_at, job, evidence }) => ({
            scope,
            source,
            kind,
            verdict,
            last_verdict,
            generation,
            reason,
            tried_at,
            complete_at,
            job,
            evidence,
          })}
          empty={
            <Empty title="Nothing here" action={<RunJob />}>
              Each scope that a job or an agent read, or could not read, has its line.
            </Empty>
          }
        />
      </section>
    </>
  );
}

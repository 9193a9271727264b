// The evidence of a tenant.
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
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";

type Evidence = Schemas["Evidence"];

const COLUMNS: Column<Evidence>[] = [
  {
    head: "About",
    kind: "main",
    cell: (it) => (
      <>
        {it.control ? `${it.framework} ${it.control}` : (it.scope ?? "a finding")}
        <div className="under mono">{it.id}</div>
      </>
    ),
  },
  { head: "Kind", cell: (it) => <Badge word={it.kind} /> },
  { head: "Artifacts", kind: "number", cell: (it) => it.artifacts.length },
  { head: "Signing key", cell: (it) => <code title={it.key}>{it.key.slice(0, 12)}…</code> },
  { head: "Signed", kind: "nowrap", cell: (it) => <When at={it.created_at} /> },
];

export default function EvidencePage() {
  useTitle("Evidence");
  const { slug } = useTenant();
  const [kind, setKind] = useFilter("kind");
  const [scope, setScope] = useFilter("scope");
  const filters = { kind: kind || undefined, scope: scope || undefined };
  return (
    <>
      <Head title="Evidence" about="Signed statements: how each scope was read, and how each control and finding was judged.">
        <Link className="button" to={to.verify(slug)}>
          Verify a bundle
        </Link>
      </Head>
      <div className="filters">
        <Select label="Kind" value={kind} onChange={(event) => setKind(event.target.value)}>
          <option value="">All</option>
          <option value="collection">Collections</option>
          <option value="assessment">Assessments</option>
          <option value="attestation">Attestations</option>
        </Select>
        <SearchField key={scope} label="Scope" text={scope} onSearch={setScope} />
      </div>
      <section className="panel">
        <Listing
          name="Evidence"
          queryKey={["tenant", slug, "evidence", filters]}
          load={(page, signal) =>
            take(api.GET("/api/v1/tenants/{tenant}/evidence", { params: { path: { tenant: slug }, query: { ...filters, ...page } }, signal }))
          }
          columns={COLUMNS}
          rowKey={(it) => it.id}
          exported={({ id, kind, scope, framework, control, key, created_at }) => ({ id, kind, scope, framework, control, key, created_at })}
          empty={
            <Empty title="No evidence here">
              Evidence comes with every discovery job and every judgement. Run a job, or choose other filters.
            </Empty>
          }
        />
      </section>
    </>
  );
}

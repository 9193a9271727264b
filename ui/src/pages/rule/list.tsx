// The rules that are in force: how bad a violation is, what they check, for which controls, and where they come from.
import { Link } from "react-router";
import { api, type Schemas, take } from "../../api/client";
import { Badge } from "../../design/badge";
import { Select } from "../../design/field";
import { Head } from "../../design/panel";
import { Empty } from "../../design/state";
import type { Column } from "../../design/table";
import { Listing, useFilter } from "../../list/keyset";
import { SearchField } from "../../list/search";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";

type Rule = Schemas["Rule"];

const SEVERITIES = ["critical", "high", "medium", "low", "info"];

export default function RulesPage() {
  useTitle("Rules");
  const { slug } = useTenant();
  const [severity, setSeverity] = useFilter("severity");
  const [pack, setPack] = useFilter("pack");
  const [text, setText] = useFilter("text");
  const fits = (it: Rule) =>
    (!severity || it.severity === severity) &&
    (!pack || it.pack === pack) &&
    (!text || `${it.id} ${it.title} ${it.node_types.join(" ")} ${it.controls.join(" ")}`.toLowerCase().includes(text.toLowerCase()));
  const columns = (rules: Rule[]): Column<Rule>[] => [
    { head: "Severity", cell: (it) => <Badge word={it.severity} /> },
    {
      head: "Rule",
      kind: "main",
      cell: (it) => (
        <>
          <Link to={to.rule(slug, it.id)}>{it.title}</Link>
          <div className="under">{it.id}</div>
        </>
      ),
    },
    { head: "Judges", cell: (it) => it.node_types.map((type) => <div key={type}><code>{type}</code></div>) },
    { head: "Controls", kind: "number", cell: (it) => it.controls.length },
    { head: "Patch", cell: (it) => (it.patches.length > 0 ? it.patches.map((patch) => patch.form).join(", ") : "none") },
    { head: `Pack (${new Set(rules.map((it) => it.pack)).size})`, kind: "nowrap", cell: (it) => it.pack },
  ];
  return (
    <>
      <Head title="Rules" about="What every node of a type is judged by. Packs of your own can stand beside those that are shipped." />
      <div className="filters">
        <Select label="Severity" value={severity} onChange={(event) => setSeverity(event.target.value)}>
          <option value="">All</option>
          {SEVERITIES.map((it) => (
            <option key={it}>{it}</option>
          ))}
        </Select>
        <SearchField label="Rule, node type or control contains" text={text} onSearch={setText} />
        {pack && (
          <button type="button" className="button plain" onClick={() => setPack("")}>
            Pack {pack} <span aria-label="remove">×</span>
          </button>
        )}
      </div>
      <section className="panel">
        <Listing
          name="Rules"
          queryKey={["rules", severity, pack, text]}
          load={async (_, signal) => {
            const all = await take(api.GET("/api/v1/rules", { signal }));
            return { items: all.items.filter(fits) };
          }}
          columns={columns}
          rowKey={(it) => it.id}
          exported={(it) => ({
            id: it.id,
            severity: it.severity,
            title: it.title,
            node_types: it.node_types.join(" "),
            controls: it.controls.join(" "),
            pack: it.pack,
            source: it.source,
          })}
          empty={
            <Empty title="No rule matches" action={<Link to={to.rules(slug)}>All rules</Link>}>
              Choose another severity, or search for another part of the name.
            </Empty>
          }
        />
      </section>
    </>
  );
}

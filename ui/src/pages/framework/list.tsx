// Frameworks and packs: what is judged by, in which version, and how much of each framework the rules support.
import { Link } from "react-router";
import { api, type Schemas, take, told } from "../../api/client";
import { Head, Panel } from "../../design/panel";
import { Empty, Failed } from "../../design/state";
import type { Column } from "../../design/table";
import { When } from "../../design/time";
import { Listing } from "../../list/keyset";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { useJudging } from "../control/judge";
import { share, usePosture } from "./posture";

type Framework = Schemas["Framework"];
type Pack = Schemas["Pack"];

export default function FrameworksPage() {
  useTitle("Frameworks");
  const { slug } = useTenant();
  const judging = useJudging();
  const posture = usePosture();
  // How they stand comes beside the list: until it is there, nobody can say that one was not judged.
  const absent = posture.data ? undefined : lost(posture) ? "unknown" : "…";
  const standing = (framework: string) => posture.data?.items.find((it) => it.framework === framework);
  const frameworks: Column<Framework>[] = [
    {
      head: "Framework",
      kind: "main",
      cell: (it) => (
        <>
          <Link to={to.controls(slug, { framework: it.id })}>{it.title}</Link>
          <div className="under">{it.id}</div>
        </>
      ),
    },
    { head: "Version", kind: "nowrap", cell: (it) => it.version },
    { head: "Controls with rules", kind: "number", cell: (it) => `${it.supported} of ${it.controls}` },
    { head: "Rules", kind: "number", cell: (it) => it.rules },
    { head: "Passes", kind: "number", cell: (it) => absent ?? share(standing(it.id)?.percent) },
    { head: "Judged", kind: "nowrap", cell: (it) => absent ?? <When at={standing(it.id)?.evaluated_at} /> },
  ];
  const packs: Column<Pack>[] = [
    {
      head: "Pack",
      kind: "main",
      cell: (it) => (
        <>
          <Link to={to.rules(slug, { pack: it.id })}>{it.title}</Link>
          <div className="under">{it.description}</div>
        </>
      ),
    },
    { head: "Version", kind: "nowrap", cell: (it) => it.version },
    { head: "Rules", kind: "number", cell: (it) => it.rules },
    { head: "Supports", cell: (it) => it.frameworks.map((framework) => <div key={framework}>{framework}</div>) },
    { head: "Comes from", cell: (it) => it.source },
  ];
  return (
    <>
      <Head title="Frameworks" about="What everything is judged by, in which version. A control that no rule supports is shown by attestation.">
        {judging.button}
      </Head>
      {judging.outcome}
      {lost(posture) && <Failed {...told(posture.error)} onRetry={() => void posture.refetch()} />}
      <section className="panel" aria-label="Frameworks">
        <Listing
          name="Frameworks"
          queryKey={["frameworks"]}
          load={(_, signal) => take(api.GET("/api/v1/frameworks", { signal }))}
          columns={frameworks}
          rowKey={(it) => it.id}
          exported={(it) => ({
            id: it.id,
            title: it.title,
            version: it.version,
            controls: it.controls,
            supported: it.supported,
            rules: it.rules,
            packs: it.packs.join(" "),
            percent: absent ? "unknown" : standing(it.id)?.percent,
          })}
          empty={<Empty title="No frameworks">They come with the server; this one was built without any.</Empty>}
        />
      </section>
      <Panel title="Packs of rules" flush>
        <Listing
          name="Packs"
          queryKey={["packs"]}
          pageIn="packs"
          load={(_, signal) => take(api.GET("/api/v1/packs", { signal }))}
          columns={packs}
          rowKey={(it) => it.id}
          exported={(it) => ({ ...it, frameworks: it.frameworks.join(" ") })}
          empty={
            <Empty title="No packs">
              Nothing is judged without rules: <code>discovery.packs</code> in the configuration names a folder of your own.
            </Empty>
          }
        />
      </Panel>
    </>
  );
}

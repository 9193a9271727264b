// How each framework stands: of what was judged, how much passes, and how that went day by day.
import { Link } from "react-router";
import { type Schemas, told } from "../../api/client";
import { Panel } from "../../design/panel";
import { Empty, Failed, Loading } from "../../design/state";
import { Table } from "../../design/table";
import { Trend, told as inWords } from "../../design/trend";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { DAYS, share, usePosture } from "../framework/posture";

type Framework = Schemas["Posture"];
type Day = Schemas["PostureDay"];

/** The days on which something changed, with the first. */
const turns = (history: Day[]) =>
  history.filter((day, at) => {
    const before = history[at - 1];
    return !before || before.percent !== day.percent || before.open_findings !== day.open_findings;
  });

export function Posture() {
  const { slug } = useTenant();
  const query = usePosture();
  if (query.isPending || lost(query)) {
    return (
      <Panel title="Frameworks">
        {query.isPending ? <Loading rows={3} /> : <Failed {...told(query.error)} onRetry={() => void query.refetch()} />}
      </Panel>
    );
  }
  const rows = query.data.items;
  return (
    <Panel title="Frameworks" flush action={<Link to={to.controls(slug)}>All controls</Link>}>
      {rows.length === 0 ? (
        <Empty title="Nothing was judged yet">Each framework is judged at the end of the first discovery job.</Empty>
      ) : (
        <>
          <Standing rows={rows} slug={slug} />
          <details className="more">
            <summary>Day by day</summary>
            <Table
              name="Frameworks day by day"
              rows={rows.flatMap(({ framework, history }) => turns(history).map((day) => ({ framework, ...day })).reverse())}
              rowKey={(it) => `${it.framework} ${it.day}`}
              columns={[
                { head: "Framework", cell: (it) => it.framework },
                { head: "Since", kind: "nowrap", cell: (it) => it.day },
                { head: "Passes", kind: "number", cell: (it) => share(it.percent) },
                { head: "Fail", kind: "number", cell: (it) => it.fail },
                { head: "Open findings", kind: "number", cell: (it) => it.open_findings.toLocaleString("en") },
              ]}
            />
          </details>
        </>
      )}
    </Panel>
  );
}

function Standing({ rows, slug }: { rows: Framework[]; slug: string }) {
  return (
    <Table
      name="Frameworks"
      rows={rows}
      rowKey={(it) => it.framework}
      columns={[
        { head: "Framework", cell: (it) => <Link to={to.controls(slug, { framework: it.framework })}>{it.framework}</Link> },
        {
          head: "Controls that pass",
          cell: (it) => {
            const assessed = it.pass + it.partial + it.fail;
            return (
              <>
                <strong>{share(it.percent)}</strong>
                <div className="under">
                  {it.pass} of {assessed} judged
                </div>
              </>
            );
          },
        },
        {
          head: `In ${DAYS} days`,
          cell: (it) => {
            const days = it.history.map((day) => day.percent ?? null);
            return (
              <>
                <Trend name={it.framework} days={days} />
                <div className="under">{inWords(days)}</div>
              </>
            );
          },
        },
        {
          head: "Fail",
          kind: "number",
          cell: (it) => <Link to={to.controls(slug, { framework: it.framework, result: "fail" })}>{it.fail}</Link>,
        },
        { head: "Not assessed", kind: "number", cell: (it) => it.not_assessed },
        { head: "Open findings", kind: "number", cell: (it) => it.open_findings.toLocaleString("en") },
      ]}
    />
  );
}

// What is looked at, and what can be done from there: paths, effects, neighbours.
import type { UseQueryResult } from "@tanstack/react-query";
import { Link } from "react-router";
import { type Schemas, told } from "../../api/client";
import { Button } from "../../design/button";
import { Facts } from "../../design/facts";
import { Panel } from "../../design/panel";
import { Empty, Failed, Loading } from "../../design/state";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { type Element, findingsOf, labelOf } from "./scene";
import { type FilterName, type Shown, WAYS } from "./state";

type Change = (change: Partial<Shown>, quietly?: boolean) => void;

/** What is open, where it is said: not to whoever may not read findings, and not of the past. */
function open(findings: Element["findings"]): [string, string][] {
  return findings ? [["Open findings", findingsOf(findings) || "none"]] : [];
}

interface AsideProps {
  shown: Shown;
  change: Change;
  element: Element | undefined;
  onEnter: (id: string) => void;
  onBack: (id: string) => void;
}

export function Aside({ shown, change, element, onEnter, onBack }: AsideProps) {
  const { slug } = useTenant();
  if (!element) {
    return (
      <Panel title="Nothing is chosen">
        <p className="muted">Click an element, or go to the drawing with Tab and use the arrow keys.</p>
      </Panel>
    );
  }
  const name = labelOf(element, shown.by);
  const counts: [string, React.ReactNode][] = [
    ["Nodes", element.nodes.toLocaleString("en")],
    ...(element.unseen > 0 ? [["Only named", element.unseen.toLocaleString("en")] as [string, React.ReactNode]] : []),
    ["Edges inside", element.inside.toLocaleString("en")],
    ...open(element.findings),
  ];
  if (element.kind === "node" && element.node) {
    const { node } = element;
    const alone = shown.nodes.includes(node.id);
    return (
      <Panel title={name}>
        <div className="stack">
          <Facts
            of={[
              ["Node", <Link key="id" to={to.node(slug, node.id)}>{node.id}</Link>],
              ["Type", <code key="type">{node.type}</code>],
              ["Account", node.account],
              ["Network", node.network || "none"],
              ["Region", node.region],
              ["Edges", node.edges.toLocaleString("en")],
              ...open(node.findings),
              ...(node.seen ? [] : [["Seen", "no: only edges name it"] as [string, React.ReactNode]]),
            ]}
          />
          <div className="row">
            <Button small kind="primary" onClick={() => onEnter(`n:${node.id}`)}>
              Bring in its neighbours
            </Button>
            <Button small onClick={() => change({ reach: node.id, from: undefined, to: undefined })}>
              What it affects
            </Button>
            <Button small onClick={() => change({ from: node.id, reach: undefined })}>
              Path from here
            </Button>
            <Button small onClick={() => change({ to: node.id, reach: undefined })}>
              Path to here
            </Button>
            {alone && (
              <Button small kind="quiet" onClick={() => onBack(`n:${node.id}`)}>
                Take it out
              </Button>
            )}
          </div>
        </div>
      </Panel>
    );
  }
  const group = element.group ?? undefined;
  if (group === undefined) {
    return (
      <Panel title={name}>
        <div className="stack">
          <Facts of={counts} />
          <p className="muted">They did not fit. A filter, or another property to group by, shows them.</p>
        </div>
      </Panel>
    );
  }
  const filter = (by: Shown["by"]) => change({ by, filters: { ...shown.filters, [shown.by as FilterName]: group }, open: [], at: undefined });
  const isOpen = shown.open.includes(group);
  return (
    <Panel title={name}>
      <div className="stack">
        <Facts of={counts} />
        <div className="row">
          {isOpen ? (
            <Button small kind="primary" onClick={() => onBack(`r:${group}`)}>
              Close it
            </Button>
          ) : (
            <Button small kind="primary" onClick={() => onEnter(`g:${group}`)}>
              Open it
            </Button>
          )}
          {WAYS.filter((way) => way !== shown.by && shown.filters[way] === undefined).map((way) => (
            <Button key={way} small onClick={() => filter(way)}>
              Only this, by {way === "kind" ? "type" : way === "provider" ? "source" : way}
            </Button>
          ))}
        </div>
        {element.kind === "rest" && <p className="muted">
            The nodes with {element.findings ? "the worst findings and " : ""}the most edges are drawn; these are the others.
          </p>}
      </div>
    </Panel>
  );
}

interface PathProps {
  shown: Shown;
  change: Change;
  query: UseQueryResult<Schemas["GraphPath"]>;
}

export function PathPanel({ shown, change, query }: PathProps) {
  const { slug } = useTenant();
  const close = (
    <Button small kind="quiet" onClick={() => change({ from: undefined, to: undefined })}>
      Close
    </Button>
  );
  if (!shown.from || !shown.to) {
    return (
      <Panel title="A path" action={close}>
        <p>
          {shown.from ? "From" : "To"} <code>{shown.from ?? shown.to}</code>. Choose another node, and “Path {shown.from ? "to" : "from"} here”.
        </p>
      </Panel>
    );
  }
  return (
    <Panel title="The shortest path" action={close}>
      {query.isPending ? (
        <Loading rows={3} />
      ) : lost(query) ? (
        <Failed {...told(query.error)} onRetry={() => void query.refetch()} />
      ) : !query.data.found ? (
        <Empty title="No path">These two are not connected within 16 edges, whichever way these point.</Empty>
      ) : (
        <ol className="graph-list" aria-label="Nodes of the path" tabIndex={0}>
          {query.data.nodes.map((node, at) => {
            const step = query.data.steps[at - 1];
            return (
              <li key={node.id}>
                {step && <div className="small muted">{step.forward ? `${step.types.join(", ")} →` : `← ${step.types.join(", ")}`}</div>}
                <Link to={to.node(slug, node.id)}>{node.name}</Link> <span className="muted small">{node.type}</span>
              </li>
            );
          })}
        </ol>
      )}
    </Panel>
  );
}

interface AffectedProps {
  shown: Shown;
  change: Change;
  query: UseQueryResult<Schemas["GraphReach"]>;
}

export function Affected({ shown, change, query }: AffectedProps) {
  const { slug } = useTenant();
  const close = (
    <Button small kind="quiet" onClick={() => change({ reach: undefined })}>
      Close
    </Button>
  );
  return (
    <Panel title="What it affects" action={close}>
      {query.isPending ? (
        <Loading rows={4} />
      ) : lost(query) ? (
        <Failed {...told(query.error)} onRetry={() => void query.refetch()} />
      ) : (
        <div className="stack">
          <p>
            <strong>{(query.data.nodes_total + query.data.unseen_total).toLocaleString("en")} nodes</strong> are affected by what happens to{" "}
            <Link to={to.node(slug, shown.reach ?? "")}>{shown.reach}</Link>
            {query.data.goes_on ? ", and more beyond 16 edges" : ""}.
          </p>
          <Facts
            of={[
              ...open(query.data.findings),
              ["Edges away", query.data.distances.map((count, at) => `${at + 1}: ${count.toLocaleString("en")}`).join(", ") || "nothing"],
              ...query.data.kinds.slice(0, 6).map((kind) => [kind.value, kind.count.toLocaleString("en")] as [string, React.ReactNode]),
            ]}
          />
          {query.data.nodes.length > 0 && (
            <ul className="graph-list" aria-label="The nearest that are affected" tabIndex={0}>
              {query.data.nodes.map((node) => (
                <li key={node.id}>
                  <Link to={to.node(slug, node.id)}>{node.name}</Link> <span className="muted small">{node.type}</span>
                </li>
              ))}
            </ul>
          )}
        </div>
      )}
    </Panel>
  );
}

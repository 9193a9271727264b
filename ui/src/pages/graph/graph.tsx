// The asset graph: groups that are opened, nodes beside them, paths, what a node affects, now and at any moment before.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useRef, useState } from "react";
import { Link } from "react-router";
import { api, take, told } from "../../api/client";
import { Button } from "../../design/button";
import { count } from "../../design/count";
import { Select, TextField } from "../../design/field";
import { Head, Panel } from "../../design/panel";
import { Empty, Failed, Loading, Notice } from "../../design/state";
import { save, written as csv } from "../../list/export";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useTitle } from "../../shell/title";
import { Canvas, type Handle } from "./canvas";
import "./graph.css";
import { Affected, Aside, PathPanel } from "./aside";
import { findingsOf, labelOf, type Scene, sceneOf } from "./scene";
import { FILTERS, type FilterName, NODES_MAX, type Shown, sketch, useShown, WAYS } from "./state";
import { ElementTable, LinkTable } from "./tables";
import { TimeBar } from "./time";

export default function GraphPage() {
  useTitle("Graph");
  const tenant = useTenant();
  const { slug } = tenant;
  const [shown, change] = useShown();
  const handle = useRef<Handle>(null);

  const path = usePath(slug, shown);
  const reach = useReach(slug, shown);
  const besides = useMemo(
    () => [
      ...(path.data?.nodes.map((node) => node.id) ?? []),
      ...(reach.data ? [shown.reach ?? "", ...reach.data.nodes.slice(0, 100).map((node) => node.id)] : []),
    ],
    [path.data, reach.data, shown.reach],
  );
  const body = sketch(shown, besides);
  const query = useQuery({
    queryKey: ["tenant", slug, "graph", body],
    queryFn: ({ signal }) => take(api.POST("/api/v1/tenants/{tenant}/graph/view", { params: { path: { tenant: slug } }, body, signal })),
    placeholderData: keepPreviousData,
    // A large graph is read again in the background: the newer one is shown when it is there.
    refetchInterval: (it) => (it.state.data?.current === false ? 4_000 : false),
  });
  const drawing = query.data;
  const scene = useMemo(() => (drawing ? sceneOf(drawing) : undefined), [drawing]);
  const marked = useMemo(() => (scene ? marks(scene, path.data, reach.data, shown.reach) : undefined), [scene, path.data, reach.data, shown.reach]);
  const steps = useMemo(() => stepsOf(path.data), [path.data]);

  const [more, setMore] = useState<string>();
  const neighbors = async (id: string) => {
    try {
      const found = await take(
        api.GET("/api/v1/tenants/{tenant}/nodes/{node}/neighbors", {
          params: { path: { tenant: slug, node: id }, query: { limit: "40", ...(shown.asOf ? { as_of: shown.asOf } : {}) } },
        }),
      );
      const room = NODES_MAX - shown.nodes.filter((node) => node !== id).length - 1;
      const brought = found.items.map((node) => node.id).filter((node) => !shown.nodes.includes(node));
      change({ nodes: [...new Set([...shown.nodes, id, ...brought.slice(0, room)])] });
      const left = brought.length > room || found.next_page;
      setMore(left ? `Not all neighbours fit: ${Math.min(room, brought.length)} are shown. The node’s page lists them.` : undefined);
    } catch (error) {
      setMore(told(error).message);
    }
  };
  const enter = (id: string) => {
    const element = scene?.points[scene.place.get(id) ?? -1]?.element;
    if (element?.kind === "group" && element.group !== undefined && element.group !== null) change({ open: [...shown.open, element.group], at: undefined });
    else if (element?.node) void neighbors(element.node.id);
  };
  const back = (id: string) => {
    const element = scene?.points[scene.place.get(id) ?? -1]?.element;
    if (element?.node && shown.nodes.includes(element.node.id)) change({ nodes: shown.nodes.filter((node) => node !== element.node?.id), at: undefined });
    else {
      const group = element?.group ?? element?.node?.[shown.by === "kind" ? "type" : shown.by];
      if (group !== undefined && shown.open.includes(group)) change({ open: shown.open.filter((open) => open !== group), at: `g:${group}` });
    }
  };

  const at = scene?.points[scene.place.get(shown.at ?? "") ?? -1]?.element;
  return (
    <>
      <Head title="Graph" about="Accounts, networks and types as groups; open one to see the nodes in it.">
        {scene && scene.points.length > 0 && drawing && (
          <>
            {!shown.table && (
              <>
                <Button small kind="quiet" onClick={() => handle.current?.fit()}>
                  Show all
                </Button>
                <Button small kind="quiet" onClick={() => void handle.current?.picture().then((blob) => blob && save("graph.png", "image/png", blob))}>
                  Save PNG
                </Button>
              </>
            )}
            <Button small kind="quiet" onClick={() => save("graph.json", "application/json", JSON.stringify(drawing, null, 2))}>
              Save JSON
            </Button>
            <Button small kind="quiet" onClick={() => save("graph.csv", "text/csv", csv(rows(scene)))}>
              Export CSV
            </Button>
            <Button small onClick={() => change({ table: !shown.table })}>
              {shown.table ? "Show the drawing" : "Show as a table"}
            </Button>
          </>
        )}
      </Head>
      <Bar shown={shown} change={change} />
      <TimeBar shown={shown} change={change} />
      {more && <Notice kind="care">{more}</Notice>}
      {drawing && !drawing.current && <Notice>The graph has changed since this was read: it is being read again.</Notice>}
      {drawing && (drawing.missing.length > 0 || drawing.links_left > 0) && (
        <Notice kind="care">
          {drawing.missing.length > 0 && `${drawing.missing.length} of the nodes that were asked for are not there${shown.asOf ? " at this moment" : ""}. `}
          {drawing.links_left > 0 && `${drawing.links_left.toLocaleString("en")} connections of ${drawing.edges_left.toLocaleString("en")} edges did not fit.`}
        </Notice>
      )}
      {query.isPending ? (
        <Loading rows={10} />
      ) : lost(query) ? (
        <Failed {...told(query.error)} onRetry={() => void query.refetch()} />
      ) : !scene || scene.points.length === 0 ? (
        <Nothing shown={shown} change={change} />
      ) : (
        <div className="graph-split">
          <div className="stack">
            {shown.table ? (
              <>
                <ElementTable scene={scene} shown={shown} onEnter={enter} onLook={(id) => change({ at: id }, true)} />
                <LinkTable scene={scene} />
              </>
            ) : (
              <Canvas
                scene={scene}
                at={shown.at}
                onLook={(id) => change({ at: id }, true)}
                onEnter={enter}
                onBack={back}
                marked={marked}
                path={steps}
                handle={handle}
              />
            )}
            <Legend scene={scene} total={drawing?.nodes_total ?? undefined} edges={drawing?.edges_total ?? undefined} />
          </div>
          <div className="stack">
            {(shown.from || shown.to) && <PathPanel shown={shown} change={change} query={path} />}
            {shown.reach && <Affected shown={shown} change={change} query={reach} />}
            <Aside shown={shown} change={change} element={at} onEnter={enter} onBack={back} />
          </div>
        </div>
      )}
    </>
  );
}

function usePath(slug: string, shown: Shown) {
  const { from, to: end, asOf } = shown;
  return useQuery({
    queryKey: ["tenant", slug, "graph-path", from, end, asOf ?? ""],
    enabled: Boolean(from && end),
    queryFn: ({ signal }) =>
      take(
        api.GET("/api/v1/tenants/{tenant}/nodes/{node}/path", {
          params: { path: { tenant: slug, node: from ?? "" }, query: { to: end ?? "", direction: "any", ...(asOf ? { as_of: asOf } : {}) } },
          signal,
        }),
      ),
  });
}

function useReach(slug: string, shown: Shown) {
  const { reach, asOf, by } = shown;
  return useQuery({
    queryKey: ["tenant", slug, "graph-reach", reach, by, asOf ?? ""],
    enabled: Boolean(reach),
    queryFn: ({ signal }) =>
      take(
        api.GET("/api/v1/tenants/{tenant}/nodes/{node}/reach", {
          params: { path: { tenant: slug, node: reach ?? "" }, query: { by, ...(asOf ? { as_of: asOf } : {}) } },
          signal,
        }),
      ),
  });
}

type Path = ReturnType<typeof usePath>["data"];
type Reach = ReturnType<typeof useReach>["data"];

/** What stands out: what is on the path, or what is affected and the groups that hold some of it. */
function marks(scene: Scene, path: Path, reach: Reach, start: string | undefined): Set<string> | undefined {
  if (!path?.found && !reach) return undefined;
  const out = new Set<string>();
  for (const node of path?.nodes ?? []) out.add(`n:${node.id}`);
  if (reach) {
    if (start) out.add(`n:${start}`);
    for (const node of reach.nodes) out.add(`n:${node.id}`);
    for (const group of reach.groups) for (const kind of ["g", "r"]) out.add(`${kind}:${group.value}`);
    for (const point of scene.points) if (point.element.kind === "others") out.add(point.id);
  }
  return out;
}

function stepsOf(path: Path): Set<string> {
  const out = new Set<string>();
  path?.nodes.forEach((node, at) => {
    const next = path.nodes[at + 1];
    if (next) for (const [a, b] of [[node, next], [next, node]] as const) out.add(`n:${a.id} n:${b.id}`);
  });
  return out;
}

function rows(scene: Scene) {
  return scene.points.map(({ element, label, id }) => ({
    kind: element.kind,
    id: element.node?.id ?? element.group ?? "",
    name: label,
    type: element.node?.type ?? "",
    account: element.node?.account ?? "",
    network: element.node?.network ?? "",
    nodes: element.nodes,
    only_named: element.unseen,
    edges_inside: element.inside,
    connections: scene.beside[scene.place.get(id) ?? -1]?.length ?? 0,
    open_findings: element.findings ? findingsOf(element.findings) || "none" : "not shown",
  }));
}

type Change = (change: Partial<Shown>, quietly?: boolean) => void;

const NAMES: Record<FilterName, string> = {
  kind: "Type",
  provider: "Source",
  region: "Region",
  account: "Account",
  network: "Network",
  search: "Name or id",
  tag: "Tag (name=value)",
};

function Bar({ shown, change }: { shown: Shown; change: Change }) {
  const said = JSON.stringify(FILTERS.map((name) => shown.filters[name] ?? ""));
  const [typed, setTyped] = useState(() => JSON.parse(said) as string[]);
  // The fields follow the address, and the focus stays where it is.
  useEffect(() => setTyped(JSON.parse(said) as string[]), [said]);
  return (
    <form
      role="search"
      className="graph-bar"
      aria-label="What is drawn"
      onSubmit={(event) => {
        event.preventDefault();
        const filters: Shown["filters"] = {};
        FILTERS.forEach((name, at) => {
          const value = typed[at]?.trim();
          if (value) filters[name] = value;
        });
        change({ filters, open: [], at: undefined });
      }}
    >
      <Select
        label="Group by"
        value={shown.by}
        onChange={(event) => change({ by: WAYS.find((way) => way === event.target.value) ?? "account", open: [], at: undefined })}
      >
        {WAYS.map((way) => (
          <option key={way} value={way}>
            {way === "kind" ? "type" : way === "provider" ? "source" : way}
          </option>
        ))}
      </Select>
      {FILTERS.map((name, at) => (
        <TextField
          key={name}
          label={NAMES[name]}
          type={name === "search" ? "search" : "text"}
          value={typed[at]}
          onChange={(event) => setTyped(typed.map((value, n) => (n === at ? event.target.value : value)))}
        />
      ))}
      <Button type="submit">Filter</Button>
      {Object.keys(shown.filters).length > 0 && (
        <Button
          kind="quiet"
          onClick={(event) => {
            // The button goes with what it clears.
            event.currentTarget.form?.querySelector<HTMLElement>("button[type=submit]")?.focus();
            change({ filters: {}, open: [], at: undefined });
          }}
        >
          Clear
        </Button>
      )}
    </form>
  );
}

function Nothing({ shown, change }: { shown: Shown; change: Change }) {
  const tenant = useTenant();
  if (Object.keys(shown.filters).length > 0 || shown.asOf) {
    return (
      <Panel title="Nothing to draw">
        <Empty
          title="No node is like that"
          action={<Button onClick={() => change({ filters: {}, asOf: undefined, open: [], nodes: [] })}>Show all nodes of now</Button>}
        >
          {shown.asOf ? "At this moment nothing was known that the filters take." : "The filters take nothing."}
        </Empty>
      </Panel>
    );
  }
  return (
    <Panel title="Nothing to draw">
      <Empty title="Nothing is discovered yet" action={tenant.can("jobs:manage") ? <Link className="button" to={to.jobs(tenant.slug)}>Run a job</Link> : undefined}>
        A discovery job, or an agent on a host, fills the graph.
      </Empty>
    </Panel>
  );
}

function Legend({ scene, total, edges }: { scene: Scene; total: number | undefined; edges: number | undefined }) {
  const nodes = scene.points.reduce((sum, point) => sum + point.nodes, 0);
  const others = scene.points.find((point) => point.element.kind === "others");
  return (
    <p className="graph-legend small muted">
      <span>
        {count(scene.points.length)} elements for {count(nodes)} nodes{total !== undefined && total !== nodes ? ` of ${count(total)}` : ""}
        {edges !== undefined ? `, ${count(edges)} edges` : ""}
      </span>
      {others && <span>{labelOf(others.element, "")} are one element</span>}
      <span>{scene.points.some((it) => it.element.findings) && "Colour: the worst open finding. "}Hollow: only named by edges.</span>
    </p>
  );
}

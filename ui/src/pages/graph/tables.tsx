// The same as the drawing, as tables.
import { Link } from "react-router";
import { Button } from "../../design/button";
import { Panel } from "../../design/panel";
import { Empty } from "../../design/state";
import { Table } from "../../design/table";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { findingsOf, type Scene } from "./scene";
import type { Shown } from "./state";

const LINES_MAX = 500;

interface ElementTableProps {
  scene: Scene;
  shown: Shown;
  onEnter: (id: string) => void;
  onLook: (id: string) => void;
}

export function ElementTable({ scene, shown, onEnter, onLook }: ElementTableProps) {
  const { slug } = useTenant();
  return (
    <Panel title="Elements" flush>
      <Table
        name="Elements of the graph"
        rows={scene.points}
        rowKey={(it) => it.id}
        columns={[
          {
            head: "Element",
            kind: "main",
            cell: (it) =>
              it.element.node ? (
                <>
                  <Link to={to.node(slug, it.element.node.id)}>{it.label}</Link>
                  <div className="under mono">{it.element.node.id}</div>
                </>
              ) : (
                it.label
              ),
          },
          { head: "Kind", kind: "nowrap", cell: (it) => it.element.node?.type ?? (it.element.kind === "group" ? shown.by : it.element.kind) },
          { head: "Nodes", kind: "number", cell: (it) => it.nodes.toLocaleString("en") },
          { head: "Connections", kind: "number", cell: (it) => (scene.beside[scene.place.get(it.id) ?? -1]?.length ?? 0).toLocaleString("en") },
          { head: "Edges inside", kind: "number", cell: (it) => it.element.inside.toLocaleString("en") },
          { head: "Open findings", kind: "nowrap", cell: (it) => (it.element.findings ? findingsOf(it.element.findings) || "none" : "not shown") },
          {
            head: "",
            kind: "nowrap",
            cell: (it) => (
              <span className="row">
                {(it.element.kind === "group" || it.element.kind === "node") && (
                  <Button small kind="quiet" aria-label={`${it.element.kind === "group" ? "Open" : "Bring in the neighbours of"} ${it.label}`} onClick={() => onEnter(it.id)}>
                    {it.element.kind === "group" ? "Open" : "Neighbours"}
                  </Button>
                )}
                <Button small kind="quiet" aria-label={`Look at ${it.label}`} onClick={() => onLook(it.id)}>
                  Look
                </Button>
              </span>
            ),
          },
        ]}
      />
    </Panel>
  );
}

export function LinkTable({ scene }: { scene: Scene }) {
  const label = (place: number) => scene.points[place]?.label ?? "";
  return (
    <Panel title="Connections" flush>
      {scene.lines.length === 0 ? (
        <Empty title="No connections">No edge leads from one of these elements to another.</Empty>
      ) : (
        <Table
          name="Connections of the graph"
          rows={scene.lines.slice(0, LINES_MAX)}
          rowKey={(it) => `${it.source} ${it.target}`}
          columns={[
            { head: "From", kind: "main", cell: (it) => label(it.source) },
            { head: "To", kind: "main", cell: (it) => label(it.target) },
            { head: "Edges", kind: "number", cell: (it) => it.count.toLocaleString("en") },
            { head: "Types", cell: (it) => it.types.join(", ") || <span className="muted">of several nodes</span> },
          ]}
        />
      )}
      {scene.lines.length > LINES_MAX && <p className="pager">The first {LINES_MAX} of {scene.lines.length.toLocaleString("en")}: Save JSON has all.</p>}
    </Panel>
  );
}

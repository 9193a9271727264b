// What is drawn, apart from how: points and lines, what each is called, and what is foremost in it.
import type { Schemas } from "../../api/client";

export type Drawing = Schemas["GraphDrawing"];
export type Element = Schemas["GraphElement"];
export type Severity = "critical" | "high" | "medium" | "low" | "info";

export const SEVERITIES: Severity[] = ["critical", "high", "medium", "low", "info"];

export interface Point {
  id: string;
  label: string;
  /** How many nodes it stands for, those that are only named among them. */
  nodes: number;
  radius: number;
  worst: Severity | undefined;
  /** Only edges name it. */
  hollow: boolean;
  element: Element;
}

export interface Line {
  source: number;
  target: number;
  count: number;
  types: string[];
}

export interface Scene {
  points: Point[];
  lines: Line[];
  place: Map<string, number>;
  /** The lines of each point, by their places. */
  beside: number[][];
  /** Points by their places, the largest first: whose names come first. */
  order: number[];
}

export function idOf(element: Element): string {
  switch (element.kind) {
    case "group":
      return `g:${element.group ?? ""}`;
    case "rest":
      return `r:${element.group ?? ""}`;
    case "node":
      return `n:${element.node?.id ?? ""}`;
    default:
      return "o:";
  }
}

export function labelOf(element: Element, by: string): string {
  switch (element.kind) {
    case "group":
      return element.group || `no ${by}`;
    case "rest":
      return `rest of ${element.group || `no ${by}`}`;
    case "node":
      return element.node?.name || element.node?.id || "a node";
    default:
      return `${element.groups.toLocaleString("en")} other groups`;
  }
}

export function worst(findings: Schemas["SeverityCounts"] | null | undefined): Severity | undefined {
  return findings ? SEVERITIES.find((severity) => findings[severity] > 0) : undefined;
}

export function findingsOf(findings: Schemas["SeverityCounts"] | null | undefined): string {
  if (!findings) return "";
  return SEVERITIES.filter((severity) => findings[severity] > 0)
    .map((severity) => `${findings[severity].toLocaleString("en")} ${severity}`)
    .join(", ");
}

export function sceneOf(drawing: Drawing): Scene {
  const points = drawing.elements.map((element): Point => {
    const nodes = element.nodes + element.unseen;
    return {
      id: idOf(element),
      label: labelOf(element, drawing.by),
      nodes,
      radius: element.kind === "node" ? 6 : Math.min(34, 8 + 4 * Math.log10(Math.max(1, nodes)) * 1.4),
      worst: worst(element.findings),
      hollow: element.nodes === 0,
      element,
    };
  });
  const lines = drawing.links.map((link): Line => ({ source: link.source, target: link.target, count: link.count, types: link.types ?? [] }));
  const beside: number[][] = points.map(() => []);
  lines.forEach((line, at) => {
    beside[line.source]?.push(at);
    beside[line.target]?.push(at);
  });
  const order = [...points.keys()].sort((a, b) => (points[b]?.radius ?? 0) - (points[a]?.radius ?? 0));
  return { points, lines, place: new Map(points.map((point, at) => [point.id, at])), beside, order };
}

/** A point in words, for those who do not see it. */
export function inWords(scene: Scene, at: number): string {
  const point = scene.points[at];
  if (!point) return "";
  const what = point.element.kind === "node" ? (point.element.node?.type ?? "node") : `${point.nodes.toLocaleString("en")} nodes`;
  const findings = findingsOf(point.element.findings);
  const lines = scene.beside[at]?.length ?? 0;
  return [point.label, what, findings && `open findings: ${findings}`, `${lines} connection${lines === 1 ? "" : "s"}`].filter(Boolean).join("; ");
}

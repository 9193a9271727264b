// What differs between two versions of a node.
import type { Schemas } from "../../api/client";

type Version = Schemas["NodeVersion"];

export interface Change {
  name: string;
  before: string;
  after: string;
}

function shown(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

export function changes(before: Version | undefined, after: Version): Change[] {
  if (!before) return [];
  const flat = (of: Version) => ({ name: of.name, ...of.properties, ...of.tags }) as Record<string, unknown>;
  const [old, now] = [flat(before), flat(after)];
  const names = [...new Set([...Object.keys(old), ...Object.keys(now)])].sort();
  return names
    .filter((name) => JSON.stringify(old[name]) !== JSON.stringify(now[name]))
    .map((name) => ({ name, before: shown(old[name]), after: shown(now[name]) }));
}

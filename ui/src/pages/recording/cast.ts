// Reading asciicast, version 2.

export interface Event {
  /** Seconds since the beginning. */
  at: number;
  kind: "o" | "r" | "m";
  text: string;
}

export interface Cast {
  columns: number;
  rows: number;
  events: Event[];
  /** In seconds. */
  duration: number;
}

/** A size that a terminal has. Recordings of earlier versions say 0x0 or 1x1 where none was known: such a one changes nothing. */
function sizeOf(columns: unknown, rows: unknown): { columns: number; rows: number } | undefined {
  if (!Number.isInteger(columns) || !Number.isInteger(rows)) return undefined;
  const size = { columns: columns as number, rows: rows as number };
  return size.columns > 1 && size.rows > 0 ? size : undefined;
}

export function parse(text: string): Cast {
  const [first = "{}", ...lines] = text.split("\n");
  const cast: Cast = { columns: 80, rows: 24, events: [], duration: 0 };
  try {
    const header = JSON.parse(first) as { width?: unknown; height?: unknown };
    Object.assign(cast, sizeOf(header.width, header.height));
  } catch {
    return cast;
  }
  for (const line of lines) {
    let parts: unknown;
    try {
      parts = JSON.parse(line);
    } catch {
      continue;
    }
    if (!Array.isArray(parts)) continue;
    const [at, kind, what] = parts as unknown[];
    if (typeof at !== "number" || typeof what !== "string") continue;
    cast.duration = Math.max(cast.duration, at);
    if (kind === "r" && !sizeOf(...(what.split("x").map(Number) as [number, number]))) continue;
    if (kind === "o" || kind === "r" || kind === "m") cast.events.push({ at, kind, text: what });
  }
  return cast;
}

/** Moments at which the recording plays when nobody waits for longer than this where nothing happens. */
export function squeezed(cast: Cast, idle: number): Cast {
  let before = 0;
  let now = 0;
  const events = cast.events.map((event) => {
    now += Math.min(Math.max(event.at - before, 0), idle);
    before = event.at;
    return { ...event, at: now };
  });
  return { ...cast, events, duration: now };
}

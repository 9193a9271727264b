// The drawing itself: what can be pointed at, moved and walked through by the keyboard.
import { type KeyboardEvent, type PointerEvent, type RefObject, useCallback, useEffect, useId, useImperativeHandle, useLayoutEffect, useRef, useState } from "react";
import { Layout, type Spot } from "./layout";
import { type Camera, type Renderer, rendererOf, type Shapes } from "./renderer";
import { inWords, type Scene, type Severity } from "./scene";

export interface Handle {
  /** The drawing as a picture. */
  picture: () => Promise<Blob | null>;
  fit: () => void;
}

interface CanvasProps {
  scene: Scene;
  /** The element that is looked at. */
  at: string | undefined;
  onLook: (id: string | undefined) => void;
  /** What is done with Enter or a double click. */
  onEnter: (id: string) => void;
  /** What is done with the backspace key. */
  onBack: (id: string) => void;
  /** What stands out: all else steps back. */
  marked: Set<string> | undefined;
  /** Lines that stand out, as `source target` of their ids. */
  path: Set<string>;
  handle: RefObject<Handle | null>;
}

const FILLS: Record<Severity | "plain" | "named", string> = {
  critical: "--critical",
  high: "--high",
  medium: "--medium",
  low: "--low",
  info: "--info",
  plain: "--accent",
  named: "--line-strong",
};

/** Numbers of a colour as the page has it now, in the scheme that is in force. */
function colours(of: HTMLElement): (name: string) => [number, number, number] {
  const probe = document.createElement("canvas");
  probe.width = 1;
  probe.height = 1;
  const to = probe.getContext("2d", { willReadFrequently: true });
  const known = new Map<string, [number, number, number]>();
  const style = getComputedStyle(of);
  return (name) => {
    const before = known.get(name);
    if (before) return before;
    // A custom property keeps its text, `light-dark(…)`: a property that is a colour has the one that counts.
    const value = name === "--text" ? style.color : style.getPropertyValue(name);
    let found: [number, number, number] = [128, 128, 128];
    if (to) {
      const dark = isDark(of);
      const parts = /light-dark\(([^,]+),([^)]+)\)/.exec(value);
      to.fillStyle = (parts ? (dark ? parts[2] : parts[1]) : value)?.trim() || "#808080";
      to.fillRect(0, 0, 1, 1);
      const [r = 128, g = 128, b = 128] = to.getImageData(0, 0, 1, 1).data;
      found = [r, g, b];
    }
    known.set(name, found);
    return found;
  };
}

function isDark(of: HTMLElement): boolean {
  const chosen = of.ownerDocument.documentElement.dataset["theme"];
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

const NOTHING: Scene = { points: [], lines: [], place: new Map(), beside: [], order: [] };
const LABELS_MAX = 70;
const MS_PER_FRAME = 8;

export function Canvas({ scene, at, onLook, onEnter, onBack, marked, path, handle }: CanvasProps) {
  const box = useRef<HTMLDivElement>(null);
  const shapes = useRef<HTMLCanvasElement>(null);
  const labels = useRef<HTMLCanvasElement>(null);
  const help = useId();
  const said = useId();
  const [none, setNone] = useState(false);
  const live = useRef<{
    renderer: Renderer;
    layout: Layout;
    scene: Scene;
    camera: Camera;
    follows: boolean;
    frame: number;
    over: number;
    made: Shapes | undefined;
    colour: ((name: string) => [number, number, number]) | undefined;
    width: number;
    height: number;
  }>(null);
  const props = useRef({ at, marked, path });
  props.current = { at, marked, path };

  const paint = useCallback(() => {
    const it = live.current;
    const page = box.current;
    const text = labels.current?.getContext("2d");
    if (!it || !page || !text) return;
    if (it.follows) fit(it);
    it.colour ??= colours(page);
    it.made ??= shapesOf(it.scene, it.layout, it.colour, props.current, it.over);
    it.renderer.draw(it.made, it.camera);
    write(text, it, it.colour, props.current.at);
  }, []);

  const run = useCallback(() => {
    const it = live.current;
    if (!it || it.frame !== 0) return;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const next = () => {
      const moved = it.layout.advance(MS_PER_FRAME);
      if (!moved || !still) paint();
      it.frame = moved ? requestAnimationFrame(next) : 0;
      box.current?.setAttribute("data-still", String(!moved));
    };
    it.frame = requestAnimationFrame(next);
  }, [paint]);

  const again = useCallback(() => {
    if (live.current) {
      live.current.made = undefined;
      live.current.colour = undefined;
    }
    run();
  }, [run]);

  useLayoutEffect(() => {
    const canvas = shapes.current;
    const page = box.current;
    if (!canvas || !page) return;
    const renderer = rendererOf(canvas);
    if (!renderer) {
      setNone(true);
      return;
    }
    const it = {
      renderer,
      layout: new Layout(NOTHING),
      scene: NOTHING,
      camera: { x: 0, y: 0, scale: 1 },
      follows: true,
      frame: 0,
      over: -1,
      made: undefined,
      colour: undefined,
      width: 1,
      height: 1,
    };
    live.current = it;
    page.setAttribute("data-renderer", renderer.kind);
    const size = () => {
      it.width = page.clientWidth;
      it.height = page.clientHeight;
      const ratio = Math.min(2, window.devicePixelRatio || 1);
      renderer.resize(it.width, it.height, ratio);
      const text = labels.current;
      if (text) {
        text.width = Math.round(it.width * ratio);
        text.height = Math.round(it.height * ratio);
        text.getContext("2d")?.setTransform(ratio, 0, 0, ratio, 0, 0);
      }
      again();
    };
    const watch = new ResizeObserver(size);
    watch.observe(page);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", again);
    const theme = new MutationObserver(again);
    theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    const wheel = (event: WheelEvent) => {
      event.preventDefault();
      const rect = page.getBoundingClientRect();
      zoom(it, Math.exp(-event.deltaY * 0.0015), event.clientX - rect.left, event.clientY - rect.top);
      run();
    };
    page.addEventListener("wheel", wheel, { passive: false });
    return () => {
      watch.disconnect();
      theme.disconnect();
      scheme.removeEventListener("change", again);
      page.removeEventListener("wheel", wheel);
      cancelAnimationFrame(it.frame);
      renderer.free();
      live.current = null;
    };
  }, [again, run]);

  useEffect(() => {
    const it = live.current;
    if (!it) return;
    const before = it.layout.spots();
    const group = (id: string) => {
      const element = scene.points[scene.place.get(id) ?? -1]?.element;
      if (element?.kind === "rest") return `g:${element.group ?? ""}`;
      // New nodes begin where the group that they come from was.
      return element?.kind === "node" ? opened(before, scene) : undefined;
    };
    it.scene = scene;
    it.layout = new Layout(scene, before, group);
    it.follows = it.follows || before.size === 0;
    it.over = -1;
    again();
  }, [scene, again]);

  useEffect(again, [at, marked, path, again]);

  useImperativeHandle(
    handle,
    () => ({
      picture: () =>
        new Promise((done) => {
          const [below, above, page, it] = [shapes.current, labels.current, box.current, live.current];
          if (!below || !above || !page || !it) return done(null);
          paint();
          const whole = document.createElement("canvas");
          whole.width = below.width;
          whole.height = below.height;
          const to = whole.getContext("2d");
          if (!to) return done(null);
          to.fillStyle = `rgb(${colours(page)("--surface").join(" ")})`;
          to.fillRect(0, 0, whole.width, whole.height);
          to.drawImage(below, 0, 0);
          to.drawImage(above, 0, 0, whole.width, whole.height);
          whole.toBlob(done, "image/png");
        }),
      fit: () => {
        const it = live.current;
        if (!it) return;
        it.follows = true;
        run();
      },
    }),
    [paint, run],
  );

  const drag = useRef<{ x: number; y: number; moved: boolean }>(null);
  const place = (event: PointerEvent) => {
    const rect = event.currentTarget.getBoundingClientRect();
    return [event.clientX - rect.left, event.clientY - rect.top] as const;
  };
  const onPointerDown = (event: PointerEvent<HTMLDivElement>) => {
    event.currentTarget.setPointerCapture(event.pointerId);
    drag.current = { x: event.clientX, y: event.clientY, moved: false };
  };
  const onPointerMove = (event: PointerEvent<HTMLDivElement>) => {
    const it = live.current;
    if (!it) return;
    const from = drag.current;
    if (from) {
      const [x, y] = [event.clientX - from.x, event.clientY - from.y];
      if (!from.moved && Math.hypot(x, y) < 4) return;
      drag.current = { x: event.clientX, y: event.clientY, moved: true };
      it.camera.x -= x / it.camera.scale;
      it.camera.y -= y / it.camera.scale;
      it.follows = false;
      run();
      return;
    }
    const over = hit(it, ...place(event));
    if (over !== it.over) {
      it.over = over;
      again();
    }
  };
  const onPointerUp = (event: PointerEvent<HTMLDivElement>) => {
    const it = live.current;
    const from = drag.current;
    drag.current = null;
    if (!it || from?.moved) return;
    onLook(it.scene.points[hit(it, ...place(event))]?.id);
  };

  const onKeyDown = (event: KeyboardEvent<HTMLDivElement>) => {
    const it = live.current;
    if (!it || event.ctrlKey || event.metaKey || event.altKey) return;
    const now = it.scene.place.get(at ?? "");
    const arrow = ARROWS[event.key];
    if (arrow) {
      const next = now === undefined ? nearest(it) : toward(it, now, arrow);
      const id = it.scene.points[next]?.id;
      if (id) {
        onLook(id);
        into(it, next);
        run();
      }
    } else if (event.key === "Enter" && at) onEnter(at);
    else if (event.key === "Backspace" && at) onBack(at);
    else if (event.key === "Escape") onLook(undefined);
    else if (event.key === "+" || event.key === "=" || event.key === "-") {
      zoom(it, event.key === "-" ? 1 / 1.25 : 1.25, it.width / 2, it.height / 2);
      run();
    } else if (event.key === "0") {
      it.follows = true;
      run();
    } else return;
    event.preventDefault();
  };

  const now = scene.place.get(at ?? "");
  return (
    <div className="graph-box">
      <div
        ref={box}
        className="graph-drawing"
        role="application"
        aria-roledescription="graph"
        aria-label="Drawing of the graph"
        aria-describedby={`${help} ${said}`}
        tabIndex={0}
        onKeyDown={onKeyDown}
        onPointerDown={onPointerDown}
        onPointerMove={onPointerMove}
        onPointerUp={onPointerUp}
        onDoubleClick={() => at && onEnter(at)}
      >
        <canvas ref={shapes} aria-hidden="true" />
        <canvas ref={labels} aria-hidden="true" />
        {none && <p className="graph-none">This browser cannot draw here: the table shows the same.</p>}
      </div>
      <p id={help} className="graph-help small muted">
        Arrow keys move to what is connected, Enter opens, Backspace closes, + and - zoom, 0 shows all.
      </p>
      <p id={said} className="only-read-aloud" aria-live="polite">
        {now === undefined ? `${scene.points.length} elements, ${scene.lines.length} connections` : inWords(scene, now)}
      </p>
    </div>
  );
}

type Live = {
  layout: Layout;
  scene: Scene;
  camera: Camera;
  follows: boolean;
  over: number;
  width: number;
  height: number;
};

const ARROWS: Record<string, [number, number]> = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };

/** The group that is drawn no more: its nodes come from there. */
function opened(before: Map<string, Spot>, scene: Scene): string | undefined {
  for (const id of before.keys()) if (id.startsWith("g:") && !scene.place.has(id)) return id;
  return undefined;
}

function fit(it: Live) {
  const { x, y } = it.layout;
  if (x.length === 0) return;
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let at = 0; at < x.length; at += 1) {
    const room = (it.scene.points[at]?.radius ?? 0) + 24;
    left = Math.min(left, (x[at] as number) - room);
    right = Math.max(right, (x[at] as number) + room);
    top = Math.min(top, (y[at] as number) - room);
    bottom = Math.max(bottom, (y[at] as number) + room);
  }
  it.camera.x = (left + right) / 2;
  it.camera.y = (top + bottom) / 2;
  it.camera.scale = Math.min(1.6, it.width / Math.max(1, right - left), it.height / Math.max(1, bottom - top));
}

function zoom(it: Live, by: number, x: number, y: number) {
  const before = it.camera.scale;
  const after = Math.min(8, Math.max(0.01, before * by));
  // What is under the pointer stays there.
  it.camera.x += (x - it.width / 2) * (1 / before - 1 / after);
  it.camera.y += (y - it.height / 2) * (1 / before - 1 / after);
  it.camera.scale = after;
  it.follows = false;
}

/** Moves what is seen so far that a point is in it. */
function into(it: Live, at: number) {
  const x = ((it.layout.x[at] as number) - it.camera.x) * it.camera.scale;
  const y = ((it.layout.y[at] as number) - it.camera.y) * it.camera.scale;
  if (Math.abs(x) < it.width / 2 - 40 && Math.abs(y) < it.height / 2 - 40) return;
  it.camera.x = it.layout.x[at] as number;
  it.camera.y = it.layout.y[at] as number;
  it.follows = false;
}

const drawnRadius = (it: Live, at: number) => Math.max(2, (it.scene.points[at]?.radius ?? 6) * Math.min(it.camera.scale, 1.6));

function hit(it: Live, left: number, top: number): number {
  let [found, best] = [-1, 0];
  for (let at = 0; at < it.layout.x.length; at += 1) {
    const x = ((it.layout.x[at] as number) - it.camera.x) * it.camera.scale + it.width / 2 - left;
    const y = ((it.layout.y[at] as number) - it.camera.y) * it.camera.scale + it.height / 2 - top;
    const far = Math.hypot(x, y) - drawnRadius(it, at);
    if (far < 5 && (found < 0 || far < best)) [found, best] = [at, far];
  }
  return found;
}

function nearest(it: Live): number {
  let [found, best] = [-1, Infinity];
  for (let at = 0; at < it.layout.x.length; at += 1) {
    const far = Math.hypot((it.layout.x[at] as number) - it.camera.x, (it.layout.y[at] as number) - it.camera.y);
    if (far < best) [found, best] = [at, far];
  }
  return found;
}

/** Where an arrow leads: to what is connected in that direction, else to what is next there. */
function toward(it: Live, from: number, [right, down]: [number, number]): number {
  const cost = (at: number) => {
    const x = (it.layout.x[at] as number) - (it.layout.x[from] as number);
    const y = (it.layout.y[at] as number) - (it.layout.y[from] as number);
    const along = x * right + y * down;
    const aside = Math.abs(x * down) + Math.abs(y * right);
    return along <= 0 || aside > along * 1.8 ? Infinity : along + aside * 1.5;
  };
  const best = (places: Iterable<number>) => {
    let [found, least] = [-1, Infinity];
    for (const at of places) {
      const much = at === from ? Infinity : cost(at);
      if (much < least) [found, least] = [at, much];
    }
    return found;
  };
  const beside = (it.scene.beside[from] ?? []).map((at) => {
    const line = it.scene.lines[at];
    return line?.source === from ? line.target : (line?.source ?? from);
  });
  const connected = best(beside);
  if (connected >= 0) return connected;
  const next = best(it.scene.points.keys());
  return next >= 0 ? next : from;
}

function shapesOf(
  scene: Scene,
  layout: Layout,
  colour: (name: string) => [number, number, number],
  { at, marked, path }: { at: string | undefined; marked: Set<string> | undefined; path: Set<string> },
  over: number,
): Shapes {
  const { points, lines } = scene;
  const made: Shapes = {
    count: points.length,
    x: layout.x,
    y: layout.y,
    form: new Float32Array(points.length * 2),
    fill: new Uint8Array(points.length * 4),
    ends: new Uint32Array(lines.length * 2),
    stroke: new Uint8Array(lines.length * 4),
  };
  const looked = scene.place.get(at ?? "");
  const near = new Set<number>();
  for (const focus of [looked, over]) {
    for (const line of scene.beside[focus ?? -1] ?? []) {
      near.add(lines[line]?.source ?? -1);
      near.add(lines[line]?.target ?? -1);
    }
  }
  points.forEach((point, n) => {
    const named = point.worst ?? (point.hollow ? "named" : "plain");
    const aside = marked ? !marked.has(point.id) : near.size > 0 && !near.has(n) && n !== looked;
    made.form[2 * n] = point.radius;
    made.form[2 * n + 1] = point.hollow ? 1 : 0;
    made.fill.set([...colour(FILLS[named]), aside ? 70 : 235], 4 * n);
  });
  const many = lines.length;
  const faint = many > 2_000 ? 60 : many > 400 ? 110 : 170;
  lines.forEach((line, n) => {
    const stands = path.has(`${points[line.source]?.id} ${points[line.target]?.id}`);
    const touches = near.size > 0 && [looked, over].some((focus) => line.source === focus || line.target === focus);
    made.ends.set([line.source, line.target], 2 * n);
    const opacity = stands ? 255 : marked ? 30 : touches ? 230 : near.size > 0 ? faint / 3 : faint;
    made.stroke.set([...colour(stands || touches ? "--accent" : "--line-strong"), opacity], 4 * n);
  });
  return made;
}

/** Names the foremost points, and draws a ring around the one that is looked at. */
function write(to: CanvasRenderingContext2D, it: Live, colour: (name: string) => [number, number, number], at: string | undefined) {
  const { points, place, order } = it.scene;
  to.clearRect(0, 0, it.width, it.height);
  const looked = place.get(at ?? "");
  const left = (n: number) => ((it.layout.x[n] as number) - it.camera.x) * it.camera.scale + it.width / 2;
  const top = (n: number) => ((it.layout.y[n] as number) - it.camera.y) * it.camera.scale + it.height / 2;
  const seen: number[] = [];
  for (const n of order) {
    if (seen.length >= LABELS_MAX * 3) break;
    if (left(n) > -50 && left(n) < it.width + 50 && top(n) > -20 && top(n) < it.height + 20) seen.push(n);
  }
  const first = [looked, it.over].filter((n): n is number => n !== undefined && n >= 0);
  to.font = '500 11px "Inter", system-ui, sans-serif';
  to.textAlign = "center";
  to.textBaseline = "top";
  const taken: [number, number, number, number][] = [];
  for (const n of [...first, ...seen]) {
    const point = points[n];
    if (!point || taken.length >= LABELS_MAX) continue;
    const name = point.label.length > 28 ? `${point.label.slice(0, 27)}…` : point.label;
    const text = point.element.kind === "node" ? name : `${name} · ${point.nodes.toLocaleString("en")}`;
    const wide = to.measureText(text).width / 2 + 4;
    const [x, y] = [left(n), top(n) + drawnRadius(it, n) + 3];
    const over = taken.some(([l, t, r, b]) => x - wide < r && x + wide > l && y < b && y + 14 > t);
    if (over && !first.includes(n)) continue;
    taken.push([x - wide, y, x + wide, y + 14]);
    to.lineWidth = 3;
    to.strokeStyle = `rgb(${colour("--surface").join(" ")})`;
    to.strokeText(text, x, y);
    to.fillStyle = `rgb(${colour("--text").join(" ")})`;
    to.fillText(text, x, y);
  }
  if (looked !== undefined) {
    to.lineWidth = 2.5;
    to.strokeStyle = `rgb(${colour("--focus").join(" ")})`;
    to.beginPath();
    to.arc(left(looked), top(looked), drawnRadius(it, looked) + 4, 0, 2 * Math.PI);
    to.stroke();
  }
}

// Where points are: a force layout that gives the same picture for the same graph. It is computed a few steps at a time, so that a page stays quick,
// and points that were there before begin where they were.
import type { Scene } from "./scene";

export interface Spot {
  x: number;
  y: number;
}

/** Steps until it stands still. */
export const STEPS = 220;
/** More points than this stay where they begin: a step would take longer than a frame. */
const POINTS_MAX = 5_000;
/** How far apart neighbours want to be. */
const LENGTH = 90;
/** From where on points do not push each other away any more. */
const REACH = 260;
/** Pushes that one point feels at most in a step: in a crowd all push alike. */
const PUSHES_MAX = 48;

export class Layout {
  readonly x: Float32Array;
  readonly y: Float32Array;
  step = 0;
  private readonly dx: Float32Array;
  private readonly dy: Float32Array;

  constructor(
    private readonly scene: Scene,
    before: Map<string, Spot> = new Map(),
    near: (id: string) => string | undefined = () => undefined,
  ) {
    const count = scene.points.length;
    this.x = new Float32Array(count);
    this.y = new Float32Array(count);
    this.dx = new Float32Array(count);
    this.dy = new Float32Array(count);
    let known = 0;
    scene.points.forEach((point, at) => {
      // The sunflower's way to fill a circle: no two begin at one place, and none by chance.
      const angle = at * 2.399963;
      const far = LENGTH * 0.7 * Math.sqrt(at + 0.5);
      const spot = before.get(point.id);
      const parent = before.get(near(point.id) ?? "");
      if (spot) known += 1;
      const from = spot ?? (parent && { x: parent.x + Math.cos(angle) * 30 * Math.sqrt(1 + (at % 50)), y: parent.y + Math.sin(angle) * 30 * Math.sqrt(1 + (at % 50)) });
      this.x[at] = from?.x ?? Math.cos(angle) * far;
      this.y[at] = from?.y ?? Math.sin(angle) * far;
    });
    // What is known moves little.
    if (known > count / 2) this.step = Math.floor(STEPS * 0.6);
  }

  get isDone(): boolean {
    return this.step >= STEPS || this.scene.points.length < 2 || this.scene.points.length > POINTS_MAX;
  }

  /** Goes on for some milliseconds; whether anything moved. */
  advance(ms: number): boolean {
    if (this.isDone) return false;
    const until = performance.now() + ms;
    do this.one();
    while (!this.isDone && performance.now() < until);
    return true;
  }

  spots(): Map<string, Spot> {
    return new Map(this.scene.points.map((point, at) => [point.id, { x: this.x[at] ?? 0, y: this.y[at] ?? 0 }]));
  }

  private one() {
    const { points, lines } = this.scene;
    const { x, y, dx, dy } = this;
    const count = points.length;
    dx.fill(0);
    dy.fill(0);
    // Only those in the cells around push.
    const cells = new Map<number, number[]>();
    const cell = (at: number) => (Math.floor((x[at] as number) / REACH) + 50_000) * 100_003 + Math.floor((y[at] as number) / REACH);
    for (let at = 0; at < count; at += 1) {
      const key = cell(at);
      const there = cells.get(key);
      if (there) there.push(at);
      else cells.set(key, [at]);
    }
    for (let at = 0; at < count; at += 1) {
      const key = cell(at);
      const own = points[at]?.radius ?? 6;
      for (const side of [-100_003, 0, 100_003]) {
        for (const above of [-1, 0, 1]) {
          const there = cells.get(key + side + above);
          if (!there) continue;
          const stride = Math.max(1, Math.ceil(there.length / PUSHES_MAX));
          for (let n = (at + this.step) % stride; n < there.length; n += stride) {
            const other = there[n] as number;
            if (other === at) continue;
            let ax = (x[at] as number) - (x[other] as number);
            let ay = (y[at] as number) - (y[other] as number);
            let square = ax * ax + ay * ay;
            if (square > REACH * REACH) continue;
            if (square < 0.01) {
              ax = at < other ? 0.1 : -0.1;
              ay = 0.05 * ((at % 7) - 3);
              square = ax * ax + ay * ay;
            }
            const room = own + (points[other]?.radius ?? 6) + LENGTH * 1.3;
            const push = (stride * room * room * 0.35) / square;
            const far = Math.sqrt(square);
            const felt = Math.min(push, 60);
            dx[at] = (dx[at] as number) + (ax / far) * felt;
            dy[at] = (dy[at] as number) + (ay / far) * felt;
          }
        }
      }
      // To the middle, so that what is connected to nothing does not drift away.
      dx[at] = (dx[at] as number) - (x[at] as number) * 0.012;
      dy[at] = (dy[at] as number) - (y[at] as number) * 0.012;
    }
    for (const line of lines) {
      const { source, target } = line;
      const ax = (x[target] as number) - (x[source] as number);
      const ay = (y[target] as number) - (y[source] as number);
      const far = Math.max(0.1, Math.hypot(ax, ay));
      const want = LENGTH + (points[source]?.radius ?? 6) + (points[target]?.radius ?? 6);
      const crowd = Math.max(1, Math.min(this.scene.beside[source]?.length ?? 1, this.scene.beside[target]?.length ?? 1));
      const pull = ((far - want) * 0.25) / Math.sqrt(crowd);
      dx[source] = (dx[source] as number) + (ax / far) * pull;
      dy[source] = (dy[source] as number) + (ay / far) * pull;
      dx[target] = (dx[target] as number) - (ax / far) * pull;
      dy[target] = (dy[target] as number) - (ay / far) * pull;
    }
    const cool = 40 * (1 - this.step / STEPS) + 0.5;
    for (let at = 0; at < count; at += 1) {
      const far = Math.hypot(dx[at] as number, dy[at] as number);
      const scale = far > cool ? cool / far : 1;
      x[at] = (x[at] as number) + (dx[at] as number) * scale;
      y[at] = (y[at] as number) + (dy[at] as number) * scale;
    }
    this.step += 1;
  }
}

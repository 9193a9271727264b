// A share day by day, as a small line. What it shows is said in words too.
interface TrendProps {
  /** Whose it is. */
  name: string;
  /** Whole percent by day, the oldest first; null where nothing was judged. */
  days: (number | null)[];
}

const WIDTH = 120;
const HEIGHT = 28;
const EDGE = 2;

/** From the first day to the last, in words. */
export function told(days: (number | null)[]): string {
  const known = days.findIndex((it) => it !== null);
  if (known < 0) return "nothing was judged yet";
  const [first, last] = [days[known], days.at(-1)];
  const count = days.length - 1 - known;
  if (last === null || last === undefined) return `${first} %, and not judged any more`;
  if (count === 0) return `${last} % today, nothing is known of earlier days`;
  const span = `${count} ${count === 1 ? "day" : "days"}`;
  return first === last ? `${last} %, as ${span} ago` : `${first} % to ${last} % in ${span}`;
}

export function Trend({ name, days }: TrendProps) {
  const step = (WIDTH - 2 * EDGE) / Math.max(days.length - 1, 1);
  const places = days.flatMap((share, at) =>
    share === null ? [] : [{ x: EDGE + at * step, y: EDGE + (1 - share / 100) * (HEIGHT - 2 * EDGE) }],
  );
  const last = places.at(-1);
  return (
    <svg className="trend" role="img" aria-label={`${name}: ${told(days)}`} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} width={WIDTH} height={HEIGHT}>
      <line className="floor" x1={EDGE} y1={HEIGHT - EDGE} x2={WIDTH - EDGE} y2={HEIGHT - EDGE} />
      <polyline points={places.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ")} />
      {last && <circle cx={last.x} cy={last.y} r="2" />}
    </svg>
  );
}

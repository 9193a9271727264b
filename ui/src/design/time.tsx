// A moment: how far away it is, and when exactly.
const STEPS: [number, Intl.RelativeTimeFormatUnit][] = [
  [60, "second"],
  [60, "minute"],
  [24, "hour"],
  [7, "day"],
  [4.35, "week"],
  [12, "month"],
  [Number.POSITIVE_INFINITY, "year"],
];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const exact = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });

export function ago(at: string, now = Date.now()): string {
  let amount = (new Date(at).getTime() - now) / 1000;
  if (Math.abs(amount) < 5) return "now";
  for (const [size, unit] of STEPS) {
    if (Math.abs(amount) < size) return relative.format(Math.round(amount), unit);
    amount /= size;
  }
  return at;
}

/** A moment of today, to the second. */
export const clock = (at: Date) => at.toLocaleTimeString("en-GB");

export function When({ at }: { at: string | null | undefined }) {
  if (!at) return <span className="muted">never</span>;
  return (
    <time dateTime={at} title={exact.format(new Date(at))}>
      {ago(at)}
    </time>
  );
}

/** Where a moment is a record of something: when exactly, in words that anybody can read and keep, with how far away it is beside it. */
export function Moment({ at }: { at: string | null | undefined }) {
  if (!at) return <span className="muted">never</span>;
  return (
    <>
      <time dateTime={at}>{exact.format(new Date(at))}</time> <span className="small muted">{ago(at)}</span>
    </>
  );
}

export function seconds(from: string | null | undefined, to: string | null | undefined): string {
  if (!from) return "";
  const took = ((to ? new Date(to).getTime() : Date.now()) - new Date(from).getTime()) / 1000;
  if (took < 60) return `${took.toFixed(took < 10 ? 1 : 0)} s`;
  return `${Math.floor(took / 60)} min ${Math.round(took % 60)} s`;
}

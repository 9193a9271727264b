// Whether somebody is at work. The server ends a session that nobody uses, and what the console asks by itself must not keep one alive: a list
// that goes on, a page that looks again. So whatever no person caused says so.

/** How often somebody did something here. Opening the page is the first time. */
let done = 1;
/** Up to which of these the server knows. */
let known = 0;

for (const kind of ["pointerdown", "keydown", "wheel", "touchstart"]) {
  const did = (event: Event) => {
    if (event.isTrusted) done += 1;
  };
  window.addEventListener(kind, did, { capture: true, passive: true });
}

/** What the next request tells of: undefined where nobody did anything that an answered one has not told of. */
export function usedSince(): number | undefined {
  return done > known ? done : undefined;
}

/** The server has answered a request that told of this. */
export function toldOf(of: number) {
  known = Math.max(known, of);
}

/** The server's clock is that much ahead, in milliseconds. */
let ahead = 0;

/** An answer came, with what the server's clock said. */
export function clockSaid(date: string | null) {
  const at = date ? Date.parse(date) : Number.NaN;
  if (!Number.isNaN(at)) ahead = at - Date.now();
}

/** Now, by the server's clock, to the second. */
export const serverNow = () => Date.now() + ahead;

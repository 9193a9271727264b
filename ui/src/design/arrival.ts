// Arriving on a page: its heading takes the focus, so that it is read aloud, and the next Tab goes into the page.
let due = false;

/** The page that was gone to is in `page`, or will be. */
export function arrive(page: HTMLElement) {
  const heading = page.querySelector("h1");
  due = heading === null;
  // Until it is there, the place where it will be.
  (heading ?? page).focus({ preventScroll: true });
}

/** For the heading of a page that comes when its data does. */
export function headingIsThere(heading: HTMLElement | null) {
  if (!due || !heading) return;
  due = false;
  // Whoever went on meanwhile is not called back.
  if (document.activeElement === document.body || document.activeElement?.tagName === "MAIN") heading.focus({ preventScroll: true });
}

// Text of others made safe to show: nothing in it turns a line around, or is not seen.

/** Controls, formats, separators and fillers. What is left out does not vanish: two names that differ only there must not look the same. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\u115f\u1160\u3164\uffa0\u{e0000}-\u{e0fff}]/gu;

export function plain(text: string): string {
  return text.replace(/[\t\n\r]/g, " ").replace(UNSEEN, "\ufffd");
}

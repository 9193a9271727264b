// Forms over what others change too: nobody saves over what they did not see.
import { useState } from "react";
import { Problem, type Tagged } from "../api/client";

/** A part of something: its name, its value in words, and the value where the words do not tell two apart. */
export type Said = [name: string, words: string, value?: unknown];

/** What differs, in words. */
export function changes(before: Said[], after: Said[]): string[] {
  return after.flatMap(([name, words, value], at) => {
    const [, old, oldValue] = before[at] ?? [];
    if (old !== words) return [`${name}: ${old || "none"} → ${words || "none"}`];
    return JSON.stringify(oldValue) === JSON.stringify(value) ? [] : [`${name}: others than before`];
  });
}

/** What somebody else made of it, and that nothing was saved. */
export const changedMeanwhile = (differences: string[]) =>
  new Problem(
    412,
    "precondition_failed",
    `somebody else changed this since you opened it (${differences.join("; ")}). Nothing is saved: what you typed is still here, so look, then save again`,
  );

/** Puts over what is there, as long as it is what `check` agrees to: nobody comes in between. */
export async function putOver<T, R>(load: () => Promise<Tagged<T>>, check: (now: T) => void, put: (tag: string, now: T) => Promise<R>): Promise<R> {
  for (let tries = 3; ; tries -= 1) {
    const now = await load();
    check(now.it);
    try {
      return await put(now.tag, now.it);
    } catch (error) {
      if (!(error instanceof Problem && error.status === 412 && tries > 1)) throw error;
    }
  }
}

/** A form that was opened over something. What it does not say itself follows `seen`. */
export function useOver<T>(of: T, load: () => Promise<Tagged<T>>, says: (it: T) => Said[]) {
  const [seen, setSeen] = useState(of);
  const over = (put: (tag: string) => Promise<unknown>) =>
    putOver(
      load,
      (now) => {
        const differences = changes(says(seen), says(now));
        if (differences.length === 0) return;
        setSeen(now);
        throw changedMeanwhile(differences);
      },
      put,
    );
  return { seen, over };
}

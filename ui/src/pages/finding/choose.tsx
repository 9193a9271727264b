// Choosing rows: with the mouse and with the keyboard, one by one, from one to another, all of a page, all that match.
import { type KeyboardEvent, useRef, useState } from "react";

export interface Choice<Row> {
  rows: Row[];
  has: (id: string) => boolean;
  /** All that the filter shows, also on other pages. */
  everything: boolean;
  setEverything: (on: boolean) => void;
  choose: (rows: Row[], on: boolean) => void;
  clear: () => void;
  /** A row's box; `page`: the rows that stand beside it. */
  box: (row: Row, page: Row[], name: string) => React.ReactNode;
}

export function useChoice<Row extends { id: string }>(): Choice<Row> {
  const [chosen, setChosen] = useState<ReadonlyMap<string, Row>>(new Map());
  const [everything, setEverything] = useState(false);
  const anchor = useRef<string>(undefined);
  const shift = useRef(false);
  const choose = (rows: Row[], on: boolean) => {
    setEverything(false);
    setChosen((before) => {
      const after = new Map(before);
      for (const row of rows) if (on) after.set(row.id, row);
        else after.delete(row.id);
      return after;
    });
  };
  const toggle = (row: Row, page: Row[], on: boolean) => {
    const [from, to] = [page.findIndex((it) => it.id === anchor.current), page.findIndex((it) => it.id === row.id)];
    choose(shift.current && from >= 0 ? page.slice(Math.min(from, to), Math.max(from, to) + 1) : [row], on);
    anchor.current = row.id;
    shift.current = false;
  };
  /** Up and down go to the box of the row before or after. */
  const move = (event: KeyboardEvent<HTMLInputElement>) => {
    shift.current = event.shiftKey;
    const row = event.currentTarget.closest("tr");
    const other = event.key === "ArrowDown" ? row?.nextElementSibling : event.key === "ArrowUp" ? row?.previousElementSibling : undefined;
    const box = other?.querySelector<HTMLInputElement>("input[type=checkbox]");
    if (!box) return;
    event.preventDefault();
    box.focus();
  };
  return {
    rows: [...chosen.values()],
    has: (id) => everything || chosen.has(id),
    everything,
    setEverything: (on) => {
      setEverything(on);
      setChosen(new Map());
    },
    choose,
    clear: () => {
      setEverything(false);
      setChosen(new Map());
    },
    box: (row, page, name) => (
      <input
        type="checkbox"
        aria-label={`Choose ${name}`}
        checked={everything || chosen.has(row.id)}
        onKeyDown={move}
        onMouseDown={(event) => {
          shift.current = event.shiftKey;
        }}
        onChange={(event) => toggle(row, page, event.target.checked)}
      />
    ),
  };
}

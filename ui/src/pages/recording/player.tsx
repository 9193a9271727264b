// The replay of a recording: play, pause, seek, speed.
import { memo, useEffect, useMemo, useRef, useState } from "react";
import { Button } from "../../design/button";
import { Select } from "../../design/field";
import { plain } from "../../design/plain";
import { type Cast, squeezed } from "./cast";
import { type Run, Terminal } from "./terminal";
import "./player.css";

/** Nobody waits for longer than this where nothing happens, in seconds. */
const IDLE = 2;
const STEP_MS = 50;

/** The terminal at a moment, and what is said about the recording there. */
function at(cast: Cast, moment: number): { terminal: Terminal; mark: string } {
  const terminal = new Terminal(cast.columns, cast.rows);
  let mark = "";
  for (const event of cast.events) {
    if (event.at > moment) break;
    show(terminal, event);
    if (event.kind === "m") mark = event.text;
  }
  return { terminal, mark };
}

function show(terminal: Terminal, event: Cast["events"][number]) {
  if (event.kind === "o") terminal.write(event.text);
  if (event.kind === "r") {
    const [columns = 80, rows = 24] = event.text.split("x").map(Number);
    terminal.resize(columns, rows);
  }
}

const clock = (seconds: number) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

/** A row; one that did not change is not drawn again. */
const Row = memo(function Row({ runs }: { runs: Run[] }) {
  return (
    <div>
      {runs.map((run, place) => (
        <span key={place} className={run.look || undefined}>
          {run.text}
        </span>
      ))}
    </div>
  );
});

export function Player({ cast: whole }: { cast: Cast }) {
  const cast = useMemo(() => squeezed(whole, IDLE), [whole]);
  const [moment, setMoment] = useState(0);
  const [playing, setPlaying] = useState(false);
  const [speed, setSpeed] = useState("1");
  // The terminal of the last moment goes on from there; a step back begins anew.
  const kept = useRef({ cast, moment: -1, next: 0, terminal: new Terminal(cast.columns, cast.rows), mark: "" });
  if (kept.current.cast !== cast || moment < kept.current.moment) {
    const next = cast.events.findIndex((event) => event.at > moment);
    kept.current = { cast, moment, next: next < 0 ? cast.events.length : next, ...at(cast, moment) };
  }
  const now = kept.current;
  for (let event = cast.events[now.next]; event && event.at <= moment; event = cast.events[now.next]) {
    show(now.terminal, event);
    if (event.kind === "m") now.mark = event.text;
    now.next += 1;
  }
  now.moment = moment;

  useEffect(() => {
    if (!playing) return;
    const timer = setInterval(() => {
      setMoment((before) => Math.min(before + (STEP_MS / 1_000) * Number(speed), cast.duration));
    }, STEP_MS);
    return () => clearInterval(timer);
  }, [playing, speed, cast]);
  const ended = moment >= cast.duration;
  useEffect(() => {
    if (ended) setPlaying(false);
  }, [ended]);

  const toggle = () => {
    if (ended) setMoment(0);
    setPlaying(!playing);
  };
  return (
    <div className="player stack">
      <pre className="screen" role="region" aria-label="Screen" tabIndex={0}>
        {now.terminal.shown().map((runs, row) => (
          // A row is its place, and has no other name.
          <Row key={row} runs={runs} />
        ))}
      </pre>
      <div className="row controls">
        <Button onClick={toggle}>{playing ? "Pause" : ended && cast.duration > 0 ? "Play again" : "Play"}</Button>
        <input
          type="range"
          aria-label="Position"
          aria-valuetext={`${clock(moment)} of ${clock(cast.duration)}`}
          min={0}
          max={cast.duration || 1}
          step={0.1}
          value={moment}
          onChange={(event) => setMoment(Number(event.target.value))}
        />
        <span className="muted small">
          {clock(moment)} / {clock(cast.duration)}
        </span>
        <Select label="Speed" value={speed} onChange={(event) => setSpeed(event.target.value)}>
          {["0.5", "1", "2", "4", "16"].map((it) => (
            <option key={it} value={it}>
              {it}×
            </option>
          ))}
        </Select>
      </div>
      <p className="muted small" role="status">
        {plain(now.mark)}
      </p>
    </div>
  );
}

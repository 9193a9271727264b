// The log of a relay as it comes. Whoever follows is in the audit log, so following is asked for; nothing is kept beyond this page.
import { useEffect, useRef, useState } from "react";
import type { Schemas } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Select } from "../../design/field";
import { Panel } from "../../design/panel";
import { Empty, Notice } from "../../design/state";
import { Table } from "../../design/table";
import { save, written } from "../../list/export";
import { useFilter } from "../../list/keyset";
import { TypedField } from "../../list/typed";
import { to } from "../../paths";

type Line = Schemas["LogLine"];
type Numbered = Line & { at_number: number };

/** Lines that the page holds; older ones go. */
const LINES_MAX = 1_000;
/** Tries to come back before somebody has to ask again: each is a record in the audit log. */
const TRIES_MAX = 6;
const LEVELS = ["error", "warn", "info", "debug", "trace"];
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

interface Followed {
  lines: Numbered[];
  dropped: number;
  /** Where it stands: in words, where it does not follow. */
  state: "off" | "connecting" | "following" | "ended";
  why: string;
}

const NOTHING: Followed = { lines: [], dropped: 0, state: "off", why: "" };

/** Follows while `on`. A stream that breaks is taken up again, later each time; what it sends again is shown once. */
function useFollowed(url: string, on: boolean): Followed {
  const [followed, setFollowed] = useState<Followed>(NOTHING);
  const count = useRef(0);
  useEffect(() => {
    if (!on) return;
    let tries = 0;
    let source: EventSource | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    // Lines that came and are not shown yet: a fast log is drawn four times a second.
    let waiting: Line[] = [];
    let fresh = true;
    const draw = setInterval(() => {
      if (waiting.length === 0) return;
      const came = waiting.map((line) => ({ ...line, at_number: count.current++ }));
      waiting = [];
      const again = fresh;
      fresh = false;
      setFollowed((before) => ({
        ...before,
        // A new stream begins with the lines that the relay still has.
        lines: [...(again ? [] : before.lines), ...came].slice(-LINES_MAX),
        dropped: (again ? 0 : before.dropped) + came.reduce((sum, line) => sum + (line.dropped ?? 0), 0),
      }));
    }, 250);
    const later = (why: string) => {
      source?.close();
      tries += 1;
      if (tries > TRIES_MAX) return setFollowed((before) => ({ ...before, state: "ended", why }));
      setFollowed((before) => ({ ...before, state: "connecting", why }));
      timer = setTimeout(open, Math.min(1_000 * 2 ** tries, 30_000));
    };
    const open = () => {
      source = new EventSource(url);
      fresh = true;
      source.addEventListener("line", (event) => {
        tries = 0;
        waiting.push(JSON.parse(event.data as string) as Line);
        if (waiting.length > LINES_MAX) waiting = waiting.slice(-LINES_MAX);
      });
      source.addEventListener("end", (event) => {
        const { reason, message } = JSON.parse(event.data as string) as { reason: string; message: string };
        if (["relay_gone", "server_stops", "done"].includes(reason)) return later(message || "the stream ended");
        source?.close();
        setFollowed((before) => ({ ...before, state: "ended", why: message }));
      });
      source.onopen = () => setFollowed((before) => ({ ...before, state: "following", why: "" }));
      source.onerror = () => later("the connection broke");
    };
    setFollowed({ ...NOTHING, state: "connecting" });
    open();
    return () => {
      clearInterval(draw);
      clearTimeout(timer);
      source?.close();
      setFollowed((before) => ({ ...before, state: "off", why: "" }));
    };
  }, [url, on]);
  return followed;
}

export function RelayLog({ slug, relay, name }: { slug: string; relay: string; name: string }) {
  const [on, setOn] = useState(false);
  const [level, setLevel] = useFilter("level");
  const [text, setText] = useFilter("text", { typed: true });
  const { lines, dropped, state, why } = useFollowed(to.relayLog(slug, relay), on);
  const most = level ? LEVELS.indexOf(level) : LEVELS.length;
  const holds = (line: Line) =>
    !text || [line.text, line.target, ...Object.entries(line.fields ?? {}).flat()].some((of) => String(of).toLowerCase().includes(text.toLowerCase()));
  // The newest first, as in every list.
  const shown = lines.filter((line) => LEVELS.indexOf(line.level) <= most && holds(line)).reverse();
  const exported = () =>
    written(shown.map(({ at, level, target, text, fields }) => ({ at, level, target, text, fields: JSON.stringify(fields ?? {}) })));
  const words: Record<Followed["state"], string> = {
    off: "Not followed.",
    connecting: why ? `Connecting again: ${why}.` : "Connecting…",
    following: `Following: ${lines.length} lines.`,
    ended: `Ended: ${why}.`,
  };
  return (
    <Panel
      title="Log"
      flush
      action={
        <span className="row">
          <Button small reason={shown.length === 0 ? "There are no lines." : undefined} onClick={() => save(`${name}-log.csv`, "text/csv", exported())}>
            Export CSV
          </Button>
          <Button small aria-pressed={on} onClick={() => setOn(!on)}>
            {on ? "Stop following" : "Follow"}
          </Button>
        </span>
      }
    >
      <div className="filters inside">
        <Select label="Level" value={level} onChange={(event) => setLevel(event.target.value)}>
          <option value="">All</option>
          {LEVELS.slice(0, 4).map((it) => (
            <option key={it} value={it}>
              {it === "error" ? it : `${it} and above`}
            </option>
          ))}
        </Select>
        <TypedField label="Text" type="search" text={text} onType={setText} />
        <span className="small muted" role="status">
          {words[state]}
        </span>
      </div>
      {dropped > 0 && <Notice kind="care">{dropped} lines came faster than they were taken, and are missing here.</Notice>}
      {shown.length === 0 ? (
        <Empty title={lines.length > 0 ? "Nothing matches" : "No lines"}>
          {lines.length > 0
            ? "Choose another level, or another text."
            : "Following shows the lines that the relay still has, then those that come. Nothing of it is stored at the server, and that you follow is in the audit log."}
        </Empty>
      ) : (
        <Table
          name="Log"
          rows={shown}
          rowKey={(it) => String(it.at_number)}
          columns={[
            { head: "At", kind: "nowrap", cell: (it) => <time dateTime={it.at}>{clock.format(new Date(it.at))}</time> },
            { head: "Level", cell: (it) => <Badge word={it.level} /> },
            {
              head: "What",
              kind: "main",
              cell: (it) => (
                <>
                  {it.text}
                  <div className="under mono">
                    {it.target}
                    {Object.entries(it.fields ?? {}).map(([field, value]) => ` ${field}=${String(value)}`)}
                  </div>
                </>
              ),
            },
          ]}
        />
      )}
    </Panel>
  );
}

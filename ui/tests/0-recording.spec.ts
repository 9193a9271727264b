// A recorded terminal, and what is said of it: no browser is needed for these.
import { expect, test } from "@playwright/test";
import { plain } from "../src/design/plain";
import { parse } from "../src/pages/recording/cast";
import { Terminal } from "../src/pages/recording/terminal";

/** The rows that are not blank. */
function rows(terminal: Terminal): string[] {
  return terminal
    .shown()
    .map((runs) => runs.map((run) => run.text).join("").trimEnd())
    .filter(Boolean);
}

function shown(text: string, columns = 20, height = 5): string[] {
  const terminal = new Terminal(columns, height);
  terminal.write(text);
  return rows(terminal);
}

test("programs that move, erase, insert and scroll are shown as a terminal shows them", () => {
  const checks: [string, string[]][] = [
    ["one\r\ntwo\r\n", ["one", "two"]],
    ["abc\u001b[2;3Hxy\u001b[1;2Hz", ["azc", "  xy"]],
    ["abcdef\u001b[1;3H\u001b[K", ["ab"]],
    ["abcdef\u001b[1;3H\u001b[1K", ["   def"]],
    ["abc\r\ndef\u001b[2J\u001b[Hx", ["x"]],
    ["abcdef\u001b[1;3H\u001b[2P", ["abef"]],
    ["abcdef\u001b[1;3H\u001b[2@", ["ab  cdef"]],
    ["abcdef\u001b[1;3H\u001b[2X", ["ab  ef"]],
    ["1\r\n2\r\n3\r\n4\r\n5\r\n6", ["2", "3", "4", "5", "6"]],
    ["1\r\n2\r\n3\u001b[1;1H\u001b[L", ["1", "2", "3"]],
    ["1\r\n2\r\n3\u001b[1;1H\u001b[M", ["2", "3"]],
    ["1\r\n2\r\n3\r\n4\r\n5\u001b[2;4r\u001b[4;1H\n", ["1", "3", "4", "5"]],
    ["1\r\n2\u001b[9999S", []],
    ["1\u001b[?1049hother\u001b[?1049l", ["1"]],
  ];
  for (const [text, expected] of checks) expect(shown(text), JSON.stringify(text)).toEqual(expected);
});

test("nothing that was shown is hidden from who looks", () => {
  // Concealed, also with a zero before; what turns text around or is not seen; text in the colour of its ground.
  for (const text of ["\u001b[8mx", "\u001b[08mx", "\u001b[0;008mx", "\u202ex\u200b", "\u001b[31;41mx", "\u001b[30;7;47mx"]) {
    const terminal = new Terminal(5, 1);
    terminal.write(text);
    expect(terminal.shown()[0]?.[0], JSON.stringify(text)).toMatchObject({ text: expect.stringMatching(/^x/) });
    expect(terminal.shown()[0]?.[0]?.look).not.toMatch(/f(\d+) b\1\b/);
  }
  // A list that is too long is none.
  expect(new Terminal(5, 1).shown()[0]?.[0]?.look).toBe("");
  const terminal = new Terminal(5, 1);
  terminal.write(`\u001b[${"1;".repeat(16)}31mx`);
  expect(terminal.shown()[0]?.[0]).toEqual({ text: "x    ", look: "" });
  expect(plain("invoice\u202efdp.exe\u200b\u0007")).toBe("invoice\ufffdfdp.exe\ufffd\ufffd");
  expect(plain("two\nlines ☃ 日本 é")).toBe("two lines ☃ 日本 é");
});

test("what a recording may hold a million of costs little each time", () => {
  const terminal = new Terminal(500, 500);
  const began = performance.now();
  for (let at = 0; at < 20_000; at += 1) terminal.resize(500 - (at % 2), 500 - (at % 3));
  terminal.write("\u001b[9999S\u001b[9999T".repeat(5_000));
  terminal.write("\u001b[2J".repeat(5_000));
  terminal.write("\n".repeat(100_000));
  terminal.write("\u001b[9999@".repeat(5_000));
  // Each of these would take a minute if it touched every cell.
  expect(performance.now() - began).toBeLessThan(10_000);
});

test("only rows that changed are drawn again", () => {
  const terminal = new Terminal(10, 3);
  terminal.write("a\r\nb\r\nc");
  const before = terminal.shown();
  terminal.write("\u001b[2;1Hx");
  const after = terminal.shown();
  expect(after.map((row, at) => row === before[at])).toEqual([true, false, true]);
  terminal.resize(12, 3);
  expect(terminal.shown().every((row) => row.map((run) => run.text).join("").length === 12)).toBe(true);
});

test("a recording that says no size of its terminal is shown on one of the usual size", () => {
  const sizes = (header: object, ...events: string[]) => {
    const cast = parse([JSON.stringify({ version: 2, ...header }), ...events.map((it, at) => JSON.stringify([at, "r", it]))].join("\n"));
    return [`${cast.columns}x${cast.rows}`, ...cast.events.map((event) => event.text)];
  };
  expect(sizes({ width: 0, height: 0 }, "0x0", "1x1", "80x0", "120x40", "0x0", "x", "120", "-1x24")).toEqual(["80x24", "120x40"]);
  expect(sizes({ width: 1, height: 1 })).toEqual(["80x24"]);
  expect(sizes({ width: "100", height: 30 })).toEqual(["80x24"]);
  expect(sizes({ width: 100, height: 30 }, "2x1")).toEqual(["100x30", "2x1"]);
});

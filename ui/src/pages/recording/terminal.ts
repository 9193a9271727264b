// A terminal as far as a recording needs one: text, colours, the cursor, erasing, scrolling, the other screen. What a program asks a terminal for
// otherwise (titles, the clipboard, answers) has no effect here, and nothing that is shown is ever more than text.

/** How a cell looks: a class for each attribute. */
export interface Cell {
  text: string;
  look: string;
}

/** Neighbouring cells that look the same. */
export type Run = Cell;

/** A row: no cell behind its last one but blanks. What is shown of it is kept until it changes, so that only what changed is drawn again. */
interface Line {
  cells: Cell[];
  shown?: Run[] | undefined;
}

/** No terminal is larger: a recording must not make its reader's browser hold what somebody likes. */
const SIZE_MAX = 500;
/** Most parameters of a sequence. Terminals keep sixteen or more, and differ in what they make of those after them. */
const PARAMETERS_MAX = 16;
/** Longest text of a sequence that holds one: who does not end it must not hide what follows. */
const HIDDEN_MAX = 4_096;
const SEQUENCE = /^[\x20-\x3f]*$/;

const BLANK: Cell = { text: " ", look: "" };

interface Pen {
  fore: string;
  back: string;
  bold: boolean;
  faint: boolean;
  italic: boolean;
  underline: boolean;
  inverse: boolean;
}

/** Turns text around, or is not seen at all. */
const HIDES = /[\p{Cf}\p{Zl}\p{Zp}\u115f\u1160\u3164\uffa0\u{e0000}-\u{e0fff}]/u;

const PLAIN: Pen = { fore: "", back: "", bold: false, faint: false, italic: false, underline: false, inverse: false };

/** One of sixteen colours for one of 256. */
function nearest(index: number): string {
  if (index < 16) return String(index);
  if (index >= 232) return index < 244 ? "8" : "15";
  const [r, g, b] = [Math.floor((index - 16) / 36), Math.floor(((index - 16) % 36) / 6), (index - 16) % 6];
  return mixed((r ?? 0) * 51, (g ?? 0) * 51, (b ?? 0) * 51);
}

function mixed(r: number, g: number, b: number): string {
  const bits = (r > 100 ? 1 : 0) + (g > 100 ? 2 : 0) + (b > 100 ? 4 : 0);
  return String(bits + (Math.max(r, g, b) > 200 && bits !== 0 ? 8 : 0));
}

export class Terminal {
  columns = 80;
  rows = 24;
  private lines: Line[] = [];
  private other: Line[] | undefined;
  private row = 0;
  private column = 0;
  private saved: [number, number] = [0, 0];
  private top = 0;
  private bottom = 23;
  private pen: Pen = PLAIN;
  private look = "";
  private state: "text" | "escape" | "charset" | "sequence" | "hidden" = "text";
  private sequence = "";
  private hidden = 0;
  private mayEnd = false;

  constructor(columns: number, rows: number) {
    this.resize(columns, rows);
  }

  /** It costs no more than a few rows: a recording may hold a million of these. */
  resize(columns: number, rows: number) {
    const before = this.columns;
    this.columns = Math.min(Math.max(Math.trunc(columns) || 80, 1), SIZE_MAX);
    this.rows = Math.min(Math.max(Math.trunc(rows) || 24, 1), SIZE_MAX);
    for (const lines of [this.lines, this.other]) {
      if (!lines) continue;
      if (lines.length > this.rows) lines.length = this.rows;
      while (lines.length < this.rows) lines.push({ cells: [] });
      if (before === this.columns) continue;
      for (const line of lines) {
        if (line.cells.length > this.columns) line.cells.length = this.columns;
        line.shown = undefined;
      }
    }
    this.top = 0;
    this.bottom = this.rows - 1;
    this.move(this.row, this.column);
  }

  /** What is shown, row by row. A row that did not change is the same array again. */
  shown(): Run[][] {
    return this.lines.map((line) => {
      if (line.shown) return line.shown;
      const runs: Run[] = [];
      const add = (text: string, look: string) => {
        const last = runs[runs.length - 1];
        if (last && last.look === look) last.text += text;
        else runs.push({ text, look });
      };
      for (const cell of line.cells) add(cell.text, cell.look);
      const rest = this.columns - line.cells.length;
      if (rest > 0) add(" ".repeat(rest), "");
      line.shown = runs;
      return runs;
    });
  }

  write(text: string) {
    for (const char of text) this.step(char);
  }

  private step(char: string) {
    const code = char.codePointAt(0) ?? 0;
    if (this.state === "hidden") {
      if ((this.mayEnd && char === "\\") || code === 7 || code === 0x9c || code === 0x18 || code === 0x1a) this.state = "text";
      else if (code === 0x1b) this.mayEnd = true;
      else if (this.mayEnd) {
        this.state = "escape";
        this.step(char);
      } else if (code === 10 || ++this.hidden > HIDDEN_MAX) {
        this.state = "text";
        this.put("\ufffd");
        this.step(char);
      }
      return;
    }
    if (code === 0x1b) {
      this.state = "escape";
      return;
    }
    switch (this.state) {
      case "escape":
        this.escape(char);
        return;
      case "charset":
        this.state = "text";
        return;
      case "sequence":
        if (code >= 0x40 && code <= 0x7e) {
          this.state = "text";
          this.control(this.sequence, char);
        } else if (SEQUENCE.test(char) && this.sequence.length < 64) this.sequence += char;
        else this.state = "text";
        return;
      default:
        this.plain(char, code);
    }
  }

  private plain(char: string, code: number) {
    if (code === 10) this.down();
    else if (code === 13) this.column = 0;
    else if (code === 8) this.move(this.row, this.column - 1);
    else if (code === 9) this.move(this.row, (Math.floor(this.column / 8) + 1) * 8);
    else if (code >= 0x20 && !(code >= 0x7f && code < 0xa0) && !(code > 0x7f && HIDES.test(char))) this.put(char);
  }

  private escape(char: string) {
    this.state = "text";
    if (char === "[") {
      this.state = "sequence";
      this.sequence = "";
    } else if ("]PX^_".includes(char)) {
      this.state = "hidden";
      this.hidden = 0;
      this.mayEnd = false;
    } else if ("()*+-./ #%".includes(char)) this.state = "charset";
    else if (char === "7") this.saved = [this.row, this.column];
    else if (char === "8") this.move(...this.saved);
    else if (char === "D") this.down();
    else if (char === "E") {
      this.column = 0;
      this.down();
    } else if (char === "M") {
      if (this.row === this.top) this.scroll(-1);
      else this.move(this.row - 1, this.column);
    }
  }

  private put(char: string) {
    if (this.column >= this.columns) {
      this.column = 0;
      this.down();
    }
    this.set(this.row, this.column, { text: char, look: this.look });
    this.column += 1;
  }

  private set(row: number, column: number, cell: Cell) {
    const line = this.lines[row];
    if (!line || column < 0 || column >= this.columns) return;
    while (line.cells.length < column) line.cells.push(BLANK);
    line.cells[column] = cell;
    line.shown = undefined;
  }

  private move(row: number, column: number) {
    this.row = Math.min(Math.max(row, 0), this.rows - 1);
    this.column = Math.min(Math.max(column, 0), this.columns - 1);
  }

  private down() {
    if (this.row === this.bottom) this.scroll(1);
    else this.row = Math.min(this.row + 1, this.rows - 1);
  }

  private scroll(by: number, top = this.top) {
    const count = Math.min(Math.abs(by), this.bottom - top + 1);
    if (count <= 0) return;
    const blanks = Array.from({ length: count }, (): Line => ({ cells: [] }));
    const [gone, came] = by > 0 ? [top, this.bottom - count + 1] : [this.bottom - count + 1, top];
    this.lines.splice(gone, count);
    this.lines.splice(came, 0, ...blanks);
  }

  private erase(row: number, from: number, to: number) {
    const line = this.lines[row];
    if (!line) return;
    if (to >= line.cells.length) line.cells.length = Math.min(line.cells.length, from);
    else line.cells.fill(BLANK, from, to);
    line.shown = undefined;
  }

  private control(parameters: string, last: string) {
    if (parameters.startsWith("?")) {
      const on = last === "h";
      if ((on || last === "l") && /^\?(.*;)?(47|1047|1049)(;|$)/.test(parameters)) this.switch(on);
      return;
    }
    if (!/^[\d;]*$/.test(parameters)) return;
    const numbers = parameters.split(";").map((it) => Number(it || Number.NaN));
    if (numbers.length > PARAMETERS_MAX) return;
    const n = (at: number, otherwise: number) => {
      const value = numbers[at];
      return value === undefined || Number.isNaN(value) ? otherwise : Math.min(value, 10_000);
    };
    const count = Math.max(n(0, 1), 1);
    switch (last) {
      case "A":
        return this.move(this.row - count, this.column);
      case "B":
      case "e":
        return this.move(this.row + count, this.column);
      case "C":
      case "a":
        return this.move(this.row, this.column + count);
      case "D":
        return this.move(this.row, this.column - count);
      case "E":
        return this.move(this.row + count, 0);
      case "F":
        return this.move(this.row - count, 0);
      case "G":
      case "`":
        return this.move(this.row, count - 1);
      case "d":
        return this.move(count - 1, this.column);
      case "H":
      case "f":
        return this.move(count - 1, Math.max(n(1, 1), 1) - 1);
      case "J": {
        const kind = n(0, 0);
        if (kind === 0) this.erase(this.row, this.column, this.columns);
        if (kind === 1) this.erase(this.row, 0, this.column + 1);
        for (let row = 0; row < this.rows; row += 1) {
          if (kind >= 2 || (kind === 0 && row > this.row) || (kind === 1 && row < this.row)) this.erase(row, 0, this.columns);
        }
        return;
      }
      case "K":
        return this.erase(this.row, n(0, 0) === 0 ? this.column : 0, n(0, 0) === 1 ? this.column + 1 : this.columns);
      case "L":
        return this.scroll(-count, this.row);
      case "M":
        return this.scroll(count, this.row);
      case "S":
        return this.scroll(count);
      case "T":
        return this.scroll(-count);
      case "X":
        return this.erase(this.row, this.column, Math.min(this.column + count, this.columns));
      case "P":
      case "@": {
        const line = this.lines[this.row];
        if (!line || this.column >= line.cells.length) return;
        const moved = Math.min(count, this.columns - this.column);
        if (last === "P") line.cells.splice(this.column, moved);
        else {
          line.cells.splice(this.column, 0, ...Array.from({ length: moved }, () => BLANK));
          if (line.cells.length > this.columns) line.cells.length = this.columns;
        }
        line.shown = undefined;
        return;
      }
      case "r": {
        const [top, bottom] = [Math.max(n(0, 1), 1) - 1, Math.min(Math.max(n(1, this.rows), 1), this.rows) - 1];
        if (top < bottom) {
          this.top = top;
          this.bottom = bottom;
          this.move(0, 0);
        }
        return;
      }
      case "m":
        return this.attributes(parameters === "" ? [0] : numbers.map((it) => (Number.isNaN(it) ? 0 : it)));
    }
  }

  private switch(on: boolean) {
    if (on && !this.other) {
      this.other = this.lines;
      this.lines = Array.from({ length: this.rows }, (): Line => ({ cells: [] }));
    } else if (!on && this.other) {
      this.lines = this.other;
      this.other = undefined;
    }
  }

  /** The one that conceals text is not among them. */
  private attributes(numbers: number[]) {
    const pen = { ...this.pen };
    for (let at = 0; at < numbers.length; at += 1) {
      const one = numbers[at] ?? 0;
      if (one === 0) Object.assign(pen, PLAIN);
      else if (one === 1) pen.bold = true;
      else if (one === 2) pen.faint = true;
      else if (one === 3) pen.italic = true;
      else if (one === 4) pen.underline = true;
      else if (one === 7) pen.inverse = true;
      else if (one === 22) pen.bold = pen.faint = false;
      else if (one === 23) pen.italic = false;
      else if (one === 24) pen.underline = false;
      else if (one === 27) pen.inverse = false;
      else if (one >= 30 && one <= 37) pen.fore = String(one - 30);
      else if (one >= 90 && one <= 97) pen.fore = String(one - 82);
      else if (one === 39) pen.fore = "";
      else if (one >= 40 && one <= 47) pen.back = String(one - 40);
      else if (one >= 100 && one <= 107) pen.back = String(one - 92);
      else if (one === 49) pen.back = "";
      else if (one === 38 || one === 48) {
        let colour: string | undefined;
        if (numbers[at + 1] === 5) {
          colour = nearest(numbers[at + 2] ?? 0);
          at += 2;
        } else if (numbers[at + 1] === 2) {
          colour = mixed(numbers[at + 2] ?? 0, numbers[at + 3] ?? 0, numbers[at + 4] ?? 0);
          at += 4;
        } else break;
        if (one === 38) pen.fore = colour;
        else pen.back = colour;
      }
    }
    this.pen = pen;
    this.look = looks(pen);
  }
}

function looks({ fore, back, bold, faint, italic, underline, inverse }: Pen): string {
  let [front, behind] = inverse ? [back || "page", fore || "text"] : [fore, back];
  // What cannot be read would be hidden.
  if (front === behind) [front, behind] = ["", ""];
  const words = [front && `f${front}`, behind && `b${behind}`, bold && "bold", faint && "faint", italic && "italic", underline && "underline"];
  return words.filter(Boolean).join(" ");
}

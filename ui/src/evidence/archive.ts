// Reading a bundle's ZIP archive in memory. No name in it is used as a path; what is odd is refused, not repaired.
const FILES_MAX = 20_000;
const BYTES_MAX = 512 * 1024 * 1024;

export class Refused extends Error {
  constructor(
    readonly file: string,
    readonly problem: string,
  ) {
    super(`${file}: ${problem}`);
  }
}

/** The archive ends with a SHA-256 of all before it, which shows what was damaged on the way; against intent there are signatures. */
const COMMENT = "cairn-bundle/v1 sha256:";
const COMMENT_BYTES = COMMENT.length + 64;

interface Entry {
  name: string;
  method: number;
  packed: number;
  size: number;
  at: number;
}

const END = 0x06054b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;

function entries(view: DataView, bytes: Uint8Array): Entry[] {
  const end = view.byteLength - COMMENT_BYTES - 22;
  if (end < 0 || view.getUint32(end, true) !== END || view.getUint16(end + 20, true) !== COMMENT_BYTES) {
    throw new Refused("the bundle", "is not a bundle of Cairn, or was cut off");
  }
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  if (count > FILES_MAX) throw new Refused("the bundle", `holds more than ${FILES_MAX} files`);
  const found: Entry[] = [];
  const seen = new Set<string>();
  let total = 0;
  for (let n = 0; n < count; n += 1) {
    if (at + 46 > end || view.getUint32(at, true) !== CENTRAL) throw new Refused("the bundle", "has a broken list of files");
    const nameBytes = view.getUint16(at + 28, true);
    const name = new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(at + 46, at + 46 + nameBytes));
    const entry = {
      name,
      method: view.getUint16(at + 10, true),
      packed: view.getUint32(at + 20, true),
      size: view.getUint32(at + 24, true),
      at: view.getUint32(at + 42, true),
    };
    if (seen.has(name.toLowerCase())) throw new Refused(name, "is there twice");
    if (!/^[\w.-]+(\/[\w.-]+)*$/.test(name) || name.split("/").some((part) => part === "." || part === "..")) {
      throw new Refused(name, "is not a plain name");
    }
    if (entry.method !== 0 && entry.method !== 8) throw new Refused(name, "is packed in a way that bundles do not use");
    total += entry.size;
    if (total > BYTES_MAX) throw new Refused("the bundle", "is larger than a browser should unpack: use `cairn evidence verify`");
    seen.add(name.toLowerCase());
    found.push(entry);
    at += 46 + nameBytes + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
  return found;
}

/** No more than it says it is: what is packed larger ends there. */
async function inflate(packed: Uint8Array<ArrayBuffer>, { name, size }: Entry): Promise<Uint8Array<ArrayBuffer>> {
  const out = new Uint8Array(size);
  let at = 0;
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  for (;;) {
    const { done, value } = await reader.read().catch(() => Promise.reject(new Refused(name, "cannot be unpacked")));
    if (done) break;
    if (at + value.length > size) throw new Refused(name, "is larger than the list of files says");
    out.set(value, at);
    at += value.length;
  }
  if (at !== size) throw new Refused(name, "is smaller than the list of files says");
  return out;
}

/** The files of an archive, by name. */
export async function unpack(bytes: Uint8Array<ArrayBuffer>): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const said = new TextDecoder().decode(bytes.slice(-COMMENT_BYTES));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes.slice(0, -COMMENT_BYTES)));
  const found = entries(view, bytes);
  if (said !== COMMENT + Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("")) {
    throw new Refused("the bundle", "was changed after it was written");
  }
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const entry of found) {
    const { name, at, packed, size, method } = entry;
    if (at + 30 > bytes.length || view.getUint32(at, true) !== LOCAL) throw new Refused(name, "is not where the list of files says");
    const from = at + 30 + view.getUint16(at + 26, true) + view.getUint16(at + 28, true);
    const raw = bytes.slice(from, from + packed);
    if (raw.length !== packed) throw new Refused(name, "was cut off");
    if (method === 0 && packed !== size) throw new Refused(name, "has two sizes");
    files.set(name, method === 0 ? raw : await inflate(raw, entry));
  }
  return files;
}

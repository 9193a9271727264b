// Whether a record is in the log, found out in the browser: the server's proof (C2SP tlog-proof) leads from the record's own bytes to a head
// that the log's key signed.
const HEAD = "c2sp.org/tlog-proof@v1";
const HASHES_MAX = 63;

type Bytes = Uint8Array<ArrayBuffer>;

export interface Proved {
  covers: Covered;
  /** Of the signed head: how many records it covers. */
  size: number;
  root: string;
  /** The log whose key signed the head. */
  log: string;
  /** SHA-256 of that key (SPKI), in hex. */
  fingerprint: string;
  /** Who else is named as a signer: their signatures are not checked here. */
  others: string[];
}

/** What an entry is of: an operation, or evidence that was signed, of which it has the digest and not the time. */
export type Covered = "operation" | "evidence";

/** What of a record its entry says, and the page shows. */
export interface Shown {
  seq: number;
  id: string;
  at: string;
  category: string;
  action: string;
  outcome: string;
  object_type: string;
  object_id: string;
  entry: string;
}

/** Why a proof is none. */
export class Unproved extends Error {}

function unbase64(text: string, what: string): Bytes {
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)) throw new Unproved(`${what} is not base64`);
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

function count(text: string | undefined, what: string): number {
  if (!text || !/^(?:0|[1-9]\d{0,14})$/.test(text)) throw new Unproved(`${what} is no plain number`);
  return Number(text);
}

async function sha256(...parts: Bytes[]): Promise<Bytes> {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", all));
}

/** The root to which a leaf leads (RFC 9162, 2.1.3.2). */
async function rootOf(leaf: Bytes, index: number, size: number, hashes: Bytes[]): Promise<Bytes> {
  const node = Uint8Array.of(1);
  let [at, last, hash] = [index, size - 1, leaf];
  for (const sibling of hashes) {
    if (last === 0) throw new Unproved("it has too many hashes");
    if (at % 2 === 1 || at === last) {
      hash = await sha256(node, sibling, hash);
      while (at % 2 === 0 && at !== 0) [at, last] = [at / 2, Math.floor(last / 2)];
    } else hash = await sha256(node, hash, sibling);
    [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
  }
  if (last !== 0) throw new Unproved("it has too few hashes");
  return hash;
}

/** The beginning of an Ed25519 key's SPKI (RFC 8410); the key's 32 bytes follow. */
const SPKI = Uint8Array.of(0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00);

/** The log's key of a verifier key `NAME+ID+KEY`. */
async function keyOf(vkey: string): Promise<{ name: string; id: string; key: CryptoKey; fingerprint: string }> {
  const [name, id, encoded] = [vkey.split("+", 1)[0] ?? "", vkey.split("+")[1] ?? "", vkey.split("+").slice(2).join("+")];
  const bytes = unbase64(encoded, "the log’s key");
  if (bytes.length !== 33 || bytes[0] !== 1) throw new Unproved("the log’s key is no Ed25519 key");
  const known = (await sha256(new TextEncoder().encode(`${name}\n`), bytes)).slice(0, 4);
  if (Array.from(known, (byte) => byte.toString(16).padStart(2, "0")).join("") !== id) throw new Unproved("the log’s key has another id than its own");
  const key = await crypto.subtle.importKey("raw", bytes.slice(1), { name: "Ed25519" }, false, ["verify"]);
  return { name, id, key, fingerprint: hex(await sha256(SPKI, bytes.slice(1))) };
}

const hex = (bytes: Bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** What the records of signed evidence all are, whose entries say only which evidence it is and the digest of what was signed. */
const SIGNED = { category: "evidence", action: "evidence_sign", outcome: "success", object_type: "evidence" } as const;

/** Whether the entry, which the log covers, says what is shown of it: of an operation, or of evidence that was signed. */
function agree(record: Shown): Covered | undefined {
  try {
    const said = JSON.parse(record.entry) as Record<string, unknown> & { obj?: { type?: unknown; id?: unknown } };
    if (Object.keys(said).sort().join() === "ev,pae") {
      const shown = Object.entries(SIGNED).every(([name, is]) => record[name as keyof typeof SIGNED] === is);
      return shown && said["ev"] === record.object_id ? "evidence" : undefined;
    }
    const pairs: [unknown, unknown][] = [
      [said["seq"], record.seq],
      [said["id"], record.id],
      [said["t"], record.at],
      [said["cat"], record.category],
      [said["act"], record.action],
      [said["out"], record.outcome],
      [said.obj?.type, record.object_type],
      [said.obj?.id, record.object_id],
    ];
    return pairs.every(([of, shown]) => of === shown) ? "operation" : undefined;
  } catch {
    return undefined;
  }
}

/** Checks that a record is in the log of `vkey` at its place, and that it is shown as it is there. */
export async function prove(proof: string, record: Shown, vkey: string): Promise<Proved> {
  const { entry, seq } = record;
  const covers = agree(record);
  if (!covers) throw new Unproved("the record is shown otherwise than its own bytes say");
  const cut = proof.indexOf("\n\n");
  if (cut < 0) throw new Unproved("it has no checkpoint");
  const [head, index, ...encoded] = proof.slice(0, cut).split("\n");
  if (head !== HEAD) throw new Unproved("it is of another form");
  if (count(/^index (.+)$/.exec(index ?? "")?.[1], "its index") !== seq) throw new Unproved("it is of another record");
  if (encoded.length > HASHES_MAX) throw new Unproved("it has more hashes than any log needs");
  const hashes = encoded.map((line) => unbase64(line, "a hash"));
  if (hashes.some((hash) => hash.length !== 32)) throw new Unproved("a hash is not 32 bytes");
  const note = proof.slice(cut + 2);
  const end = note.indexOf("\n\n");
  if (end < 0) throw new Unproved("its checkpoint is not signed");
  const text = note.slice(0, end + 1);
  const [origin, size, root, ...more] = text.split("\n");
  if (more.length !== 1 || more[0] !== "") throw new Unproved("its checkpoint has not three lines");
  const log = await keyOf(vkey);
  if (origin !== log.name) throw new Unproved("its checkpoint is of another log");
  const lines = note.slice(end + 2).split("\n").filter(Boolean);
  const signatures = lines.map((line) => /^\u2014 (\S+) (\S+)$/.exec(line)).map((found) => {
    if (!found?.[1] || !found[2]) throw new Unproved("a signature of its checkpoint cannot be read");
    return { name: found[1], bytes: unbase64(found[2], "a signature") };
  });
  const own = signatures.find((it) => it.name === log.name && hex(it.bytes.slice(0, 4)) === log.id);
  const good = own && (await crypto.subtle.verify({ name: "Ed25519" }, log.key, own.bytes.slice(4), new TextEncoder().encode(text)));
  if (!good) throw new Unproved("its checkpoint is not signed by the log’s key");
  const covered = count(size, "its checkpoint’s size");
  if (seq >= covered) throw new Unproved("its checkpoint does not cover the record");
  const leaf = await sha256(Uint8Array.of(0), new TextEncoder().encode(entry));
  if (hex(await rootOf(leaf, seq, covered, hashes)) !== hex(unbase64(root ?? "", "its root"))) {
    throw new Unproved("its hashes do not lead from the record to the signed head");
  }
  const others = signatures.filter((it) => it !== own).map((it) => it.name);
  return { covers, size: covered, root: root ?? "", log: log.name, fingerprint: log.fingerprint, others };
}

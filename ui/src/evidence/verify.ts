// Verifying a bundle in the browser, without a word from the server: signatures by WebCrypto's Ed25519, every file by SHA-256.
//
// It proves that no file was changed, added or removed since the key signed, and that every statement and artifact was signed by that key
// or by an earlier one that it vouches for. What it leaves to `cairn evidence verify`: the proofs of the audit log, the order inside statements.
import { Refused, unpack } from "./archive";

type Bytes = Uint8Array<ArrayBuffer>;
type Files = Map<string, Bytes>;

const PAYLOAD = "application/vnd.in-toto+json";
const OWN_KEY = "keys/evidence.pem";
const LOG_KEY = "keys/log.pem";
const MANIFEST = ["manifest.json", "manifest.pae", "manifest.sig"];

export interface Verified {
  fingerprint: string;
  files: number;
  /** Their ids. */
  statements: Set<string>;
  artifacts: number;
  created: string;
  tenant: string;
}

const text = (bytes: Bytes) => new TextDecoder("utf-8", { fatal: true }).decode(bytes);
const same = (a: Uint8Array, b: Uint8Array) => a.length === b.length && a.every((byte, at) => byte === b[at]);
const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const sha256 = async (bytes: Bytes) => hex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));

function need(files: Files, name: string): Bytes {
  const file = files.get(name);
  if (!file) throw new Refused(name, "is missing");
  return file;
}

interface Key {
  fingerprint: string;
  verify: (bytes: Bytes, signature: Bytes) => Promise<boolean>;
}

async function keyOf(files: Files, name: string): Promise<Key> {
  const inside = /^-----BEGIN PUBLIC KEY-----\n([A-Za-z0-9+/=\n]+)-----END PUBLIC KEY-----\n$/.exec(text(need(files, name)));
  if (!inside?.[1]) throw new Refused(name, "is not one public key in PEM");
  const spki = Uint8Array.from(atob(inside[1].replaceAll("\n", "")), (c) => c.charCodeAt(0));
  const key = await crypto.subtle
    .importKey("spki", spki, { name: "Ed25519" }, false, ["verify"])
    .catch(() => Promise.reject(new Refused(name, "is no Ed25519 key, or this browser knows no Ed25519")));
  return {
    fingerprint: await sha256(spki),
    verify: (bytes, signature) => crypto.subtle.verify({ name: "Ed25519" }, key, signature, bytes),
  };
}

/** The body inside of DSSE's pre-authentication encoding, if encoding it again gives the same bytes. */
function body(pae: Bytes, name: string): Bytes {
  const head = `DSSEv1 ${PAYLOAD.length} ${PAYLOAD} `;
  const start = text(pae.slice(0, head.length + 20).filter((byte) => byte < 0x80));
  const length = /^\d+/.exec(start.slice(head.length))?.[0];
  if (!start.startsWith(head) || !length) throw new Refused(name, "is not a signed statement’s encoding");
  const inside = pae.slice(head.length + length.length + 1);
  if (String(inside.length) !== length) throw new Refused(name, "says another length than it has");
  return inside;
}

interface Manifest {
  subject: { name: string; digest: { sha256: string } }[];
  predicate: Record<string, unknown>;
}

function manifestOf(json: Bytes): Manifest {
  const manifest = JSON.parse(text(json)) as Manifest;
  const sound = Array.isArray(manifest.subject) && manifest.subject.every((it) => /^[0-9a-f]{64}$/.test(it.digest.sha256));
  if (!sound) throw new Refused("manifest.json", "does not list files");
  return manifest;
}

/** Checks a bundle. `trusted`: the key's fingerprint as known by another way than the bundle. */
export async function verify(bundle: Bytes, trusted: string): Promise<Verified> {
  const files = await unpack(bundle);
  const own = await keyOf(files, OWN_KEY);
  if (own.fingerprint !== trusted.toLowerCase()) {
    throw new Refused(OWN_KEY, `is the key ${own.fingerprint}, and not the one that you trust`);
  }
  const [json, pae, signature] = [need(files, "manifest.json"), need(files, "manifest.pae"), need(files, "manifest.sig")];
  if (!(await own.verify(pae, signature))) throw new Refused("manifest.sig", "is not a signature of the manifest by this key");
  if (!same(body(pae, "manifest.pae"), json)) throw new Refused("manifest.json", "is not the manifest that was signed");
  const manifest = manifestOf(json);
  const listed = new Map(manifest.subject.map((it) => [it.name, it.digest.sha256]));
  for (const name of files.keys()) {
    if (!listed.has(name) && !MANIFEST.includes(name)) throw new Refused(name, "is not in the manifest");
  }
  for (const [name, digest] of listed) {
    if ((await sha256(need(files, name))) !== digest) throw new Refused(name, "was changed since it was signed");
  }
  const keys = [own];
  for (const name of listed.keys()) {
    if (!name.startsWith("keys/") || name === OWN_KEY || name === LOG_KEY) continue;
    const key = await keyOf(files, name);
    if (name !== `keys/${key.fingerprint}.pem`) throw new Refused(name, "holds another key than its name says");
    keys.push(key);
  }
  const signed = async (name: string, bytes: Bytes, by: string) => {
    const mark = need(files, by);
    for (const key of keys) if (await key.verify(bytes, mark)) return;
    throw new Refused(by, `is not a signature of ${name}`);
  };
  const statements = new Set<string>();
  let artifacts = 0;
  for (const name of listed.keys()) {
    if (name.startsWith("ev/") && name.endsWith(".pae")) {
      const statement = need(files, name);
      body(statement, name);
      await signed(name, statement, name.replace(/\.pae$/, ".sig"));
      statements.add(name.slice("ev/".length, -".pae".length));
    }
    const artifact = /^blobs\/sha256\/(..)\/(..)\/([0-9a-f]{64})$/.exec(name);
    if (artifact) {
      const [, first, second, digest = ""] = artifact;
      const raw = need(files, `${name}.sha256`);
      if (listed.get(name) !== digest || hex(raw) !== digest || !digest.startsWith(`${first}${second}`)) {
        throw new Refused(name, "is not what its name says");
      }
      await signed(name, raw, `${name}.sig`);
      artifacts += 1;
    }
  }
  const say = (key: string) => (typeof manifest.predicate[key] === "string" ? (manifest.predicate[key] as string) : "");
  return { fingerprint: own.fingerprint, files: files.size, statements, artifacts, created: say("created"), tenant: say("tenant") };
}

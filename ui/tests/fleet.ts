// Enrolling an agent or a relay as its program does, where the program itself is of no use to a test.
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { call, expect } from "./world";

const encode = (bytes: Buffer | string) => Buffer.from(bytes).toString("base64url");
const digest = (text: string) => createHash("sha256").update(text).digest("base64url");

interface Asked {
  path: string;
  body: string;
  token: string;
  /** The number of its proof, which nobody uses twice. */
  number: number;
  audience?: string;
}

/** Sends a request with a proof of the key. */
async function prove(page: Page, privateKey: KeyObject, { path, body, token, number, audience }: Asked, authorization?: string) {
  const { crv, kty, x } = privateKey.export({ format: "jwk" });
  const header = { alg: "EdDSA", typ: "dpop+jwt", jwk: { crv, kty, x } };
  const claims = {
    htm: "POST",
    htu: path,
    iat: Math.floor(Date.now() / 1_000),
    jti: randomBytes(16).toString("hex"),
    n: number,
    bd: digest(body),
    ath: digest(token),
    ...(audience === undefined ? {} : { aud: audience }),
  };
  const signed = `${encode(JSON.stringify(header))}.${encode(JSON.stringify(claims))}`;
  const dpop = `${signed}.${encode(sign(null, Buffer.from(signed), privateKey))}`;
  const headers = { "content-type": "application/json", dpop, ...(authorization ? { authorization } : {}) };
  return page.request.post(path, { data: body, headers });
}

interface Enrolled {
  id: string;
  /** Has somebody who copied its key and its credential come too: from then on neither is let in. */
  copied: () => Promise<void>;
}

/** An agent or a relay of the tenant `default`, which has just been seen and says nothing more. */
export async function enrolled(page: Page, kind: "agent" | "relay", name: string): Promise<Enrolled> {
  const { token = "" } = await call(page, "POST", "/api/v1/tenants/default/enrollment-tokens", { kind });
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const { crv, kty, x } = publicKey.export({ format: "jwk" });
  const body = JSON.stringify({ token, kind, name, public_key: { crv, kty, x }, version: "0.1.0" });
  const number = Date.now();
  const answer = await prove(page, privateKey, { path: "/api/v1/enroll", body, token, number });
  expect(answer.status(), await answer.text()).toBeLessThan(300);
  const { id, installation, credential } = (await answer.json()) as { id: string; installation: string; credential: string };
  const copied = async () => {
    const asked = { path: `/api/v1/${kind}s/${id}/renew`, body: `{"version":"0.1.0"}`, token: credential, audience: installation, number: number + 1 };
    expect((await prove(page, privateKey, asked, `DPoP ${credential}`)).status()).toBe(200);
    // The other one has the same number: one of both is a copy.
    expect((await prove(page, privateKey, asked, `DPoP ${credential}`)).status()).toBe(401);
  };
  return { id, copied };
}

/** The id of one. */
export const enroll = async (page: Page, kind: "agent" | "relay", name: string): Promise<string> => (await enrolled(page, kind, name)).id;

/** What somebody pastes who copied the commands of the page, on a machine of their own: `sudo` and what is no program of ours do what they are
 * asked, and files of the machine are in `folder`. `programs`: how ours are run there. */
export function pasted(folder: string, commands: string, programs: Record<string, string>): ChildProcess {
  const bin = join(folder, "bin");
  mkdirSync(bin, { recursive: true });
  const put = (name: string, script: string) => writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  put("sudo", 'exec "$@"');
  put("systemctl", "exit 0");
  for (const [name, run] of Object.entries(programs)) put(name, `exec ${run}`);
  const env = { PATH: `${bin}:/usr/sbin:/usr/bin:/sbin:/bin` };
  // A group of its own, so that what it started ends with it.
  return spawn("sh", ["-euc", commands.replaceAll("/etc/cairn-agent", folder)], { cwd: folder, env, stdio: "ignore", detached: true });
}

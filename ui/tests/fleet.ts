// Enrolling an agent or a relay as its program does, where the program itself is of no use to a test.
import { createHash, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import type { Page } from "@playwright/test";
import { call, expect } from "./world";

const encode = (bytes: Buffer | string) => Buffer.from(bytes).toString("base64url");
const digest = (text: string) => createHash("sha256").update(text).digest("base64url");

/** An id of an agent or a relay of the tenant `default`, which has just been seen and says nothing more. */
export async function enroll(page: Page, kind: "agent" | "relay", name: string): Promise<string> {
  const { token = "" } = await call(page, "POST", "/api/v1/tenants/default/enrollment-tokens", { kind });
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const { crv, kty, x } = publicKey.export({ format: "jwk" });
  const body = JSON.stringify({ token, kind, name, public_key: { crv, kty, x }, version: "0.1.0" });
  const header = { alg: "EdDSA", typ: "dpop+jwt", jwk: { crv, kty, x } };
  const claims = {
    htm: "POST",
    htu: "/api/v1/enroll",
    iat: Math.floor(Date.now() / 1_000),
    jti: randomBytes(16).toString("hex"),
    n: Date.now(),
    bd: digest(body),
    ath: digest(token),
  };
  const signed = `${encode(JSON.stringify(header))}.${encode(JSON.stringify(claims))}`;
  const proof = `${signed}.${encode(sign(null, Buffer.from(signed), privateKey))}`;
  const answer = await page.request.post("/api/v1/enroll", { data: body, headers: { "content-type": "application/json", dpop: proof } });
  expect(answer.status(), await answer.text()).toBeLessThan(300);
  return ((await answer.json()) as { id: string }).id;
}

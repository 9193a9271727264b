// Second factors, passkeys, and letting the command line in.
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ADMIN, expect, look, PASSWORD, signIn, signOut, test, URL_OF_SERVER } from "./world";

test.describe.configure({ mode: "serial" });

const STEP_S = 30;

/** What an authenticator app shows (RFC 6238). */
function codeOf(secret: string, step: number): string {
  const bits = [...secret.replace(/\s|=/g, "")].map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const mac = createHmac("sha1", key).update(counter).digest();
  const at = (mac[19] ?? 0) & 15;
  return String((mac.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

const now = () => Math.floor(Date.now() / 1000 / STEP_S);

test("the command line signs in through the page, which shows what asks and from where", async ({ page }) => {
  const home = mkdtempSync(join(tmpdir(), "cairn-browser-"));
  const env = { PATH: "/usr/bin:/bin", CAIRN_HOME: home };
  const authority = Buffer.from(process.env["CAIRN_TEST_AUTHORITY"] ?? "", "base64").toString("hex");
  const cairn = spawn(process.env["CAIRN_TEST_CLI"] ?? "cairn", ["login", URL_OF_SERVER, "--device", "--trust", authority], { env });
  let said = "";
  cairn.stderr.on("data", (data: Buffer) => (said += data.toString()));
  cairn.stdout.on("data", (data: Buffer) => (said += data.toString()));
  const ended = new Promise<number | null>((done) => cairn.on("close", done));
  await expect.poll(() => /\b[A-Z]{4}-[A-Z]{4}\b/.exec(said)?.[0], { message: "the code" }).toBeTruthy();
  const code = /\b[A-Z]{4}-[A-Z]{4}\b/.exec(said)?.[0] ?? "";
  await page.goto("/device");
  await expect(page).toHaveURL(/\/login\?next=%2Fdevice/);
  await page.getByLabel("Login name").fill(ADMIN);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByLabel("Code that the command line shows").fill(code.toLowerCase());
  await page.getByRole("button", { name: "Continue" }).click();
  await expect(page.getByText("It calls itself")).toBeVisible();
  await expect(page.locator("dl.facts")).toContainText("127.0.0.1");
  await look(page, "device");
  await page.getByRole("button", { name: "Approve" }).click();
  await expect(page.getByText("Approved.")).toBeVisible();
  expect(await ended, said).toBe(0);
  expect(said).toContain(ADMIN);
  // Who approved is still signed in.
  await page.goto("/account");
  await expect(page.getByRole("heading", { name: "Where you are signed in" })).toBeVisible();
});

test("a passkey signs in alone, in a browser that has one", async ({ page, context }) => {
  const cdp = await context.newCDPSession(page);
  await cdp.send("WebAuthn.enable");
  const options = { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true } as const;
  await cdp.send("WebAuthn.addVirtualAuthenticator", { options: { ...options, automaticPresenceSimulation: true } });
  await signIn(page);
  await page.getByRole("link", { name: ADMIN }).click();
  await page.getByRole("button", { name: "Add a passkey" }).click();
  await expect(page.getByText("Keep these recovery codes.")).toBeVisible();
  await page.getByRole("button", { name: "I have kept them" }).click();
  await expect(page.getByRole("table", { name: "Second factors" })).toContainText("passkey");
  await signOut(page);
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  // And as the second step after the password.
  await signOut(page);
  await signIn(page);
  await page.getByRole("button", { name: "Use a passkey" }).click();
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await page.getByRole("link", { name: ADMIN }).click();
  await page.getByRole("button", { name: "Remove passkey" }).click();
  await expect(page.getByText("None. A password alone")).toBeVisible();
});

test("an authenticator app is added, asked for at the sign-in, and a recovery code stands in for it @both", async ({ page, refusals }) => {
  refusals.expect(400);
  await signIn(page);
  await page.getByRole("link", { name: ADMIN }).click();
  await page.getByRole("button", { name: "Add an authenticator app" }).click();
  await page.getByRole("button", { name: "Add an authenticator app" }).click();
  const secret = ((await page.getByLabel("Key for the app").textContent()) ?? "").replaceAll(" ", "");
  await page.getByLabel("Code of the app").fill("000000");
  await page.getByRole("button", { name: "Confirm" }).click();
  await expect(page.locator(".wrong").first()).toBeVisible();
  const used = now();
  await page.getByLabel("Code of the app").fill(codeOf(secret, used));
  await page.getByRole("button", { name: "Confirm" }).click();
  const codes = ((await page.getByLabel("Recovery codes").textContent()) ?? "").split("\n");
  expect(codes.length).toBeGreaterThan(5);
  await page.getByRole("button", { name: "I have kept them" }).click();
  await signOut(page);
  await signIn(page);
  await expect(page.getByRole("heading", { name: "Second factor" })).toBeVisible();
  await look(page, "second-factor");
  // A code is good once, so this is the next one: the server takes one that is early.
  await page.getByLabel("Code of your authenticator app").fill(codeOf(secret, used + 1));
  await page.getByRole("button", { name: "Continue" }).click();
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await signOut(page);
  await signIn(page);
  await page.getByRole("button", { name: "Use a recovery code" }).click();
  await page.getByLabel("Recovery code").fill(codes[0] ?? "");
  await page.getByRole("button", { name: "Continue" }).click();
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await page.getByRole("link", { name: ADMIN }).click();
  await page.getByRole("button", { name: "Remove authenticator app" }).click();
  await expect(page.getByText("None. A password alone")).toBeVisible();
});

// What every browser test watches for: errors of the page, the content security policy, requests to others, and what axe finds.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { type ConsoleMessage, test as base, expect, type Page } from "@playwright/test";

const env = (name: string) => process.env[name] ?? "";

export const URL_OF_SERVER = env("CAIRN_TEST_URL");
export const ADMIN = "admin@localhost";
export const FIRST_PASSWORD = env("CAIRN_TEST_FIRST_PASSWORD");
export const PASSWORD = env("CAIRN_TEST_PASSWORD");

/** Other hosts that a test sends the browser to on purpose. */
export const OTHERS = new Set<string>();

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

declare global {
  interface Window {
    axe: { run: (options: object) => Promise<{ violations: { id: string; help: string; nodes: { html: string }[] }[] }> };
  }
}

/** A refusal that a test provokes is in the browser's console too, and no mistake. */
export interface Refusals {
  expect: (...statuses: number[]) => void;
}

function watch(page: Page, wrong: string[], statuses: Set<number>) {
  const log = (message: ConsoleMessage) => {
    if (message.type() !== "error" && message.type() !== "warning") return;
    // Without a graphics card the drawing of the graph is read back by the browser itself, of which its driver complains.
    if (/^\[\.WebGL-\w+\]\s*GL Driver Message .*GPU stall due to ReadPixels/.test(message.text())) return;
    const status = /^Failed to load resource: the server responded with a status of (\d+)/.exec(message.text())?.[1];
    if (!status || !statuses.has(Number(status))) wrong.push(`console: ${message.text()} (${message.location().url})`);
  };
  page.on("console", log);
  page.on("pageerror", (error) => wrong.push(`page: ${error.stack ?? error.message}`));
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol !== "blob:" && url.origin !== URL_OF_SERVER && !OTHERS.has(url.origin)) wrong.push(`a request to another host: ${url.origin}`);
  });
}

export const test = base.extend<{ refusals: Refusals; watched: (page: Page) => Page }>({
  refusals: async ({}, use) => {
    // Whether somebody is signed in is asked at the beginning, and 401 is an answer.
    const statuses = new Set([401]);
    await use(Object.assign({ expect: (...more: number[]) => more.forEach((status) => statuses.add(status)) }, { statuses }));
  },
  watched: async ({ refusals }, use) => {
    const [wrong, pages]: [string[], Page[]] = [[], []];
    await use((page) => {
      pages.push(page);
      watch(page, wrong, (refusals as Refusals & { statuses: Set<number> }).statuses);
      return page;
    });
    // What a page asks by itself while it is closed answers nobody.
    await Promise.all(pages.map((page) => page.unrouteAll({ behavior: "ignoreErrors" }).catch(() => undefined)));
    expect(wrong).toEqual([]);
  },
  page: async ({ page, watched }, use) => {
    await use(watched(page));
  },
});

/** Waits until nothing is loading. */
export async function settled(page: Page) {
  await expect(page.getByRole("status", { name: "Loading" })).toHaveCount(0);
}

/** A finished page: axe finds nothing in either scheme. With `CAIRN_SCREENS` its picture is kept. */
export async function look(page: Page, name: string) {
  await settled(page);
  await page.evaluate(AXE);
  for (const colorScheme of ["dark", "light"] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    // Only colours differ between the schemes.
    const only = colorScheme === "dark" ? { runOnly: ["color-contrast"] } : {};
    const { violations } = await page.evaluate((only) => window.axe.run({ resultTypes: ["violations"], ...only }), only);
    expect(violations.map((it) => `${name} (${colorScheme}): ${it.id}: ${it.help}: ${it.nodes.map((node) => node.html).join(" ")}`)).toEqual([]);
    const folder = env("CAIRN_SCREENS");
    if (folder && (colorScheme === "light" || name === "home" || name === "finding")) {
      await page.evaluate(() => document.fonts.ready);
      await page.screenshot({ path: `${folder}/${name}${colorScheme === "dark" ? "-dark" : ""}.png`, animations: "disabled" });
    }
  }
}

export async function signIn(page: Page, email = ADMIN, password = PASSWORD) {
  await page.goto("/login");
  await page.getByLabel("Login name").fill(email);
  await page.getByLabel("Password").fill(password);
  const answered = page.waitForResponse((response) => new URL(response.url()).pathname === "/api/v1/sessions");
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await answered;
}

export async function signOut(page: Page) {
  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await expect(page.getByLabel("Login name")).toBeVisible();
}

export { expect };

/** A change through the API, as a page of ours makes it. */
export async function call(page: Page, method: "POST" | "PUT" | "DELETE", path: string, body?: object) {
  const answer = await page.evaluate(
    async ({ method, path, body }) => {
      const headers = { "content-type": "application/json", "x-cairn-request": "1" };
      const response = await fetch(path, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) });
      return { status: response.status, text: await response.text() };
    },
    { method, path, body },
  );
  expect(answer.status, answer.text).toBeLessThan(300);
  return answer.text ? (JSON.parse(answer.text) as Record<string, string>) : {};
}

interface Member {
  email: string;
  name: string;
  role: string;
}

/** Makes a member of the tenant `default` by who is signed in on `page`; on `theirs` they sign in with the one-time password and choose another. */
export async function joins(page: Page, theirs: Page, { email, name, role }: Member) {
  const { one_time_password: once = "" } = await call(page, "POST", "/api/v1/users", { email, name });
  await call(page, "PUT", "/api/v1/tenants/default/members", { email, role });
  await signIn(theirs, email, once);
  await theirs.getByLabel("Password so far").fill(once);
  await theirs.getByLabel("New password", { exact: true }).fill(PASSWORD);
  await theirs.getByLabel("New password, again").fill(PASSWORD);
  await theirs.getByRole("button", { name: "Change the password" }).click();
  await expect(theirs.getByRole("navigation", { name: "Pages" })).toBeVisible();
}

/** A public key that `ssh-keygen` made. */
export function publicKey(kind: "ed25519" | "ecdsa" = "ed25519"): string {
  const file = `${mkdtempSync(`${tmpdir()}/cairn-key-`)}/key`;
  execFileSync("ssh-keygen", ["-q", "-t", kind, "-N", "", "-C", "", "-f", file]);
  return readFileSync(`${file}.pub`, "utf8").trim();
}

// Signing in with an identity provider: a real one, through its own page and back.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import type { Page } from "@playwright/test";
import { call, expect, look, OTHERS, signIn, signOut, test, URL_OF_SERVER } from "./world";

test.describe.configure({ mode: "serial" });

let provider: ChildProcess;
let issuer = "";
const SECRET = "planted-secret-of-the-provider-0123456789";
const CLAIMS = { email_verified: true, name: "Ann" };

test.beforeAll(async () => {
  const config = join(mkdtempSync(join(tmpdir(), "cairn-provider-")), "config.json");
  const users = {
    ann: { ...CLAIMS, email: "ann@corp.example", groups: ["auditors"] },
    // No tenant gives a role to this group, so that there is nothing to make an account for.
    bob: { ...CLAIMS, email: "bob@corp.example", groups: ["visitors"] },
    unverified: { ...CLAIMS, email: "mallory@corp.example", email_verified: false, groups: ["auditors"] },
  };
  const redirect = `${URL_OF_SERVER}/api/v1/login/corp/callback`;
  writeFileSync(config, JSON.stringify({ client_id: "cairn", client_secret: SECRET, redirect_uris: [redirect], users }), { mode: 0o600 });
  provider = spawn("node", [resolve("../crates/testkit/peers/oidc/provider.mjs"), config], { stdio: ["pipe", "pipe", "ignore"] });
  issuer = await new Promise<string>((told, failed) => {
    provider.on("close", () => failed(new Error("the provider ended: `cargo xtask setup` installs its modules")));
    createInterface({ input: provider.stdout! }).on("line", (line) => {
      if (line.startsWith("{")) told((JSON.parse(line) as { issuer: string }).issuer);
    });
  });
  OTHERS.add(issuer);
});

test.afterAll(() => {
  OTHERS.delete(issuer);
  provider.kill();
});

/** From the sign-in page to the provider's, and what it answers there. */
async function through(page: Page, who: string) {
  await page.goto("/login?next=%2Faccount");
  await page.getByRole("link", { name: "Sign in with Corp" }).click();
  await expect(page.getByRole("heading", { name: "The provider" })).toBeVisible();
  expect(new URL(page.url()).origin).toBe(issuer);
  await page.getByLabel("Who are you?").fill(who);
  await page.getByRole("button", { name: "Go on" }).click();
}

test("a provider is added, and its groups give roles, before anybody comes from it @both", async ({ page }) => {
  await signIn(page);
  await page.goto("/platform/providers");
  await page.getByRole("button", { name: "Add a provider" }).first().click();
  await page.getByLabel("Short name").fill("corp");
  await page.getByLabel("Title").fill("Corp");
  await page.getByLabel("Issuer").fill(issuer);
  await page.getByLabel("Client id").fill("cairn");
  await page.getByLabel("Client secret").fill(SECRET);
  await page.getByLabel("Scopes").fill("openid email profile offline_access groups");
  await look(page, "add-a-provider");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.getByLabel("Address")).toHaveText(`${URL_OF_SERVER}/api/v1/login/corp/callback`);
  await page.getByRole("button", { name: "Done" }).click();
  await expect(page.getByRole("table", { name: "Identity providers" })).toContainText("Corp");
  expect(await page.content()).not.toContain(SECRET);
  await call(page, "PUT", "/api/v1/tenants/default/group-roles", { provider: "corp", group: "auditors", role: "auditor" });
  await signOut(page);
  await expect(page.getByRole("link", { name: "Sign in with Corp" })).toBeVisible();
  await look(page, "login-with-a-provider");
});

test("somebody comes through the provider's page and is signed in, with the role of their group and no more @both", async ({ page }) => {
  await through(page, "ann");
  // Back where one was going, as a new user.
  await expect(page).toHaveURL(`${URL_OF_SERVER}/account`);
  await expect(page.getByRole("heading", { name: "Where you are signed in" })).toBeVisible();
  const me = (await (await page.request.get("/api/v1/me")).json()) as { email: string; platform_admin: boolean; tenants: { slug: string; role: string }[] };
  expect(me.email).toBe("ann@corp.example");
  expect(me.platform_admin).toBe(false);
  expect(me.tenants.map(({ slug, role }) => `${slug} ${role}`)).toEqual(["default auditor"]);
  await page.goto("/t/default/findings");
  await expect(page.locator("td.main a").first()).toBeVisible();
  // The session is in a cookie that no script reads, and the code is good once.
  expect(await page.evaluate(() => document.cookie)).toBe("");
});

test("who comes by a provider only has no password to change, and proves who they are by coming once more @both", async ({ page, context, watched, refusals }) => {
  refusals.expect(403);
  await through(page, "ann");
  await expect(page.getByText(/^You have none here: you sign in with your identity provider/)).toBeVisible();
  await expect(page.getByLabel("Password so far")).toHaveCount(0);
  await look(page, "account-without-a-password");
  // The proof that a sign-in is counts for a quarter of an hour, which no test waits for.
  let stale = true;
  await page.route("**/api/v1/me/factors/totp", (route) => {
    if (!stale) return route.continue();
    stale = false;
    const json = { code: "step_up_required", message: "prove who you are", request_id: "req_stale" };
    return route.fulfill({ status: 403, json });
  });
  await page.getByRole("button", { name: "Add an authenticator app" }).click();
  await page.getByRole("button", { name: "Add an authenticator app" }).click();
  const dialog = page.getByRole("dialog", { name: "Confirm that it is you" });
  await expect(dialog.getByRole("textbox")).toHaveCount(0);
  await look(page, "proof-by-signing-in");
  await dialog.getByRole("button", { name: "Sign in again" }).click();
  await expect(page.getByText("Sign in as ann@corp.example once more.")).toBeVisible();
  await expect(page.getByLabel("Password")).toHaveCount(0);
  await look(page, "sign-in-once-more");
  // Whoever thinks better of it goes back.
  await page.getByRole("button", { name: "Go back without" }).click();
  await expect(page.getByRole("alert").filter({ hasText: "It needs a proof of who you are" }).or(page.getByText(/needs a proof of who you are/)).first()).toBeVisible();
  stale = true;
  await page.getByRole("button", { name: "Add an authenticator app" }).click();
  await dialog.getByRole("button", { name: "Sign in again" }).click();
  const opening = context.waitForEvent("page");
  await page.getByRole("link", { name: "Sign in with Corp in a new tab" }).click();
  const tab = watched(await opening);
  const who = tab.getByLabel("Who are you?");
  await expect(who.or(tab.getByRole("navigation", { name: "Pages" })).first()).toBeVisible();
  if (await who.isVisible()) {
    await who.fill("ann");
    await tab.getByRole("button", { name: "Go on" }).click();
  }
  await expect(tab.getByRole("navigation", { name: "Pages" })).toBeVisible();
  // What was asked for is done, where it was asked for.
  await expect(page.getByLabel("Key for the app")).toBeVisible();
  await expect(page.getByRole("dialog")).toHaveCount(0);
  await tab.close();
});

test("an answer with another state, or with none that was begun here, signs nobody in @both", async ({ page }) => {
  await page.goto("/login");
  await page.getByRole("link", { name: "Sign in with Corp" }).click();
  await expect(page.getByRole("heading", { name: "The provider" })).toBeVisible();
  // What somebody else's page would send the browser to.
  for (const answer of ["code=stolen&state=another", "code=stolen", "state=another", "error=access_denied"]) {
    await page.goto(`${URL_OF_SERVER}/api/v1/login/corp/callback?${answer}`);
    await expect(page).toHaveURL(/\/login\?error=/);
    await expect(page.getByRole("alert")).toBeVisible();
    expect((await page.request.get("/api/v1/me")).status()).toBe(401);
  }
});

test("an answer that was used is good no more, and neither a group without a role nor an unverified address gives an account @both", async ({ page, context, browser, watched }) => {
  let answer = "";
  page.on("request", (request) => {
    if (request.url().includes("/login/corp/callback?code=")) answer = request.url();
  });
  await through(page, "ann");
  await expect(page).toHaveURL(`${URL_OF_SERVER}/account`);
  expect(answer).not.toBe("");
  const other = watched(await (await browser.newContext()).newPage());
  await other.goto(answer);
  await expect(other.getByRole("alert")).toBeVisible();
  expect((await other.request.get("/api/v1/me")).status()).toBe(401);
  await other.context().close();
  for (const who of ["bob", "unverified"]) {
    await context.clearCookies();
    await through(page, who);
    await expect(page.getByRole("alert")).toContainText("was not accepted");
    expect((await page.request.get("/api/v1/me")).status()).toBe(401);
  }
});

test("a SCIM token is shown once, replaced and ended", async ({ page, playwright }) => {
  const api = await playwright.request.newContext({ baseURL: URL_OF_SERVER });
  let url = "";
  const asks = async (token: string) => {
    const answer = await api.get(`${url}/Users`, { headers: { authorization: `Bearer ${token}` } });
    return answer.status();
  };
  await signIn(page);
  await page.goto("/platform/providers");
  await page.getByRole("button", { name: "Provisioning by Corp" }).click();
  await page.getByRole("button", { name: "Make a token" }).click();
  const first = (await page.getByLabel("The token", { exact: true }).textContent()) ?? "";
  url = (await page.getByLabel("Base URL").textContent()) ?? "";
  expect(await asks(first)).toBe(200);
  await page.getByRole("button", { name: "I have kept it" }).click();
  await page.reload();
  await expect(page.getByRole("table", { name: "Identity providers" })).toContainText("on");
  expect(await page.content()).not.toContain(first);
  await page.getByRole("button", { name: "Provisioning by Corp" }).click();
  await page.getByRole("button", { name: "Replace the token" }).click();
  const second = (await page.getByLabel("The token", { exact: true }).textContent()) ?? "";
  expect([await asks(first), await asks(second)]).toEqual([401, 200]);
  await page.getByRole("button", { name: "I have kept it" }).click();
  await page.getByRole("button", { name: "Provisioning by Corp" }).click();
  await look(page, "provisioning");
  await page.getByRole("button", { name: "End provisioning" }).click();
  await expect(page.getByRole("table", { name: "Identity providers" })).toContainText("off");
  expect(await asks(second)).toBe(401);
  await api.dispose();
});

test("a provider is changed, its secret replaced without the old one being shown, and nobody comes in by a wrong one @both", async ({ page, context, browser, watched, refusals }) => {
  refusals.expect(400);
  const admin = watched(await (await browser.newContext()).newPage());
  await signIn(admin);
  await admin.goto("/platform/providers");
  const dialog = admin.getByRole("dialog");
  const open = () => admin.getByRole("button", { name: "Change Corp" }).click();
  await open();
  await expect(dialog.getByLabel("Client id")).toHaveValue("cairn");
  await expect(dialog.getByLabel("New client secret")).toHaveValue("");
  await expect(dialog.getByRole("button", { name: "Save" })).toHaveAttribute("aria-disabled", "true");
  await look(admin, "change-a-provider");
  // What the API refuses is told, and nothing is changed.
  await dialog.getByLabel("Scopes").fill("email groups");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(dialog.getByRole("alert")).toContainText("`openid` has to be among them");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  // Only what was changed goes out.
  let sent: unknown;
  admin.on("request", (request) => {
    if (request.method() === "PATCH") sent = request.postDataJSON();
  });
  const save = async (fields: Record<string, string>) => {
    await open();
    for (const [label, value] of Object.entries(fields)) await dialog.getByLabel(label).fill(value);
    await dialog.getByRole("button", { name: "Save" }).click();
    await expect(dialog).toHaveCount(0);
  };
  const wrong = "planted-secret-of-nobody-9876543210";
  await save({ "New client secret": wrong });
  expect(sent).toEqual({ client_secret: wrong });
  expect(await admin.content()).not.toContain(wrong);
  await through(page, "ann");
  await expect(page.getByRole("alert")).toBeVisible();
  expect((await page.request.get("/api/v1/me")).status()).toBe(401);
  await save({ "New client secret": SECRET, Title: "Corp of ours" });
  expect(sent).toEqual({ client_secret: SECRET, title: "Corp of ours" });
  await context.clearCookies();
  await page.goto("/login");
  await expect(page.getByRole("link", { name: "Sign in with Corp of ours" })).toBeVisible();
  await through(page, "ann");
  await expect(page.getByRole("heading", { name: "Where you are signed in" })).toBeVisible();
  // Without a claim of groups the role that they gave ends at the next sign-in; with it, it is back.
  const tenants = async () => {
    await context.clearCookies();
    await through(page, "ann");
    await expect(page.getByRole("heading", { name: "Where you are signed in" })).toBeVisible();
    return ((await (await page.request.get("/api/v1/me")).json()) as { tenants: unknown[] }).tenants.length;
  };
  await admin.getByRole("button", { name: "Change Corp of ours" }).click();
  await dialog.getByLabel("Claim that lists groups").fill("");
  await dialog.getByLabel("Title").fill("Corp");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(admin.getByRole("table", { name: "Identity providers" })).toContainText("nowhere");
  expect(await tenants()).toBe(0);
  await save({ "Claim that lists groups": "groups" });
  expect(await tenants()).toBe(1);
  await admin.goto("/platform/audit?text=provider_update");
  await expect(admin.getByRole("table").getByText("provider_update")).toHaveCount(4);
  for (const secret of [SECRET, wrong]) expect(await (await admin.request.get("/api/v1/audit?text=provider_update&limit=50")).text()).not.toContain(secret);
  await admin.context().close();
});

test("a provider that is removed is offered no more, and the sessions that it gave end @both", async ({ page, browser, watched }) => {
  await through(page, "ann");
  await expect(page.getByRole("heading", { name: "Where you are signed in" })).toBeVisible();
  const admin = watched(await (await browser.newContext()).newPage());
  await signIn(admin);
  await admin.goto("/platform/providers");
  await admin.getByRole("button", { name: "Remove Corp" }).click();
  await admin.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await expect(admin.getByRole("heading", { name: "No providers" })).toBeVisible();
  await admin.context().close();
  expect((await page.request.get("/api/v1/me")).status()).toBe(401);
  await page.goto("/t/default/findings");
  await expect(page).toHaveURL(/\/login/);
  await expect(page.getByRole("link", { name: "Sign in with Corp" })).toHaveCount(0);
});

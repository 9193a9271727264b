// What must stay apart: tenants, roles, sessions.
import { readFileSync } from "node:fs";
import { type Browser, type Page } from "@playwright/test";
import { ADMIN, call, expect, joins, look, PASSWORD, settled, signIn, test } from "./world";

test.describe.configure({ mode: "serial" });

/** Names that would be a script, or a formula, where they were taken for more than text. */
const MARKUP = `Globex <img src=x onerror="document.title='taken'"> {{7*7}}`;
const FORMULA = `=HYPERLINK("https://evil.example","x")`;
const AUDITOR = "auditor@example.org";

async function another(browser: Browser, watched: (page: Page) => Page) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 860 } });
  return watched(await context.newPage());
}

test("an auditor sees what the API allows, and the rest says why not @both", async ({ page, browser, watched }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await call(page, "POST", "/api/v1/tenants", { slug: "globex", name: MARKUP, admin: ADMIN });
  const theirs = await another(browser, watched);
  await joins(page, theirs, { email: AUDITOR, name: FORMULA, role: "auditor" });
  const pages = theirs.getByRole("navigation", { name: "Pages" });
  await expect(pages.getByRole("link", { name: "Audit log" })).toBeVisible();
  for (const name of ["Nodes", "Jobs", "Credentials", "Agents", "API keys", "Grants", "Groups"]) {
    await expect(pages.getByRole("link", { name, exact: true })).toHaveCount(0);
  }
  await theirs.goto("/t/default/nodes");
  await expect(theirs.getByText("Your role auditor lacks the permission nodes:read.")).toBeVisible();
  await look(theirs, "not-with-your-role");
  await theirs.goto("/t/default/findings");
  await theirs.locator("td.main a").first().click();
  await expect(theirs.getByRole("button", { name: "Resolve" })).toHaveAttribute("aria-disabled", "true");
  // The other tenant is as if it were not there.
  await theirs.goto("/t/globex/findings");
  await expect(theirs.getByRole("heading", { name: "There is no such tenant" })).toBeVisible();
  await theirs.context().close();
});

test("a switch of the tenant shows nothing of the one before, also not what comes late @both", async ({ page }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  // The new tenant is in `me` since the sign-in.
  await page.goto("/t/default/findings");
  await settled(page);
  const title = (await page.locator("td.main a").first().textContent()) ?? "";
  expect(title).not.toBe("");
  // The next answer about the first tenant comes after the switch.
  let release = () => {};
  const gate = new Promise<void>((open) => (release = open));
  let held = 0;
  await page.route("**/api/v1/tenants/default/findings?status=resolved*", async (route) => {
    held += 1;
    await gate;
    await route.continue().catch(() => {});
  });
  await page.getByLabel("Status").selectOption("resolved");
  await expect.poll(() => held).toBe(1);
  await page.getByLabel("Tenant").selectOption("globex");
  await expect(page.getByRole("heading", { level: 1, name: MARKUP })).toBeVisible();
  release();
  await page.getByRole("link", { name: "Findings", exact: true }).click();
  await expect(page.getByRole("heading", { name: "No findings" })).toBeVisible();
  await expect(page.getByText(title)).toHaveCount(0);
  await look(page, "empty");
  await page.goBack();
  await page.goBack();
  await expect(page).toHaveURL(/\/t\/default\//);
  await expect(page.getByLabel("Tenant")).toHaveValue("default");
});

test("one's account and the installation keep each tab's tenant, and the way back to it @both", async ({ page, context, watched }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await page.goto("/t/globex/findings");
  await settled(page);
  // A second tab of the same browser, on the other tenant.
  const second = watched(await context.newPage());
  await second.goto("/t/default/findings");
  await expect(second.locator("td.main a").first()).toBeVisible();
  const mine = [page, "globex"] as const;
  const theirs = [second, "default"] as const;
  const names = ["Tenants", "Users", "Installation log", ADMIN];
  for (const name of names) {
    for (const [tab, slug] of [mine, theirs]) {
      await tab.getByRole("link", { name, exact: true }).click();
      await expect(tab).toHaveURL(new RegExp(`^[^?]*/(platform/[a-z]+|account)\\?tenant=${slug}$`));
      await expect(tab.getByLabel("Tenant", { exact: true })).toHaveValue(slug);
    }
  }
  // Loaded anew, and in a tab that was opened from it.
  for (const [tab, slug] of [mine, theirs]) {
    await tab.reload();
    await expect(tab.getByLabel("Tenant", { exact: true })).toHaveValue(slug);
    const opening = context.waitForEvent("page");
    await tab.getByRole("link", { name: "Users", exact: true }).click({ modifiers: ["ControlOrMeta"] });
    const opened = watched(await opening);
    await expect(opened.getByRole("heading", { level: 1, name: "Users" })).toBeVisible();
    await expect(opened.getByLabel("Tenant", { exact: true })).toHaveValue(slug);
    await opened.getByRole("link", { name: "Findings", exact: true }).click();
    await expect(opened).toHaveURL(new RegExp(`/t/${slug}/findings$`));
    await settled(opened);
    await opened.close();
  }
  // A filter of a list keeps it too, and each tab goes back to its own.
  await page.goto("/platform/audit?tenant=globex");
  await page.getByLabel("Category").selectOption("user");
  await expect(page).toHaveURL(/tenant=globex/);
  await look(page, "installation-of-a-tenant");
  await page.getByRole("link", { name: "Findings", exact: true }).click();
  await expect(page.getByRole("heading", { name: "No findings" })).toBeVisible();
  await second.getByRole("link", { name: "Cairn", exact: true }).click();
  await expect(second).toHaveURL(/\/t\/default$/);
  await expect(page).toHaveURL(/\/t\/globex\/findings$/);
  // A tenant that one does not belong to is none, and no page shows it.
  await page.goto("/account?tenant=hollow");
  await expect(page.getByLabel("Tenant", { exact: true })).toHaveValue("");
  await expect(page.getByRole("heading", { name: "Where you are signed in" })).toBeVisible();
  await second.close();
});

test("who may not list members sees all the same who made what they see, in one question @both", async ({ page, browser, watched }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await call(page, "POST", "/api/v1/tenants/default/jobs", { plugin: "host", config: {} });
  const theirs = await another(browser, watched);
  await joins(page, theirs, { email: "analyst@example.org", name: "Analyst", role: "security-analyst" });
  await expect(theirs.getByRole("link", { name: "Members", exact: true })).toHaveCount(0);
  const asked: string[] = [];
  theirs.on("request", (request) => {
    if (new URL(request.url()).pathname.endsWith("/names")) asked.push(request.url());
  });
  await theirs.goto("/t/default/jobs");
  await expect(theirs.getByRole("table", { name: "Jobs" }).getByRole("cell", { name: ADMIN })).not.toHaveCount(0);
  await settled(theirs);
  await expect(theirs.getByRole("main")).not.toContainText("usr_");
  expect(new Set(asked.map((url) => new URL(url).searchParams.get("users"))).size).toBe(asked.length);
  await look(theirs, "who-made-it");
  await theirs.context().close();
});

test("a session that is ended elsewhere ends on the open page, which keeps nothing @both", async ({ page, browser, watched }) => {
  const other = await another(browser, watched);
  await signIn(page, AUDITOR);
  await signIn(other, AUDITOR);
  await page.goto("/t/default/findings");
  await settled(page);
  await expect(page.locator("td.main a").first()).toBeVisible();
  await other.getByRole("link", { name: AUDITOR }).click();
  await other.getByRole("button", { name: "Sign out everywhere" }).click();
  await expect(other).toHaveURL(/\/login/);
  await page.getByLabel("Severity").selectOption("high");
  await expect(page).toHaveURL(/\/login\?next=/);
  await expect(page.locator("td")).toHaveCount(0);
  // And back to where one was.
  await page.getByLabel("Login name").fill(AUDITOR);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(page).toHaveURL(/\/t\/default\/findings\?severity=high/);
  await other.context().close();
});

test("attack 46: what others chose is shown as text, and is no formula in a saved file", async ({ page }, info) => {
  await signIn(page);
  await page.goto("/t/globex");
  await expect(page.getByRole("heading", { level: 1, name: MARKUP })).toBeVisible();
  await expect(page).toHaveTitle("Home · Cairn");
  await page.goto("/t/default/members");
  await expect(page.getByText(FORMULA)).toBeVisible();
  const saving = page.waitForEvent("download");
  await page.getByRole("button", { name: "Export CSV" }).click();
  const file = info.outputPath("members.csv");
  await (await saving).saveAs(file);
  expect(readFileSync(file, "utf8")).toContain(`"'=HYPERLINK(`);
});

test("who manages access sees what a member reaches, and by which grant @both", async ({ page }) => {
  const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJQw1cJZ0Sx3P0V1u6fY1u3mJ4xZ7m6u8m2m3q9bq0aR";
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await page.goto("/t/default/members");
  const open = page.getByRole("button", { name: `What ${AUDITOR} reaches` });
  await open.click();
  const dialog = page.getByRole("dialog", { name: `What ${AUDITOR} reaches` });
  await expect(dialog).toContainText("No grant lets them in anywhere now.");
  await dialog.getByRole("button", { name: "Close" }).click();
  await expect(open).toBeFocused();
  await call(page, "PUT", "/api/v1/tenants/default/destinations/web1/ssh-host", { address: "192.0.2.7", host_key: key, roles: ["deploy"] });
  const grant = await call(page, "POST", "/api/v1/tenants/default/grants", {
    role: "deploy",
    user: AUDITOR,
    destination: "web1",
    reason: "reads the configuration",
  });
  await open.click();
  const row = dialog.getByRole("row", { name: /web1/ });
  await expect(row).toContainText("deploy");
  await expect(row).toContainText("direct (manual): reads the configuration");
  await look(page, "what-a-member-reaches");
  // What is taken away is gone when the question is asked again.
  await dialog.getByRole("button", { name: "Close" }).click();
  await call(page, "DELETE", `/api/v1/tenants/default/grants/${grant["id"]}`);
  await call(page, "DELETE", "/api/v1/tenants/default/destinations/web1");
  await open.click();
  await expect(dialog).toContainText("No grant lets them in anywhere now.");
});

test("a tab follows when another tab of the same browser signs out", async ({ page, context, watched }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const second = watched(await context.newPage());
  await second.goto("/t/default/findings");
  await expect(second.locator("td.main a").first()).toBeVisible();
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(second).toHaveURL(/\/login/);
  await expect(second.locator("td")).toHaveCount(0);
});

test("a member who is removed while the page is open is shown no more @both", async ({ page, browser, watched, refusals }) => {
  refusals.expect(404);
  await signIn(page);
  await page.getByRole("link", { name: "Members", exact: true }).click();
  await expect(page.getByRole("table", { name: "Members" })).toContainText(AUDITOR);
  const theirs = await another(browser, watched);
  await signIn(theirs, AUDITOR);
  await theirs.getByRole("link", { name: "Findings", exact: true }).click();
  await expect(theirs.locator("td.main a").first()).toBeVisible();
  await page.getByRole("button", { name: `Remove ${AUDITOR}` }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await expect(page.getByRole("table", { name: "Members" })).not.toContainText(AUDITOR);
  await theirs.getByLabel("Severity").selectOption("high");
  await expect(theirs.getByRole("heading", { name: "You belong to no tenant yet" }).or(theirs.getByRole("heading", { name: "There is no such tenant" }))).toBeVisible();
  await expect(theirs.locator("td")).toHaveCount(0);
  await theirs.context().close();
});

test("a sign-in goes on to a page of ours only", async ({ page }) => {
  for (const next of ["//evil.example/", "https://evil.example/", "/\\evil.example", "/%5cevil.example", "javascript:alert(1)"]) {
    await page.context().clearCookies();
    await page.goto(`/login?next=${encodeURIComponent(next)}`);
    await page.getByLabel("Login name").fill(ADMIN);
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    await expect(page).toHaveURL(/\/t\/\w+$/);
  }
});

// The home page: what changed since one has seen it, how things stand, what is going on, and a panel that fails or has nothing.
import type { Browser, Page } from "@playwright/test";
import { enroll } from "./fleet";
import { ADMIN, call, expect, joins, look, settled, signIn, test } from "./world";

test.describe.configure({ mode: "serial" });

const OTHER = "colleague@example.org";
/** It may also say how many jobs go on. */
const panel = (page: Page, name: string) => page.getByRole("region", { name: new RegExp(`^${name}(:|$)`) });
const changed = (page: Page) => page.getByRole("table", { name: "What changed" });
const NOTHING_NEW = "Nothing that you have not seen";

async function another(browser: Browser, watched: (page: Page) => Page) {
  return watched(await (await browser.newContext({ viewport: { width: 1360, height: 860 } })).newPage());
}

test("what changed is there until one says that one has seen it, in every browser of that person and of nobody else @both", async ({ page, browser, watched }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const theirs = await another(browser, watched);
  await joins(page, theirs, { email: OTHER, name: "Colleague", role: "security-analyst" });
  await page.goto("/t/default/findings?status=open&severity=low");
  await page.getByRole("checkbox", { name: /^Choose / }).first().check();
  await page.getByRole("button", { name: "Accept…" }).click();
  await page.getByLabel("Reason").fill("known, and short-lived");
  await page.getByRole("button", { name: "Accept 1 finding" }).click();
  await expect(page.getByRole("dialog")).toHaveCount(0);
  await theirs.goto("/t/default");
  await expect(changed(theirs).getByRole("row").filter({ hasText: "Findings accepted" })).toContainText("1 low");

  await page.goto("/t/default");
  await expect(changed(page)).toContainText("Findings accepted");
  // Looking moves nothing.
  await page.reload();
  await expect(changed(page)).toContainText("Findings accepted");
  const seen = page.getByRole("button", { name: "I have seen this" });
  await seen.click();
  await expect(page.getByRole("heading", { name: NOTHING_NEW })).toBeVisible();
  await expect(seen).toHaveAttribute("aria-disabled", "true");
  await expect(seen).toHaveAccessibleDescription("There is nothing that you have not seen.");
  const second = await another(browser, watched);
  await signIn(second);
  await second.goto("/t/default");
  await expect(second.getByRole("heading", { name: NOTHING_NEW })).toBeVisible();
  await second.context().close();
  await theirs.reload();
  await expect(changed(theirs)).toContainText("Findings accepted");

  // What comes after is new again, and leads to what it is.
  await changed(theirs).getByRole("link", { name: "Findings accepted" }).click();
  await expect(theirs).toHaveURL(/findings\?status=accepted$/);
  await theirs.locator("td.main a").first().click();
  await theirs.getByRole("button", { name: "Open again" }).click();
  await expect(theirs.getByRole("button", { name: "Accept…" })).toBeVisible();
  await page.reload();
  await expect(changed(page)).toContainText("Findings opened");
  await theirs.context().close();
});

test("frameworks stand with their trend, day by day too, and lead to their controls", async ({ page }) => {
  await signIn(page);
  await page.goto("/t/default");
  const frameworks = page.getByRole("table", { name: "Frameworks", exact: true });
  await expect(frameworks).toContainText(/\d+(\.\d+)? %/);
  await expect(frameworks.getByRole("img").first()).toBeVisible();
  await page.getByText("Day by day").click();
  const days = page.getByRole("table", { name: "Frameworks day by day" });
  await expect(days).toContainText(new Date().toISOString().slice(0, 10));
  const failing = frameworks.getByRole("row").nth(1).getByRole("link").last();
  await failing.click();
  await expect(page).toHaveURL(/controls\?framework=[^&]+&result=fail$/);
});

test("a job that runs is seen as it goes, and agents and relays as they are", async ({ page }) => {
  await signIn(page);
  await page.goto("/t/default");
  const jobs = page.getByRole("table", { name: "Jobs" });
  await expect(jobs).toBeVisible();
  const { id = "" } = await call(page, "POST", "/api/v1/tenants/default/jobs", { plugin: "host" });
  // Nobody loads the page anew.
  const row = jobs.getByRole("row").filter({ has: page.locator(`a[href$="/jobs/${id}"]`) });
  await expect(row).toBeVisible();
  await expect(row).toContainText(/completed|partial/, { timeout: 60_000 });
  await expect(row).toContainText("took");

  const agent = await enroll(page, "agent", "seen-at-home");
  await page.reload();
  const fleet = page.getByRole("table", { name: "Fleet" });
  const agents = fleet.getByRole("row").filter({ has: page.getByRole("link", { name: "agents" }) });
  const count = async () => Number(await agents.getByRole("cell").nth(1).textContent());
  await expect(agents).toBeVisible();
  const there = await count();
  expect(there).toBeGreaterThan(0);
  await look(page, "home");
  await call(page, "DELETE", `/api/v1/tenants/default/agents/${agent}`);
  await page.reload();
  // One that was sent away is no trouble, and is there no more.
  await expect.poll(async () => ((await agents.count()) > 0 ? count() : 0)).toBe(there - 1);
});

/** What each panel asks, and what it shows. */
const PANELS: [string, RegExp][] = [
  ["What changed", /\/changes$/],
  ["Findings by severity", /\/finding-counts$/],
  ["Worst open findings", /\/findings$/],
  ["Discovery", /\/jobs$/],
  ["Frameworks", /\/posture$/],
  ["Fleet", /\/relays$/],
  ["What we run", /\/node-counts$/],
];

test("a panel that fails says which request that was, and the others go on", async ({ page, refusals }) => {
  refusals.expect(500);
  await signIn(page);
  for (const broken of [PANELS.filter((_, at) => at % 2 === 0), PANELS.filter((_, at) => at % 2 === 1)]) {
    for (const [name, asks] of broken) {
      const problem = { request_id: `req_of ${name}`, code: "internal", message: "something broke here" };
      await page.route((url) => url.pathname.startsWith("/api/v1/tenants/default/") && asks.test(url.pathname), (route) => route.fulfill({ status: 500, json: problem }));
    }
    await page.goto("/t/default");
    // Each is tried again by itself before it says so.
    for (const [name] of broken) await expect(page.getByRole("alert").filter({ hasText: `req_of ${name}:` })).toContainText("Something broke here");
    await expect(page.getByRole("alert")).toHaveCount(broken.length);
    // Each keeps its name, and says beneath it that it failed.
    for (const [name] of PANELS) await expect(panel(page, name).getByRole("alert"), name).toHaveCount(broken.some(([it]) => it === name) ? 1 : 0);
    for (const [name] of PANELS) await expect(panel(page, name), name).toBeVisible();
    await page.unrouteAll();
    while ((await page.getByRole("button", { name: "Try again" }).count()) > 0) {
      const left = await page.getByRole("alert").count();
      await page.getByRole("button", { name: "Try again" }).first().click();
      await expect(page.getByRole("alert")).toHaveCount(left - 1);
    }
    for (const [name] of PANELS) await expect(panel(page, name), name).toBeVisible();
  }
});

test("a tenant in which nothing is says so in each panel", async ({ page }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await call(page, "POST", "/api/v1/tenants", { slug: "quiet", name: "Quiet", admin: ADMIN });
  // A role is taken up at the sign-in.
  await page.context().clearCookies();
  await signIn(page);
  await page.goto("/t/quiet");
  await settled(page);
  for (const title of ["Nothing is open", "No job ran yet", "Nothing was judged yet", "No agents and no relays", "Nothing discovered yet"]) {
    await expect(page.getByRole("heading", { name: title, exact: true }), title).toBeVisible();
  }
  await expect(page.getByRole("region", { name: "Findings by severity" })).toContainText("0open, critical");
});

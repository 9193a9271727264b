// What stays on the page, and what does not: while the server is away, when a stream breaks, after a sign-out.
import { test as base } from "@playwright/test";
import { enroll } from "./fleet";
import { ADMIN, call, expect, PASSWORD, settled, signIn, test, URL_OF_SERVER } from "./world";

test.describe.configure({ mode: "serial" });

const API = (url: URL) => url.pathname.startsWith("/api/v1/");
const NOT_NOW = { status: 503, json: { code: "unavailable", message: "the server is being restarted: try again in a moment", request_id: "req_away" } };

test("a form that is open keeps what was typed while the server is away, and the page says that it is not up to date", async ({ page, refusals }) => {
  refusals.expect(503);
  const reason = "the gateway in front of it refuses this already";
  await signIn(page);
  await page.goto("/t/default/findings?status=open");
  await settled(page);
  await page.locator("td.main a").first().click();
  await page.getByRole("button", { name: "Accept…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Reason").fill(reason);
  await page.route(API, (route) => route.fulfill(NOT_NOW));
  await dialog.getByRole("button", { name: "Accept 1 finding" }).click();
  await expect(dialog.getByRole("alert")).toContainText("The server is being restarted");
  // The page asks for the finding again by itself, in vain.
  const stale = page.getByText(/^Not up to date: The server is being restarted/);
  await expect(stale).toBeVisible();
  await expect(stale).toContainText("req_away");
  await expect(dialog.getByLabel("Reason")).toHaveValue(reason);
  await page.unroute(API);
  await dialog.getByRole("button", { name: "Accept 1 finding" }).click();
  await expect(page.getByText(reason)).toBeVisible();
  await expect(stale).toHaveCount(0);
  await page.getByRole("button", { name: "Open again" }).click();
  await expect(page.getByRole("button", { name: "Accept…" })).toBeVisible();
});

test("rows stay while they cannot be asked for anew, and go when they may not be seen any more", async ({ page, refusals }) => {
  refusals.expect(503, 404);
  await signIn(page);
  await page.goto("/t/default/findings");
  await settled(page);
  const rows = page.locator("td.main a");
  const count = await rows.count();
  expect(count).toBeGreaterThan(0);
  const list = (url: URL) => url.pathname === "/api/v1/tenants/default/findings";
  // Somebody looks at the page again, a while later.
  const look = async () => {
    await page.clock.fastForward(15_000);
    await page.evaluate(() => window.dispatchEvent(new Event("visibilitychange")));
  };
  await page.clock.install();
  await page.reload();
  await settled(page);
  await expect(rows).toHaveCount(count);
  await page.route(list, (route) => route.fulfill(NOT_NOW));
  await look();
  const stale = page.getByText(/^Not up to date:/);
  await expect(async () => {
    await page.clock.fastForward(2_000);
    await expect(stale).toBeVisible({ timeout: 500 });
  }).toPass();
  await expect(rows).toHaveCount(count);
  await page.unroute(list);
  await page.getByRole("button", { name: "Ask again" }).click();
  await expect(stale).toHaveCount(0);
  await expect(rows).toHaveCount(count);
  // What the API says is not there is shown no more, also where it was.
  await page.route(list, (route) => route.fulfill({ status: 404, json: { code: "not_found", message: "there is no such tenant", request_id: "req_gone" } }));
  await look();
  await expect(page.getByRole("alert")).toContainText("There is no such tenant");
  await expect(rows).toHaveCount(0);
});

test("a job is followed again after its stream broke", async ({ page, refusals }) => {
  refusals.expect(503);
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  // It waits for its relay, which never comes.
  const relay = await enroll(page, "relay", "never-comes");
  const { id = "" } = await call(page, "POST", "/api/v1/tenants/default/jobs", { plugin: "host", relay });
  let streams = 0;
  await page.route(`**/jobs/${id}/events`, (route) => {
    streams += 1;
    return streams === 1 ? route.fulfill({ status: 503, body: "" }) : route.continue();
  });
  await page.goto(`/t/default/jobs/${id}`);
  const status = page.locator(".head .badge");
  await expect(status).toHaveText("queued");
  await expect.poll(() => streams).toBeGreaterThan(1);
  await call(page, "POST", `/api/v1/tenants/default/jobs/${id}/cancel`);
  await expect(status).toHaveText("cancelled");
  await call(page, "DELETE", `/api/v1/tenants/default/relays/${relay}`);
});

test("a sign-out that fails says so, and what was shown is gone from the screen at once", async ({ page, context, refusals }) => {
  refusals.expect(503);
  await signIn(page);
  await page.goto("/t/default/findings");
  await settled(page);
  await expect(page.locator("td.main a").first()).toBeVisible();
  await page.route(API, (route) => route.fulfill(NOT_NOW));
  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await expect(page.getByRole("heading", { name: "You are still signed in" })).toBeVisible();
  await expect(page.getByRole("alert")).toContainText("The server is being restarted");
  await expect(page.locator("td")).toHaveCount(0);
  await page.unroute(API);
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByLabel("Login name")).toBeVisible();

  // A session that ended by itself needs no ending.
  await signIn(page);
  await page.goto("/t/default/findings");
  await settled(page);
  await context.clearCookies();
  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await expect(page.getByLabel("Login name")).toBeVisible();
});

base("the way back after a sign-out shows nothing, in a browser that keeps pages as they were", async ({ playwright }, info) => {
  const { launchOptions } = info.project.use;
  const browser = await playwright.chromium.launch({ ...launchOptions, ignoreDefaultArgs: ["--disable-back-forward-cache"] });
  const page = await browser.newPage({ baseURL: URL_OF_SERVER });
  await signIn(page, ADMIN, PASSWORD);
  await page.goto("/t/default/findings");
  await expect(page.locator("td.main a").first()).toBeVisible();
  const seen = async () => {
    // The page that is shown may change while it is asked.
    await expect(async () => expect(await page.evaluate(() => performance.getEntriesByType("navigation").map((it) => (it as PerformanceNavigationTiming).type))).toEqual(["reload"])).toPass();
  };
  // The browser does keep such pages: this one was, and was loaded anew.
  await page.evaluate(() => window.location.assign("/mark-of-nothing.svg"));
  await expect(page).toHaveURL(/mark-of-nothing/);
  await page.evaluate(() => history.back());
  await seen();
  await expect(page.locator("td.main a").first()).toBeVisible();

  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await expect(page.getByLabel("Login name")).toBeVisible();
  // Nothing answers: what is shown is what the browser has.
  await page.route(API, (route) => route.abort());
  await page.evaluate(() => history.back());
  await seen();
  await expect(page.getByRole("heading", { name: "Not now" })).toBeVisible();
  await expect(page.locator("td")).toHaveCount(0);
  await page.unroute(API);
  await page.reload();
  await expect(page.getByLabel("Login name")).toBeVisible();
  await browser.close();
});

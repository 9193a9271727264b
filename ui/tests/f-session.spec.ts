// A session and its end: what keeps it alive, that it says so before it ends, and what becomes of a form that was open.
import type { Browser, Page, Request } from "@playwright/test";
import { ADMIN, call, expect, joins, look, PASSWORD, settled, signIn, signOut, test } from "./world";

test.describe.configure({ mode: "serial" });

const ANALYST = "f-analyst@example.org";
const OTHER = "f-other@example.org";
const TYPED = "what nobody else may read: the gateway refuses it";

const ME = (url: URL) => url.pathname === "/api/v1/me";
const isMe = (request: Request) => ME(new URL(request.url()));

async function another(browser: Browser, watched: (page: Page) => Page) {
  return watched(await (await browser.newContext({ viewport: { width: 1360, height: 860 } })).newPage());
}

/** Ends every session of who is signed in on `page` from another browser. */
async function endElsewhere(browser: Browser, watched: (page: Page) => Page, email: string) {
  const other = await another(browser, watched);
  await signIn(other, email);
  await expect(other.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await call(other, "POST", "/api/v1/me/sessions/end", { including_current: true });
  await other.context().close();
}

/** A form with something typed into it. */
async function openForm(page: Page) {
  await page.goto("/t/default/findings?status=open");
  await settled(page);
  await page.locator("td.main a").first().click();
  await page.getByRole("button", { name: "Accept…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Reason").fill(TYPED);
  return dialog;
}

/** Nothing of a tenant is in the document. */
async function nothingIsShown(page: Page) {
  await expect(page.locator("td, dialog, nav, #root")).toHaveCount(0);
  expect(await page.content()).not.toContain("default");
  expect(await page.evaluate(() => [...document.querySelectorAll("input, textarea")].map((it) => (it as HTMLInputElement).value))).toEqual([ANALYST, ""]);
  await expect(page).toHaveTitle("Sign in · Cairn");
}

/** Nobody is signed in, and no page is open that would notice. */
async function signedOut(page: Page) {
  await page.goto("about:blank");
  await page.context().clearCookies();
}

async function signInAt(page: Page, email: string) {
  await page.getByLabel("Login name").fill(email);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
}

test("what the page asks by itself is no use of the session, and what somebody does is @both", async ({ page }) => {
  await page.clock.install();
  await signIn(page);
  await page.goto("/t/default");
  await settled(page);
  const polled = async () => {
    const asked = page.waitForRequest(isMe);
    await page.clock.fastForward(61_000);
    const request = await asked;
    await request.response();
    return request.headers()["x-cairn-background"];
  };
  // What opened the page is told of by now.
  await polled();
  expect(await polled()).toBe("1");
  await page.keyboard.press("Tab");
  expect(await polled()).toBeUndefined();
  expect(await polled()).toBe("1");
  await page.getByRole("heading", { level: 1 }).click();
  const [request] = await Promise.all([
    page.waitForRequest((it) => new URL(it.url()).pathname.startsWith("/api/v1/tenants/default/findings")),
    page.getByRole("link", { name: "Findings", exact: true }).click(),
  ]);
  expect(request.headers()["x-cairn-background"]).toBeUndefined();
});

test("the session says that it is about to end, in a form that is open too @both", async ({ page }) => {
  await signIn(page);
  const dialog = await openForm(page);
  const soon = (ms: number) => new Date(Date.now() + ms).toISOString();
  let change: Record<string, string> = { idle_ends_at: soon(4 * 60_000) };
  await page.route(ME, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...((await response.json()) as object), ...change } });
  });
  const ask = () => page.evaluate(() => window.dispatchEvent(new Event("visibilitychange")));
  await page.clock.install();
  await page.reload();
  await settled(page);
  const ends = page.locator(".ends");
  await expect(ends).toContainText(/You are signed out at \d\d:\d\d:\d\d unless you go on here/);
  await look(page, "signed-out-soon");
  // It stands inside of the question that is open, where it can be pressed.
  await page.getByRole("button", { name: "Accept…" }).click();
  await expect(dialog.locator(".ends")).toBeVisible();
  change = {};
  const told = page.waitForRequest((it) => isMe(it) && it.headers()["x-cairn-background"] === undefined);
  await dialog.getByRole("button", { name: "Stay signed in" }).click();
  await told;
  await expect(ends).toHaveCount(0);
  change = { expires_at: soon(3 * 60_000) };
  await page.clock.fastForward(61_000);
  await ask();
  await expect(ends).toContainText(/Your session ends at \d\d:\d\d:\d\d, however much you use it/);
  await expect(ends.getByRole("button")).toHaveCount(0);
});

test("a form that is open when the session ends is out of sight, and goes on when the same user signs in again @both", async ({ page, browser, watched }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const theirs = await another(browser, watched);
  await joins(page, theirs, { email: ANALYST, name: "Analyst", role: "security-analyst" });
  const dialog = await openForm(theirs);
  const at = theirs.url();
  const title = await theirs.title();
  await endElsewhere(browser, watched, ANALYST);
  await dialog.getByRole("button", { name: "Accept 1 finding" }).click();
  await expect(theirs.getByText(/Your session ended. What you typed is kept, out of sight/)).toBeVisible();
  await nothingIsShown(theirs);
  await look(theirs, "signed-out-with-a-form");
  // A wrong password lets nobody in, and loses nothing.
  await theirs.getByLabel("Password").fill("not the password");
  await theirs.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(theirs.getByRole("alert")).toContainText("is wrong");
  await nothingIsShownBut(theirs);
  await signInAt(theirs, ANALYST);
  await expect(dialog.getByLabel("Reason")).toHaveValue(TYPED);
  await expect(theirs).toHaveURL(at);
  await expect(theirs).toHaveTitle(title);
  // It is the question above the page that it was: what is below cannot be pressed.
  expect(await dialog.evaluate((it) => it.matches(":modal"))).toBe(true);
  await dialog.getByRole("button", { name: "Accept 1 finding" }).click();
  await expect(theirs.getByText(TYPED)).toBeVisible();
  await theirs.getByRole("button", { name: "Open again" }).click();
  await expect(theirs.getByRole("button", { name: "Accept…" })).toBeVisible();
  await theirs.context().close();
});

/** The same where a wrong password stands in the form. */
async function nothingIsShownBut(page: Page) {
  await expect(page.locator("td, dialog, nav, #root")).toHaveCount(0);
  expect(await page.content()).not.toContain(TYPED);
}

test("when somebody else signs in, nothing of the form is there, and no way back leads to it @both", async ({ page, browser, watched }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const theirs = await another(browser, watched);
  await joins(page, theirs, { email: OTHER, name: "Other", role: "security-analyst" });
  await signOut(theirs);
  await signIn(theirs, ANALYST);
  const dialog = await openForm(theirs);
  await endElsewhere(browser, watched, ANALYST);
  await dialog.getByRole("button", { name: "Accept 1 finding" }).click();
  await expect(theirs.getByText(/Your session ended. What you typed is kept/)).toBeVisible();
  await signInAt(theirs, OTHER);
  await expect(theirs).toHaveURL(/\/t\/default$/);
  await expect(theirs.getByRole("link", { name: OTHER })).toBeVisible();
  for (let back = 0; back < 2; back += 1) {
    expect(await theirs.content()).not.toContain(TYPED);
    await expect(theirs.getByRole("dialog")).toHaveCount(0);
    await theirs.goBack();
    await settled(theirs);
  }
  // In another tab of the same browser it is the same.
  await theirs.goto("/t/default");
  await signOut(theirs);
  await signIn(theirs, ANALYST);
  await openForm(theirs);
  await endElsewhere(browser, watched, ANALYST);
  await dialog.getByRole("button", { name: "Accept 1 finding" }).click();
  await expect(theirs.getByText(/Your session ended. What you typed is kept/)).toBeVisible();
  const tab = watched(await theirs.context().newPage());
  await signIn(tab, OTHER);
  await expect(tab.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await expect(theirs.getByRole("link", { name: OTHER })).toBeVisible();
  await expect(theirs.getByRole("dialog")).toHaveCount(0);
  expect(await theirs.content()).not.toContain(TYPED);
  await theirs.context().close();
});

test("a form goes on when its user signs in in another tab, and is gone when they throw it away or sign out there @both", async ({ browser, watched }) => {
  const page = await another(browser, watched);
  await signIn(page, ANALYST);
  const dialog = await openForm(page);
  const wait = async () => {
    await endElsewhere(browser, watched, ANALYST);
    await dialog.getByRole("button", { name: "Accept 1 finding" }).click();
    await expect(page.getByText(/Your session ended. What you typed is kept/)).toBeVisible();
  };
  await wait();
  const tab = watched(await page.context().newPage());
  await signIn(tab, ANALYST);
  await expect(tab.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await expect(dialog.getByLabel("Reason")).toHaveValue(TYPED);
  // Who signs out walks away, from all tabs.
  await signOut(tab);
  await expect(page).toHaveURL(/\/login/);
  expect(await page.content()).not.toContain(TYPED);
  await signIn(page, ANALYST);
  await openForm(page);
  await wait();
  await page.getByRole("button", { name: "Throw it away" }).click();
  await expect(page).toHaveURL(/\/login$/);
  await signInAt(page, ANALYST);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  expect(await page.content()).not.toContain(TYPED);
  await page.context().close();
});

test("who signs in comes back to the page of a node, whatever its id is made of @both", async ({ page, refusals }) => {
  // There is no such node; it is asked for by the right name.
  refusals.expect(404);
  const ids = ["k8s:prod:k8s.pod:kube-system/proxy (1)", "host:local:host.file:/etc/ssh/100%", "host:local:host.user:acme\\ann?#é"];
  for (const id of ids) {
    await signedOut(page);
    const path = `/t/default/nodes/${encodeURIComponent(id)}`;
    await page.goto(path);
    await expect(page).toHaveURL(/\/login\?next=/);
    const asked = page.waitForRequest((it) => it.url().includes("/api/v1/tenants/default/nodes/"));
    await signInAt(page, ADMIN);
    expect(decodeURIComponent(new URL((await asked).url()).pathname.split("/")[6] ?? "")).toBe(id);
    await expect(page).toHaveURL((url) => url.pathname === path);
  }
  for (const filtered of ["/t/default/nodes?name=a%2Fb", "/t/default/findings?text=%2F%2Fevil.example%25"]) {
    await signedOut(page);
    await page.goto(filtered);
    await signInAt(page, ADMIN);
    await expect(page).toHaveURL(filtered);
    await settled(page);
  }
  for (const next of ["/%2fevil.example", "/%252fevil.example", "/.%2f/evil.example", "/t/..//evil.example", "/.//evil.example", "/t/%2e%2e//evil.example"]) {
    await signedOut(page);
    await page.goto(`/login?next=${encodeURIComponent(next)}`);
    await signInAt(page, ADMIN);
    await expect(page).toHaveURL(/\/t\/\w+$/);
  }
});

// By the keyboard and without a mouse: the focus stays where one works, and what cannot be done says why.
import { call, expect, joins, look, settled, signIn, test } from "./world";

test.describe.configure({ mode: "serial" });

test("whoever searches, turns a page or goes to another one has the focus there", async ({ page }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  // The first page is left to the browser, so that the way past the navigation is the first stop.
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Skip to the page" })).toBeFocused();
  await page.getByRole("link", { name: "Nodes", exact: true }).focus();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1, name: "Nodes" })).toBeFocused();

  const search = page.getByLabel("Name contains");
  await search.focus();
  await page.keyboard.type("e");
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/name=e/);
  await settled(page);
  await expect(search).toBeFocused();
  await page.goBack();
  await expect(search).toHaveValue("");

  const table = page.getByRole("group", { name: "Nodes, scrollable" });
  await page.getByRole("link", { name: "Next page" }).focus();
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/page=/);
  await expect(table).toBeFocused();
  await page.getByRole("link", { name: "First page" }).focus();
  await page.keyboard.press("Enter");
  await expect(page).not.toHaveURL(/page=/);
  await expect(table).toBeFocused();

  // A page whose heading comes with its data.
  await table.getByRole("link").first().focus();
  const name = (await table.getByRole("link").first().textContent()) ?? "";
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1, name })).toBeFocused();
});

test("the slider through time stays under the fingers, and the graph's filters too", async ({ page }) => {
  await signIn(page);
  await page.getByRole("link", { name: "Graph", exact: true }).click();
  await page.getByRole("button", { name: "Look into the past…" }).click();
  const slider = page.getByRole("slider", { name: "As of" });
  await slider.focus();
  await page.keyboard.press("ArrowLeft");
  await expect(page).toHaveURL(/as_of=/);
  await settled(page);
  await expect(slider).toBeFocused();
  await page.keyboard.press("ArrowRight");
  await expect(page).not.toHaveURL(/as_of=/);
  await expect(slider).toBeFocused();
  const filter = page.getByLabel("Name or id");
  await filter.focus();
  await page.keyboard.type("host");
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/search=host/);
  await expect(filter).toBeFocused();
  await page.goBack();
  await expect(filter).toHaveValue("");
  // The button that clears goes with what it cleared.
  await filter.fill("host");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Clear", exact: true }).focus();
  await page.keyboard.press("Enter");
  await expect(page).not.toHaveURL(/search=/);
  await expect(page.getByRole("button", { name: "Filter", exact: true })).toBeFocused();
});

test("whoever asks for more rows is where they end when there are no more", async ({ page }) => {
  await signIn(page);
  await page.goto("/t/default/nodes");
  await page.route(/\/history(\?.*)?$/, async (route) => {
    if (new URL(route.request().url()).searchParams.has("page")) return route.fulfill({ json: { items: [] } });
    const response = await route.fetch();
    const answer = (await response.json()) as object;
    return route.fulfill({ response, json: { ...answer, next_page: "more" } });
  });
  await page.getByRole("table", { name: "Nodes" }).getByRole("link").first().click();
  const more = page.getByRole("button", { name: "Show more" });
  await more.focus();
  await page.keyboard.press("Enter");
  await expect(more).toHaveCount(0);
  await expect(page.getByText(/^All \d+$/)).toBeFocused();
});

test("who follows the log from an older page of it is shown what comes", async ({ page }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const { next_page } = (await (await page.request.get("/api/v1/tenants/default/audit?limit=2")).json()) as { next_page: string };
  await page.goto(`/t/default/audit?outcome=success&page=${next_page}`);
  await settled(page);
  const follow = page.getByRole("button", { name: "Follow", exact: true });
  await follow.click();
  await expect(page).toHaveURL(/\/audit\?outcome=success$/);
  await expect(page.getByRole("button", { name: "Stop following" })).toBeFocused();
  const { id = "" } = await call(page, "POST", "/api/v1/tenants/default/groups", { name: "followed" });
  await expect(page.getByRole("table", { name: "Audit log" }).getByRole("row").nth(1)).toContainText("group_create");
  // Whoever goes back to what was reads that.
  await page.goBack();
  await expect(follow).toBeVisible();
  await call(page, "DELETE", `/api/v1/tenants/default/groups/${id}`);
});

test("Ctrl+K goes anywhere from the pages of the installation too", async ({ page }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await page.goto("/platform/users");
  await settled(page);
  await page.keyboard.press("Control+k");
  const dialog = page.getByRole("dialog", { name: "Go to" });
  await expect(dialog.getByLabel("Page or tenant")).toBeFocused();
  await look(page, "go-to-from-the-installation");
  await page.keyboard.type("witn");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1, name: "Witnesses" })).toBeVisible();
  // With a tenant at hand its pages are there as well, and the way back to the installation.
  await page.goto("/platform/users?tenant=default");
  await page.getByRole("button", { name: /^Go to/ }).click();
  const field = dialog.getByLabel("Page, node or finding");
  await expect(field).toBeFocused();
  await page.keyboard.type("finding");
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/\/t\/default\/findings$/);
  await expect(page.getByRole("heading", { level: 1, name: "Findings" })).toBeVisible();
  await page.keyboard.press("Control+k");
  await expect(field).toBeFocused();
  await page.keyboard.type("data k");
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/\/platform\/data-keys\?tenant=default$/);
});

test("an action that cannot be done says why, to the keyboard that reaches it and to whoever presses it", async ({ page, browser, watched }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const theirs = watched(await (await browser.newContext({ viewport: { width: 1360, height: 860 }, hasTouch: true })).newPage());
  await joins(page, theirs, { email: "keys@example.org", name: "Keys", role: "auditor" });
  await theirs.goto("/t/default/findings");
  await theirs.locator("td.main a").first().click();
  const resolve = theirs.getByRole("button", { name: "Resolve" });
  const why = theirs.getByText("Your role auditor lacks the permission findings:write.").nth(1);
  const width = async () => (await why.boundingBox())?.width ?? 0;
  await expect(resolve).toBeVisible();
  await expect(theirs.getByRole("heading", { level: 1 })).toBeFocused();
  expect(await width()).toBeLessThan(2);
  await theirs.getByRole("button", { name: "Accept…" }).focus();
  await theirs.keyboard.press("Tab");
  await expect(resolve).toBeFocused();
  expect(await width()).toBeGreaterThan(100);
  const [button, bubble] = [await resolve.boundingBox(), await why.boundingBox()];
  expect(Math.abs((bubble?.y ?? 0) - (button?.y ?? 0))).toBeLessThan(80);
  await look(theirs, "reason");
  await theirs.getByRole("heading", { level: 1 }).focus();
  await expect.poll(width).toBeLessThan(2);
  await resolve.tap({ force: true });
  await expect.poll(width).toBeGreaterThan(100);
  await theirs.getByRole("heading", { level: 1 }).focus();
  await theirs.context().close();
});

test("a record says when it was made in words that need no mouse", async ({ page }) => {
  await signIn(page);
  await page.goto("/t/default/audit");
  await settled(page);
  const exact = /\d{1,2} \w{3,4} \d{4}, \d{2}:\d{2}:\d{2} \S+/;
  const row = page.getByRole("table", { name: "Audit log" }).getByRole("row").nth(1);
  await expect(row).toContainText(exact);
  await row.getByRole("button").first().click();
  await expect(page.getByRole("dialog").locator("dd").first()).toContainText(exact);
  await page.goto("/t/default/evidence");
  await page.getByRole("table", { name: "Evidence" }).getByRole("link").first().click();
  await expect(page.locator("dl.facts")).toContainText(exact);
  const { id = "" } = await call(page, "POST", "/api/v1/tenants/default/jobs", { plugin: "host" });
  await page.goto(`/t/default/jobs/${id}`);
  await expect(page.locator("dl.facts")).toContainText(exact);
});

// A narrow window, a slow server, a session that ended: what happens to people who did nothing wrong.
import { expect, look, settled, signIn, test } from "./world";

test.describe.configure({ mode: "serial" });

test.describe("in a narrow window", () => {
  test.use({ viewport: { width: 400, height: 800 } });

  test("the pages are behind a button that the keyboard reaches, and no page is wider than the window", async ({ page }) => {
    await signIn(page);
    const pages = page.getByRole("navigation", { name: "Pages" });
    const menu = page.getByRole("button", { name: "Menu", exact: true });
    await expect(menu).toHaveAttribute("aria-expanded", "false");
    await expect(pages).toBeHidden();
    // What one came for is there without scrolling.
    await expect(page.getByRole("heading", { level: 1 })).toBeInViewport();
    await settled(page);
    await look(page, "home-narrow");

    await menu.focus();
    await page.keyboard.press("Enter");
    await expect(pages).toBeVisible();
    await look(page, "menu-narrow");
    await page.keyboard.press("Escape");
    await expect(pages).toBeHidden();
    await expect(menu).toBeFocused();
    await menu.click();
    await pages.getByRole("link", { name: "Findings", exact: true }).click();
    await expect(pages).toBeHidden();
    await expect(page.getByRole("heading", { level: 1, name: "Findings" })).toBeInViewport();
    const finding = await page.locator("td.main a").first().getAttribute("href");

    await menu.click();
    const links = pages.getByRole("link");
    await expect(links.filter({ hasText: "Findings" })).toBeVisible();
    const hrefs = await links.evaluateAll((all) => all.map((it) => it.getAttribute("href") ?? ""));
    expect(hrefs.length).toBeGreaterThan(25);
    for (const href of [...hrefs, finding ?? "", "/account", "/device", "/t/default/evidence/verify", "/t/default/group-roles"]) {
      await page.goto(href);
      await settled(page);
      await expect(page.getByRole("heading", { level: 1 }).first()).toBeInViewport();
      const { inner, outer } = await page.evaluate(() => ({ inner: document.documentElement.scrollWidth, outer: document.documentElement.clientWidth }));
      expect(inner, `${href} is as wide as the window`).toBeLessThanOrEqual(outer);
    }
    // A node's id is long, and breaks.
    await page.goto("/t/default/nodes?type=host.package");
    await page.locator("td.main a").first().click();
    await expect(page.getByRole("heading", { level: 2, name: "Properties" })).toBeVisible();
    await settled(page);
    expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)).toBe(0);
    await look(page, "node-narrow");
  });
});

test("a form that is sent by a slow line is sent once, however often one presses", async ({ page }) => {
  await signIn(page);
  await page.goto("/t/default/groups");
  await settled(page);
  let open = () => {};
  const gate = new Promise<void>((release) => (open = release));
  let sent = 0;
  await page.route("**/api/v1/tenants/default/groups", async (route) => {
    if (route.request().method() === "POST") {
      sent += 1;
      await gate;
    }
    await route.continue();
  });
  await page.getByRole("button", { name: "Make a group" }).first().click();
  const dialog = page.getByRole("dialog", { name: "Make a group" });
  await dialog.getByLabel("Name").fill("pressed-once");
  const make = dialog.getByRole("button", { name: "Make", exact: true });
  await make.click();
  await expect(make).toHaveAttribute("aria-busy", "true");
  await make.click({ force: true });
  await dialog.getByLabel("Name").press("Enter");
  await dialog.getByLabel("Name").press("Enter");
  open();
  await expect(dialog).toHaveCount(0);
  await expect(page.getByRole("table", { name: "Groups" })).toContainText("pressed-once");
  expect(sent).toBe(1);
  await page.unroute("**/api/v1/tenants/default/groups");

  // Who made it is told by a name that people know.
  const row = page.getByRole("row", { name: /pressed-once/ });
  await expect(row).toContainText("admin@localhost");
  await expect(row).not.toContainText("usr_");
  await row.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await expect(page.getByText("pressed-once")).toHaveCount(0);
});

test("whoever is signed out while they work is told so, and is back where they were", async ({ page, context }) => {
  await signIn(page);
  await page.goto("/t/default/findings?severity=high");
  await settled(page);
  // At the first visit there is nothing to be told.
  const stranger = await context.browser()!.newContext();
  const first = await stranger.newPage();
  await first.goto(`${new URL(page.url()).origin}/t/default/findings`);
  await expect(first.getByLabel("Login name")).toBeVisible();
  await expect(first.getByText("Your session ended")).toHaveCount(0);
  await stranger.close();

  await context.clearCookies();
  await page.getByLabel("Status").selectOption("open");
  await expect(page.getByText("Your session ended. Sign in, and you are back where you were.")).toBeVisible();
  await look(page, "session-ended");
  await page.getByLabel("Login name").fill("admin@localhost");
  await page.getByLabel("Password").fill("not the password");
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(page.getByRole("alert")).toContainText("is wrong");
  await expect(page.getByText("Your session ended")).toHaveCount(0);
  await page.getByLabel("Password").fill(process.env["CAIRN_TEST_PASSWORD"] ?? "");
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(page).toHaveURL(/\/t\/default\/findings\?.*severity=high/);
});

test("a role says what it lets its holder do before it is given, and a key's what a key has of it", async ({ page }) => {
  await signIn(page);
  await page.goto("/t/default/members");
  await page.getByRole("button", { name: "Invite somebody" }).first().click();
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByText("May: ")).toContainText("nodes:read");
  await expect(dialog.getByText("May: ")).not.toContainText("findings:read");
  await dialog.getByLabel("Role").selectOption("auditor");
  await expect(dialog.getByText("May: ")).toContainText("findings:read");
  await dialog.getByLabel("Role").selectOption("tenant-admin");
  await expect(dialog.getByText("May: ")).toContainText("users:manage");
  await look(page, "invite");
  await page.goto("/t/default/keys");
  await page.getByRole("button", { name: "Make a key" }).first().click();
  await dialog.getByLabel("Role").selectOption("tenant-admin");
  await expect(dialog.getByText("May: ")).toContainText("jobs:manage");
  await expect(dialog.getByText("May: ")).not.toContainText("users:manage");
});

// Each page of a tenant, and what is done there.
import { readFileSync } from "node:fs";
import { ADMIN, call, expect, look, signIn, test } from "./world";

test.describe.configure({ mode: "serial" });

test("every page that is in the navigation opens, and axe finds nothing in it", async ({ page }) => {
  await signIn(page);
  const pages = page.getByRole("navigation", { name: "Pages" });
  await expect(pages).toBeVisible();
  const names = await pages.getByRole("link").allTextContents();
  expect(names.length).toBeGreaterThan(12);
  for (const name of names.slice(1)) {
    // The pages of the installation are no tenant's.
    if ((await pages.getByRole("link", { name, exact: true }).count()) === 0) await page.goto("/");
    await pages.getByRole("link", { name, exact: true }).click();
    await expect(page.getByRole("heading", { level: 1, name })).toBeVisible();
    await expect(page).toHaveTitle(`${name} · Cairn`);
    await look(page, name.toLowerCase().replaceAll(" ", "-"));
  }
});

test("everything can be reached by the keyboard", async ({ page }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Skip to the page" })).toBeFocused();
  await page.keyboard.press("Control+k");
  await expect(page.getByRole("dialog", { name: "Go to" })).toBeVisible();
  await look(page, "go-to");
  await page.keyboard.type("audit l");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1, name: "Audit log" })).toBeVisible();
  await page.keyboard.press("Control+k");
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toHaveCount(0);
});

test("a job runs, and its page follows it without being asked", async ({ page }) => {
  await signIn(page);
  await page.getByRole("link", { name: "Jobs", exact: true }).click();
  await page.getByRole("button", { name: "Run a job" }).first().click();
  await page.getByLabel("Plugin").selectOption("host");
  await look(page, "run-a-job");
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Job of host" })).toBeVisible();
  await expect(page.locator(".head .badge")).toHaveText(/completed|partial/, { timeout: 60_000 });
  await expect(page.getByRole("table", { name: "Scopes" })).toBeVisible();
  await look(page, "job");
});

test("a credential goes in and is never shown again", async ({ page }) => {
  const secret = "planted/secret+of/the/browser/tests+0123456";
  let answers = "";
  page.on("response", async (response) => {
    if (response.url().includes("/api/")) answers += await response.text().catch(() => "");
  });
  await signIn(page);
  await page.getByRole("link", { name: "Credentials", exact: true }).click();
  await page.getByRole("button", { name: "Add a credential" }).first().click();
  await page.getByLabel("Plugin").selectOption("aws");
  await page.getByLabel("Type").selectOption("aws-keys");
  await page.getByLabel("Name").fill("prod");
  await page.getByLabel("access_key_id").fill("AKIAIOSFODNN7EXAMPLE");
  await page.getByLabel("secret_access_key").fill(secret);
  await look(page, "add-a-credential");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.getByRole("table", { name: "Credentials" })).toContainText("prod");
  await page.reload();
  await expect(page.getByRole("table", { name: "Credentials" })).toContainText("aws-keys");
  expect(await page.content()).not.toContain(secret);
  expect(answers).not.toContain(secret);
  await page.getByRole("button", { name: "Delete prod" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await expect(page.getByRole("heading", { name: "No credentials" })).toBeVisible();
});

test("an enrollment token is shown once, with the commands that use it", async ({ page }) => {
  await signIn(page);
  await page.getByRole("link", { name: "Agents", exact: true }).click();
  await page.getByRole("button", { name: "Enroll an agent" }).first().click();
  await page.getByLabel("Labels").fill("site=berlin");
  await page.getByRole("button", { name: "Make a token" }).click();
  const commands = page.getByLabel("Commands");
  await expect(commands).toContainText("cairn-agent enroll");
  const token = /\bet_[0-9A-Za-z]{50}\b/.exec((await commands.textContent()) ?? "")?.[0] ?? "";
  expect(token).not.toBe("");
  await page.getByRole("button", { name: "Done" }).click();
  await expect(page.getByRole("table", { name: "Enrollment tokens" })).toContainText("waiting");
  await page.reload();
  await expect(page.getByRole("table", { name: "Enrollment tokens" })).toContainText("waiting");
  expect(await page.content()).not.toContain(token);
  await page.getByRole("button", { name: /^Withdraw/ }).click();
  await expect(page.getByRole("table", { name: "Enrollment tokens" })).toContainText("revoked");
});

test("an API key works until it is revoked @both", async ({ page, playwright, baseURL }) => {
  await signIn(page);
  await page.getByRole("link", { name: "API keys", exact: true }).click();
  await page.getByRole("button", { name: "Make a key" }).first().click();
  await page.getByLabel("Name").fill("pipeline");
  await page.getByRole("button", { name: "Make the key" }).click();
  const secret = (await page.getByLabel("The key", { exact: true }).textContent()) ?? "";
  expect(secret).toMatch(/^sk_/);
  const machine = await playwright.request.newContext({
    ...(baseURL ? { baseURL } : {}),
    extraHTTPHeaders: { authorization: `Bearer ${secret}` },
  });
  expect((await machine.get("/api/v1/tenants/default/nodes?limit=1")).status()).toBe(200);
  await page.getByRole("button", { name: "I have kept it" }).click();
  await expect(page.getByRole("table", { name: "API keys" })).toContainText("pipeline");
  expect(await page.content()).not.toContain(secret);
  await page.getByRole("button", { name: "Revoke pipeline" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await expect(page.getByRole("table", { name: "API keys" })).toContainText("revoked");
  expect((await machine.get("/api/v1/tenants/default/nodes?limit=1")).status()).toBe(401);
  await machine.dispose();
});

test("a group is made, somebody is put in and taken out, and it is deleted", async ({ page }) => {
  await signIn(page);
  await page.getByRole("link", { name: "Groups", exact: true }).click();
  await page.getByRole("button", { name: "Make a group" }).first().click();
  await page.getByLabel("Name", { exact: true }).fill("operators");
  await page.getByLabel("Its members").selectOption("provider");
  await expect(page.getByLabel("Group there")).toBeVisible();
  await look(page, "make-a-group");
  await page.getByLabel("Its members").selectOption("here");
  await expect(page.getByLabel("Group there")).toHaveCount(0);
  await page.getByRole("button", { name: "Make", exact: true }).click();
  await expect(page.getByRole("table", { name: "Groups" })).toContainText("members kept here");
  await page.getByRole("link", { name: "operators", exact: true }).click();
  await expect(page.getByRole("heading", { level: 1, name: "operators" })).toBeVisible();
  await page.getByRole("button", { name: "Add somebody" }).click();
  await page.getByLabel("Login name").fill(ADMIN);
  await page.getByRole("button", { name: "Add", exact: true }).click();
  const members = page.getByRole("table", { name: "Members" });
  await expect(members).toContainText(ADMIN);
  await look(page, "group");
  await page.reload();
  await expect(members).toContainText(ADMIN);
  await page.getByRole("button", { name: `Remove ${ADMIN}` }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Remove", exact: true }).click();
  await expect(page.getByRole("heading", { name: "Nobody" })).toBeVisible();
  await page.getByRole("navigation", { name: "Where you are" }).getByRole("link", { name: "Groups" }).click();
  await page.getByRole("button", { name: "Delete operators" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete", exact: true }).click();
  await expect(page.getByRole("heading", { name: "No groups" })).toBeVisible();
  await page.getByRole("link", { name: "Roles of providers’ groups" }).click();
  await expect(page.getByRole("heading", { name: "No roles" })).toBeVisible();
  await look(page, "group-roles");
});

test("findings are accepted with a reason and an end, many at once, and opened again", async ({ page }) => {
  await signIn(page);
  await page.getByRole("link", { name: "Findings", exact: true }).click();
  await page.getByLabel("Status").selectOption("open");
  await expect(page.getByRole("button", { name: "Accept…" })).toHaveAttribute("aria-disabled", "true");
  const boxes = page.getByRole("checkbox", { name: /^Choose / });
  await boxes.nth(0).check();
  await boxes.nth(1).check();
  await page.getByRole("button", { name: "Accept…" }).click();
  await expect(page.getByRole("dialog", { name: "Accept: 2 findings" })).toBeVisible();
  await page.getByLabel("Reason").fill("a machine for tests");
  await look(page, "accept-findings");
  await page.getByRole("button", { name: "Accept 2 findings" }).click();
  await expect(page.getByRole("dialog")).toHaveCount(0);
  await page.getByLabel("Status").selectOption("accepted");
  await expect(page.getByRole("table", { name: "Findings" }).getByRole("row")).toHaveCount(3);
  await page.locator("td.main a").first().click();
  await expect(page.getByText("a machine for tests")).toBeVisible();
  await page.getByRole("button", { name: "Open again" }).click();
  await expect(page.getByRole("button", { name: "Accept…" })).toBeVisible();
});

test("a list is saved as a file, and its filters are in the address", async ({ page }, info) => {
  await signIn(page);
  await page.getByRole("link", { name: "Nodes", exact: true }).click();
  await page.getByLabel("Type").selectOption({ value: "host.user" });
  await expect(page).toHaveURL(/type=host.user/);
  const address = page.url();
  const saving = page.waitForEvent("download");
  await page.getByRole("button", { name: "Export CSV" }).click();
  const file = info.outputPath("nodes.csv");
  await (await saving).saveAs(file);
  const text = readFileSync(file, "utf8");
  expect(text.split("\r\n")[0]).toBe("id,type,name,provider,region,first_seen,changed,discovered_at");
  expect(text).toContain("host.user,root,");
  await page.goto("/");
  await page.goto(address);
  await expect(page.getByRole("table", { name: "Nodes" })).toContainText("host.user");
  await expect(page.getByLabel("Type")).toHaveValue("host.user");
  // Next page, and back by the browser's own button.
  await page.getByLabel("Type").selectOption("");
  await page.getByRole("link", { name: "Next page" }).click();
  await expect(page.getByRole("link", { name: "First page" })).toBeVisible();
  await page.goBack();
  await expect(page.getByRole("link", { name: "First page" })).toHaveCount(0);
});

test("a policy is set, is there after a reload, and a wrong one says why and stays in the form", async ({ page, refusals }) => {
  refusals.expect(400);
  await signIn(page);
  await page.getByRole("link", { name: "Security", exact: true }).click();
  const recordings = page.getByRole("region", { name: "Recordings", exact: true });
  await recordings.getByLabel("Sessions on hosts").selectOption("required");
  await recordings.getByLabel("Kept for, in days").fill("390");
  await recordings.getByRole("button", { name: "Save" }).click();
  // A shorter time deletes: nothing is sent before one has said so.
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await expect(recordings.locator("dl")).toContainText("400 days");
  await recordings.getByRole("button", { name: "Save" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Change" }).click();
  await expect(recordings.getByRole("status")).toContainText("Kept for: 400 days → 390 days");
  await expect(recordings.getByRole("status")).toContainText("Hosts: best-effort");
  await expect(recordings.getByRole("status")).not.toContainText("Clusters");
  await page.reload();
  await expect(recordings.locator("dl")).toContainText("390 days");
  await expect(recordings.getByLabel("Kept for, in days")).toHaveValue("390");
  await expect(recordings.getByLabel("Sessions on hosts")).toHaveValue("required");
  // What somebody else changed while the page was open is not changed back.
  await call(page, "PUT", "/api/v1/tenants/default/recording-policy", { kubernetes: "best-effort", ssh: "required", input: false, retention_days: 395 });
  await recordings.getByLabel("Record what is typed").check();
  await recordings.getByRole("button", { name: "Save" }).click();
  await expect(recordings.getByRole("status")).toContainText("What is typed");
  await expect(recordings.locator("dl")).toContainText("395 days");

  const targets = page.getByRole("region", { name: "Targets of jobs" });
  await targets.getByLabel("Special networks").fill("10.0.0.0/8");
  await targets.getByRole("button", { name: "Save" }).click();
  await expect(targets.getByRole("alert")).toContainText("targets anyhow");
  await expect(targets.getByRole("alert")).toContainText("look for it in the server’s log");
  await expect(targets.getByLabel("Special networks")).toHaveValue("10.0.0.0/8");
  await expect(targets.locator("dl")).toContainText("none");
});

test("the audit log tells of all this, bears itself out, and gives a proof away", async ({ page }, info) => {
  await signIn(page);
  await page.getByRole("link", { name: "Audit log", exact: true }).click();
  await page.getByLabel("Text").fill("api_key_revoke");
  await page.getByRole("button", { name: "Search" }).click();
  await expect(page.getByRole("table", { name: "Audit log" }).getByRole("row")).toHaveCount(2);
  await page.getByRole("button", { name: /^Details/ }).click();
  const saving = page.waitForEvent("download");
  await page.getByRole("button", { name: "Save the proof that it is in the log" }).click();
  const file = info.outputPath("proof");
  await (await saving).saveAs(file);
  const text = readFileSync(file, "utf8");
  expect(text).toContain("c2sp.org/tlog-proof");
  await page.getByRole("button", { name: "Close" }).click();
  await page.getByRole("button", { name: "Have the server verify it" }).click();
  await expect(page.getByText("bear each other out")).toBeVisible();
});

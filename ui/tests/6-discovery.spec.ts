// Discovery from near: validating a credential, a job's scopes and log, the coverage ledger, schedules; relays with their tasks and logs.
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pasted } from "./fleet";
import { call, expect, look, signIn, test } from "./world";

test.describe.configure({ mode: "serial" });

test("what a job would begin with is tried before it is run, and a credential says what it may not do @both", async ({ page, refusals }) => {
  refusals.expect(400);
  const secret = "planted-community-of-the-browser-tests";
  const answers: Promise<string>[] = [];
  page.on("response", (response) => {
    if (response.url().includes("/validations")) answers.push(response.text().catch(() => ""));
  });
  await signIn(page);
  await page.getByRole("link", { name: "Jobs", exact: true }).click();
  await page.getByRole("button", { name: "Run a job" }).first().click();
  await page.getByLabel("Plugin").selectOption("host");
  await page.getByRole("button", { name: "Validate" }).click();
  await expect(page.getByText("Everything that was tried is answered: 1 of 1.")).toBeVisible();
  await page.getByRole("button", { name: "Cancel" }).click();

  await page.getByRole("link", { name: "Credentials", exact: true }).click();
  await page.getByRole("button", { name: "Add a credential" }).first().click();
  await page.getByLabel("Plugin").selectOption("snmp");
  await page.getByLabel("Type").selectOption("snmp-community");
  await page.getByLabel("Name").fill("core");
  await page.getByLabel("community", { exact: true }).fill(secret);
  await page.getByRole("button", { name: "Add and validate" }).click();
  const dialog = page.getByRole("dialog", { name: "Validate core" });
  // A form knows what the plugin says of a setting, and what is wrong with one is said there.
  const targets = dialog.getByLabel("targets");
  await dialog.getByRole("button", { name: "Validate" }).click();
  await expect(targets).toBeFocused();
  await targets.fill("a b");
  await dialog.getByRole("group", { name: "collectors" }).getByRole("checkbox", { name: "arp", exact: true }).check();
  await expect(dialog.getByLabel("concurrency")).toHaveAttribute("max", "256");
  const [asked] = await Promise.all([
    page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/validations")),
    dialog.getByRole("button", { name: "Validate" }).click(),
  ]);
  expect((asked.postDataJSON() as { config: unknown }).config).toEqual({ targets: "a b", collectors: "arp" });
  await expect(targets).toHaveAttribute("aria-invalid", "true");
  await expect(dialog.getByRole("alert")).toHaveText(/`a b` is no host/);
  // The server's own machine is no target, whatever the credential.
  await dialog.getByLabel("targets").fill("127.0.0.1");
  await dialog.getByRole("button", { name: "Validate" }).click();
  await expect(dialog.getByText("Nothing that was tried is answered: a job would fail.")).toBeVisible();
  await expect(dialog.getByRole("table", { name: "What was tried" })).toContainText("127.0.0.1:161");
  await look(page, "validate-a-credential");
  await dialog.getByRole("button", { name: "Close" }).click();
  await expect(page.getByRole("table", { name: "Credentials" })).toContainText("failed");
  const said = (await Promise.all(answers)).join("\n");
  expect(said).toContain("127.0.0.1:161");
  expect(said).not.toContain(secret);
  await page.getByRole("button", { name: "Delete core" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await expect(page.getByRole("heading", { name: "No credentials" })).toBeVisible();
});

test("a key of several lines keeps them, hidden as a password is @both", async ({ page }) => {
  await signIn(page);
  await page.getByRole("link", { name: "Credentials", exact: true }).click();
  await page.getByRole("button", { name: "Add a credential" }).first().click();
  await page.getByLabel("Plugin").selectOption("ssh-linux");
  await page.getByLabel("Type").selectOption("ssh-key");
  await page.getByLabel("Name", { exact: true }).fill("hosts");
  await page.getByLabel("username", { exact: true }).fill("audit");
  const key = "-----BEGIN OPENSSH PRIVATE KEY-----\nplanted-key-of-the-browser-tests\n-----END OPENSSH PRIVATE KEY-----\n";
  const field = page.getByLabel("private_key", { exact: true });
  // As from the clipboard, which a field of one line would make one line of.
  await field.focus();
  await page.keyboard.insertText(key);
  await expect(field).toHaveCSS("-webkit-text-security", "disc");
  const [sent] = await Promise.all([
    page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/credentials")),
    page.getByRole("button", { name: "Add", exact: true }).click(),
  ]);
  expect((sent.postDataJSON() as { secret: { private_key: string } }).secret.private_key).toBe(key);
  await expect(page.getByRole("dialog")).toHaveCount(0);
  await page.getByRole("button", { name: "Delete hosts" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await expect(page.getByRole("heading", { name: "No credentials" })).toBeVisible();
});

test("a job shows its scopes and its log, whose filters are in the address @both", async ({ page }, info) => {
  await signIn(page);
  await page.getByRole("link", { name: "Jobs", exact: true }).click();
  await page.getByRole("button", { name: "Run a job" }).first().click();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Job of host" })).toBeVisible();
  await expect(page.locator(".head .badge")).toHaveText(/completed|partial/, { timeout: 60_000 });
  const scopes = page.getByRole("table", { name: "Scopes" });
  await expect(scopes).toContainText(":accounts");
  const kinds = page.getByRole("table", { name: "By kind" });
  await kinds.getByRole("link", { name: "accounts" }).click();
  await expect(page).toHaveURL(/kind=accounts/);
  await expect(scopes.getByRole("row")).toHaveCount(2);
  await page.reload();
  await expect(scopes.getByRole("row")).toHaveCount(2);
  await look(page, "job-scopes");

  await page.getByRole("link", { name: "Log", exact: true }).click();
  const log = page.getByRole("table", { name: "Log" });
  await expect(log).toContainText("the job begins");
  await page.getByLabel("Level").selectOption("info");
  await expect(page).toHaveURL(/level=info/);
  await page.getByLabel("Scope begins with").fill("host:");
  await page.getByLabel("Scope begins with").press("Enter");
  await expect(page).toHaveURL(/scope=host/);
  await expect(log).not.toContainText("the job begins");
  await expect(log).toContainText("nodes");
  const saving = page.waitForEvent("download");
  await page.getByRole("button", { name: "Export CSV" }).click();
  const file = info.outputPath("log.csv");
  await (await saving).saveAs(file);
  expect(readFileSync(file, "utf8").split("\r\n")[0]).toBe("at,level,task,scope,text");
  await look(page, "job-log");
});

test("the coverage ledger says what was read and leads to the job that read it", async ({ page }) => {
  await signIn(page);
  await page.getByRole("link", { name: "Coverage", exact: true }).click();
  const ledger = page.getByRole("table", { name: "Coverage" });
  await ledger.getByRole("link", { name: "accounts", exact: true }).first().click();
  await expect(page).toHaveURL(/kind=accounts/);
  await expect(page.getByLabel("Kind")).toHaveValue("accounts");
  await expect(ledger.getByRole("row")).toHaveCount(2);
  await page.getByLabel("Verdict").selectOption("not_tried");
  await expect(page.getByRole("heading", { name: "Nothing here" })).toBeVisible();
  await page.getByLabel("Verdict").selectOption("");
  await ledger.getByRole("link", { name: /^Job that read/ }).first().click();
  await expect(page.getByRole("heading", { level: 1, name: "Job of host" })).toBeVisible();
});

test("a schedule is paused, resumed, changed and deleted", async ({ page }) => {
  await signIn(page);
  await page.getByRole("link", { name: "Jobs", exact: true }).click();
  await page.getByRole("button", { name: "Run a job" }).first().click();
  await page.getByLabel("How often").selectOption("86400");
  await page.getByRole("button", { name: "Schedule", exact: true }).click();
  const schedules = page.getByRole("table", { name: "Schedules" });
  await expect(schedules).toContainText("every day");
  await page.getByRole("button", { name: "Pause the schedule of host" }).click();
  await expect(schedules).toContainText("paused");
  await look(page, "schedules");
  await page.getByRole("button", { name: "Resume the schedule of host" }).click();
  await expect(schedules).not.toContainText("paused");
  await page.getByRole("button", { name: "Change the schedule of host" }).click();
  await page.getByLabel("How often").selectOption("3600");
  await page.getByLabel("site", { exact: true }).fill("fra1");
  await look(page, "change-a-schedule");
  await page.getByRole("button", { name: "Save" }).click();
  await expect(schedules).toContainText("every hour");
  await expect(schedules).toContainText("site=fra1");
  await page.getByRole("button", { name: "Delete the schedule of host" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await expect(page.getByRole("heading", { name: "Nothing repeats" })).toBeVisible();
});

test.describe("a relay", () => {
  let folder: string;
  let program: ChildProcess | undefined;

  test.beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "cairn-relay-"));
  });

  test.afterAll(() => {
    try {
      if (program?.pid) process.kill(-program.pid);
    } catch {
      // It is gone already.
    }
    rmSync(folder, { recursive: true, force: true });
  });

  test("is enrolled, labelled and filtered, does a job, and its log is followed", async ({ page }) => {
    await signIn(page);
    await page.getByRole("link", { name: "Relays", exact: true }).click();
    await page.getByRole("button", { name: "Enroll a relay" }).first().click();
    await page.getByRole("button", { name: "Make a token" }).click();
    const commands = page.getByLabel("Commands");
    // The server's certificate is its own authority's, which the commands bring along, whatever way the relay runs.
    const authority = readFileSync(process.env["NODE_EXTRA_CA_CERTS"] ?? "", "utf8").replaceAll("\r", "").trim();
    for (const [way, word] of [["container", "docker run"], ["helm", "helm install cairn-relay"], ["program", "cairn-relay"]] as const) {
      await page.getByLabel("How it runs").selectOption(way);
      await expect(commands).toContainText(word);
      expect(await commands.textContent()).toContain(authority);
    }
    const run = (await commands.textContent()) ?? "";
    const token = /\bet_[0-9A-Za-z]{50}\b/.exec(run)?.[0] ?? "";
    expect(token).not.toBe("");
    await page.getByLabel("How it runs").selectOption("helm");
    // No picture shows a token.
    await commands.evaluate((shown, token) => {
      shown.textContent = (shown.textContent ?? "").replace(token, "et_…");
    }, token);
    await look(page, "enroll-a-relay");
    await page.getByRole("button", { name: "Done" }).click();
    const relay = `env RELAY_NAME=berlin RELAY_DATA_DIR=${join(folder, "identity")} ${process.env["CAIRN_TEST_RELAY"] ?? ""} "$@"`;
    program = pasted(folder, run, { "cairn-relay": relay });
    const relays = page.getByRole("table", { name: "Relays" });
    await expect(relays).toContainText("online", { timeout: 60_000 });
    await expect(relays).not.toContainText("older version");

    await page.getByRole("button", { name: "Labels of berlin" }).click();
    await page.getByLabel("Labels", { exact: true }).fill("site=berlin, env=prod");
    await page.getByRole("button", { name: "Save" }).click();
    await relays.getByRole("link", { name: "site=berlin" }).click();
    await expect(page).toHaveURL(/label=site/);
    await expect(relays.getByRole("row")).toHaveCount(2);
    await look(page, "relays-by-label");

    await relays.getByRole("link", { name: "berlin", exact: true }).click();
    await expect(page.getByRole("heading", { level: 1, name: "berlin" })).toBeVisible();
    await page.getByRole("button", { name: "Follow", exact: true }).click();
    const log = page.getByRole("table", { name: "Log" });
    await expect(log).toContainText("connected");
    const id = page.url().split("/").pop() ?? "";
    await call(page, "POST", "/api/v1/tenants/default/jobs", { plugin: "host", relay: id });
    // What comes is shown as it comes.
    await expect(log).toContainText("a task begins", { timeout: 60_000 });
    await expect(log).toContainText("a task ended", { timeout: 60_000 });
    await look(page, "relay");
    await page.getByLabel("Text").fill("a task ended");
    await expect(page).toHaveURL(/text=a\+task\+ended/);
    await expect(log).not.toContainText("a task begins");
    await page.getByRole("button", { name: "Stop following" }).click();
    await expect(page.getByText("Not followed.")).toBeVisible();

    // A relay that goes ends the stream, and the page says so.
    await page.getByLabel("Text").fill("");
    await page.getByRole("button", { name: "Follow", exact: true }).click();
    const state = page.getByRole("status");
    await expect(state.filter({ hasText: /^Following:/ })).toBeVisible();
    process.kill(-(program.pid ?? 0), "SIGKILL");
    await expect(state.filter({ hasText: /^(Connecting again|Ended):/ })).toBeVisible();
    await page.getByRole("button", { name: "Stop following" }).click();
    await call(page, "DELETE", `/api/v1/tenants/default/relays/${id}`);
    await page.getByRole("link", { name: "Relays", exact: true }).first().click();
    await expect(relays).toContainText("revoked");
  });
});

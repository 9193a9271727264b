// Destinations and their hosts, credentials and what they were tried with, and filters that go back step by step.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { enroll, pasted } from "./fleet";
import { call, expect, joins, look, publicKey, settled, signIn, test } from "./world";

test.describe.configure({ mode: "serial" });

test("a host becomes a destination, is told what it needs, has its key signed and is changed @both", async ({ page, refusals }) => {
  refusals.expect(400, 404);
  const line = publicKey();
  await signIn(page);
  await page.getByRole("link", { name: "Destinations", exact: true }).click();
  await settled(page);
  // Where there are none, the list says so too.
  await page.getByRole("button", { name: "Add an SSH host" }).first().click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name", { exact: true }).fill("web9");
  await dialog.getByLabel("Address").fill("web9.example:2222");
  await dialog.getByLabel("Accounts").fill("deploy, root");
  await dialog.getByLabel("Labels").fill("env=prod");
  // Through a relay or not is said, and never left to itself.
  await expect(dialog.getByLabel("How users reach it")).toHaveValue("");
  await dialog.getByLabel("How users reach it").selectOption("direct");
  await expect(dialog.getByText("Nothing records what is done there")).toBeVisible();
  await look(page, "add-a-host");
  // A key that is none is told, and no host is made.
  await dialog.getByLabel("Its public key").fill("no key");
  await dialog.getByRole("button", { name: "Add", exact: true }).click();
  await expect(dialog.getByRole("alert")).toContainText("one line of a public key");
  expect((await page.request.get("/api/v1/tenants/default/destinations/web9")).status()).toBe(404);
  await dialog.getByLabel("Its public key").fill(line);
  await dialog.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page).toHaveURL(/\/t\/default\/destinations\/web9$/);
  await expect(page.getByRole("heading", { level: 1, name: "web9" })).toBeVisible();

  // What is to be copied is what the API and the well-known address say.
  const authority = (await (await page.request.get("/.well-known/cairn-ssh-ca.pub")).text()).trim().replace(/ cairn-ssh-ca$/gm, "");
  await expect(page.getByLabel("Keys of the authority")).toHaveText(authority);
  await expect(page.getByLabel("Lines for sshd")).toContainText("TrustedUserCAKeys /etc/ssh/cairn_ca.pub");
  await expect(page.getByLabel("Lines for sshd")).toContainText("AuthorizedPrincipalsCommand /bin/echo cairn/dst_");
  await expect(page.getByLabel("Command", { exact: true })).toHaveText("cairn ssh web9");
  await expect(page.getByRole("heading", { name: "Nobody" })).toBeVisible();
  await expect(page.getByText("not recorded, ends with its certificate").first()).toBeVisible();
  await look(page, "host");

  // Its certificate is of its own key, by the authority that is shown.
  await page.getByRole("button", { name: "Sign its key for 90 days" }).click();
  const certificate = (await page.getByLabel("Certificate", { exact: true }).textContent()) ?? "";
  const [, principal = ""] = /^@cert-authority (\S+) /.exec((await page.getByLabel("Line for known_hosts").textContent()) ?? "") ?? [];
  expect(principal).not.toBe("");
  const shown = execFileSync("ssh-keygen", ["-L", "-f", "-"], { input: `${certificate}\n` }).toString();
  expect(shown).toContain("host certificate");
  expect(shown).toContain(principal);
  const print = (key: string) => execFileSync("ssh-keygen", ["-l", "-f", "-"], { input: `${key}\n` }).toString().split(" ")[1] ?? "?";
  expect(shown).toContain(`Public key: ED25519-CERT ${print(line)}`);
  expect(shown).toContain(`Signing CA: ED25519 ${print(authority.split("\n")[0] ?? "")}`);
  await look(page, "host-certificate");
  await page.getByRole("link", { name: "Certificates that were made" }).click();
  await expect(page.getByRole("table", { name: "Audit log" })).toContainText("ssh_host_certificate_create");
  await page.goBack();

  // The host is changed as a whole, from what it is.
  await page.getByRole("button", { name: "Change the host…" }).click();
  await expect(dialog.getByLabel("Address")).toHaveValue("web9.example:2222");
  await expect(dialog.getByLabel("Accounts")).toHaveValue("deploy, root");
  await dialog.getByLabel("Networks from which they are good").fill("10.0.0.0/33");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(dialog.getByRole("alert")).toContainText("is no network");
  await dialog.getByLabel("Networks from which they are good").fill("10.0.0.0/8");
  await dialog.getByLabel("Accounts").fill("deploy");
  await dialog.getByLabel("Forwarding of ports and sockets").check();
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(dialog).toHaveCount(0);
  const main = page.getByRole("main");
  await expect(main.getByText("permit-port-forwarding, permit-pty")).toBeVisible();
  await expect(main.getByText("10.0.0.0/8")).toBeVisible();
  // A certificate is of the key that was signed: with another key it is gone, and the next one stands in the file of that kind.
  const place = page.getByLabel("Line of the certificate");
  await page.getByRole("button", { name: "Sign its key for 90 days" }).click();
  await expect(place).toHaveText("HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub");
  await page.getByRole("button", { name: "Change the host…" }).click();
  await dialog.getByLabel("Its public key").fill(publicKey("ecdsa"));
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(dialog).toHaveCount(0);
  await expect(page.getByLabel("Certificate", { exact: true })).toHaveCount(0);
  await page.getByRole("button", { name: "Sign its key for 90 days" }).click();
  await expect(place).toHaveText("HostCertificate /etc/ssh/ssh_host_ecdsa_key-cert.pub");
  // Labels stay where nothing is said of them, and are changed by themselves.
  await expect(main.getByText("env=prod")).toBeVisible();
  await page.getByRole("button", { name: "Change…", exact: true }).click();
  await expect(dialog.getByRole("button", { name: "Save" })).toHaveAttribute("aria-disabled", "true");
  await expect(dialog.getByLabel("Relay")).toHaveCount(0);
  await dialog.getByLabel("Labels").fill("env=prod, team=web");
  await look(page, "change-a-destination");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(dialog).toHaveCount(0);
  await expect(main.getByText("env=prod, team=web")).toBeVisible();

  // Somebody reaches it: the page says who, and its grants are one step away.
  const grant = await call(page, "POST", "/api/v1/tenants/default/grants", { user: "admin@localhost", labels: { team: "web" }, role: "deploy" });
  await page.reload();
  await expect(page.getByRole("table", { name: "Who reaches it" })).toContainText("admin@localhost");
  await page.goto("/t/default/destinations");
  await expect(page.getByLabel("Command for web9")).toHaveText("cairn ssh deploy@web9");
  await call(page, "DELETE", `/api/v1/tenants/default/grants/${grant["id"]}`);

  // A second one of the name would be the first one changed: it is refused.
  refusals.expect(412);
  await page.getByRole("button", { name: "Add an SSH host" }).click();
  await dialog.getByLabel("Name", { exact: true }).fill("web9");
  await dialog.getByLabel("Address").fill("evil.example");
  await dialog.getByLabel("Its public key").fill(publicKey());
  await dialog.getByLabel("Accounts").fill("root");
  await dialog.getByLabel("How users reach it").selectOption("direct");
  await dialog.getByRole("button", { name: "Add", exact: true }).click();
  await expect(dialog.getByRole("alert")).toContainText("a destination `web9` already");
  await page.keyboard.press("Escape");
  await page.getByRole("link", { name: "web9", exact: true }).click();
  await expect(main.getByText("web9.example:2222")).toBeVisible();
  await page.getByRole("button", { name: "Delete…" }).click();
  await dialog.getByRole("button", { name: "Delete" }).click();
  await expect(page).toHaveURL(/\/t\/default\/destinations$/);
  await page.goto("/t/default/destinations/web9");
  await expect(page.getByRole("alert")).toContainText("Request req_");
});

test("a set of hosts is made, shows its hosts as they come and go, and says what a label gives @both", async ({ page, refusals }) => {
  refusals.expect(404, 412);
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const host = { address: "192.0.2.8", host_key: publicKey(), roles: ["deploy"], labels: { role: "web" } };
  await call(page, "PUT", "/api/v1/tenants/default/destinations/web8/ssh-host", host);
  await page.goto("/t/default/destinations");
  await page.getByRole("button", { name: "Add a set of hosts" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name", { exact: true }).fill("web8");
  await dialog.getByLabel("Labels of its hosts").fill("role=web");
  await dialog.getByRole("button", { name: "Add", exact: true }).click();
  await expect(dialog.getByRole("alert")).toContainText("`web8`");
  await dialog.getByLabel("Name", { exact: true }).fill("all-web");
  await look(page, "add-a-set");
  await dialog.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.getByRole("heading", { level: 1, name: "all-web" })).toBeVisible();
  const hosts = page.getByRole("table", { name: "Hosts of the set" });
  await expect(hosts).toContainText("web8");
  await call(page, "POST", "/api/v1/tenants/default/grants", { user: "admin@localhost", destination: "all-web", role: "deploy" });
  await page.reload();
  await expect(page.getByRole("table", { name: "Who reaches it" })).toContainText("admin@localhost");
  await look(page, "set-of-hosts");

  // The host's page says what goes by its labels, and so does who changes them.
  await hosts.getByRole("link", { name: "web8" }).click();
  const main = page.getByRole("main");
  await expect(main.getByText("1 grant, and the sets all-web")).toBeVisible();
  await page.getByRole("button", { name: "Change…" }).click();
  await dialog.getByLabel("Labels").fill("role=db");
  await expect(dialog.getByText("1 grant, and the sets all-web now")).toBeVisible();
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(dialog).toBeHidden();
  await expect(main.getByText("0 grants")).toBeVisible();

  // It follows where the set's own labels are changed.
  await page.goto("/t/default/destinations/all-web");
  await expect(page.getByRole("heading", { name: "No hosts" })).toBeVisible();
  await page.getByRole("button", { name: "Change…" }).click();
  await dialog.getByLabel("Labels of its hosts").fill("role=db");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(dialog).toBeHidden();
  await expect(hosts).toContainText("web8");
  await page.getByRole("button", { name: "Delete…" }).click();
  await dialog.getByRole("button", { name: "Delete" }).click();
  await expect(page).toHaveURL(/\/t\/default\/destinations$/);
  await call(page, "DELETE", "/api/v1/tenants/default/destinations/web8");
});

test("the relay of a host stays chosen, and is called not let in only where that is known", async ({ page, refusals }) => {
  refusals.expect(429);
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const relay = await enroll(page, "relay", "gate7");
  const host = { address: "192.0.2.7", host_key: publicKey(), roles: ["deploy"], relay };
  await call(page, "PUT", "/api/v1/tenants/default/destinations/web7/ssh-host", host);
  let release = () => {};
  const gate = new Promise<void>((open) => (release = open));
  await page.route(/\/api\/v1\/tenants\/default\/relays\?/, async (route) => {
    await gate;
    await route.fulfill({ status: 429, json: { request_id: "req_of_the_relays", code: "limit", message: "too much was asked: wait a moment" } });
  });
  await page.goto("/t/default/destinations/web7");
  await page.getByRole("button", { name: "Change the host…" }).click();
  const dialog = page.getByRole("dialog");
  const choice = dialog.getByLabel("Relay");
  const chosen = choice.locator("option:checked");
  await expect(chosen).toHaveText(relay);
  release();
  await expect(dialog.getByRole("alert")).toContainText("Request req_of_the_relays");
  await expect(choice).toHaveValue(relay);
  await page.unrouteAll();
  await dialog.getByRole("button", { name: "Try again" }).click();
  await expect(chosen).toHaveText(/^gate7/);
  await call(page, "DELETE", `/api/v1/tenants/default/relays/${relay}`);
  await page.reload();
  await page.getByRole("button", { name: "Change the host…" }).click();
  await expect(chosen).toHaveText(`${relay} (not let in)`);
  await page.keyboard.press("Escape");
  await call(page, "DELETE", "/api/v1/tenants/default/destinations/web7");
});

test("a step back goes to what was looked at before, not through every key that was pressed", async ({ page }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const steps = () => page.evaluate(() => history.length);
  // Both words at once are one step, and both are kept.
  await page.goto("/t/default/recordings");
  const began = await steps();
  await page.getByLabel("User").fill("ann@corp.example");
  await page.getByLabel("Destination").fill("web9");
  await page.getByRole("button", { name: "Search" }).click();
  await expect(page).toHaveURL(/user=ann%40corp.example&destination=web9$/);
  expect(await steps()).toBe(began + 1);
  // Searching for the same again is no step.
  await page.getByRole("button", { name: "Search" }).click();
  await expect(page.getByRole("heading", { name: "Nothing matches" })).toBeVisible();
  expect(await steps()).toBe(began + 1);
  await page.goBack();
  await expect(page).toHaveURL(/\/recordings$/);
  await expect(page.getByLabel("User")).toHaveValue("");

  // One of two words in the audit log does not take the other one away.
  await page.goto("/t/default/audit?text=session_create");
  await page.getByLabel("Who").fill("admin@localhost");
  await page.getByLabel("Text").fill("nothing-like-this");
  await page.getByRole("button", { name: "Search" }).click();
  await expect(page).toHaveURL(/text=nothing-like-this&actor=admin%40localhost$/);
  // A year is typed digit by digit: none of them is a step.
  const before = await steps();
  await page.getByLabel("From").pressSequentially("01012001");
  await expect(page).toHaveURL(/since=2001-01-01/);
  expect(await steps()).toBe(before);
  await page.goBack();
  await expect(page).toHaveURL(/audit\?text=session_create$/);
  await expect(page.getByLabel("Text")).toHaveValue("session_create");

  // Going through a field and leaving it as it was is no step either.
  await page.goto("/t/default/evidence");
  const there = await steps();
  await page.getByLabel("Scope").focus();
  await page.keyboard.press("Tab");
  await page.getByLabel("Scope").focus();
  await page.keyboard.press("Enter");
  await page.getByLabel("Kind").selectOption("assessment");
  await expect(page).toHaveURL(/kind=assessment$/);
  expect(await steps()).toBe(there + 1);
});

test("a statement is opened from the library, with its bytes' digests, its bundle and its record @both", async ({ page, refusals }) => {
  refusals.expect(404, 429);
  await signIn(page);
  await page.goto("/t/default/evidence");
  const table = page.getByRole("table", { name: "Evidence" });
  await page.getByLabel("Kind").selectOption("config");
  await expect(page).toHaveURL(/kind=config$/);
  await expect(table.getByRole("row").nth(1)).toContainText("config");
  await table.locator("td.main a").first().click();
  await expect(page.getByRole("heading", { name: "Collected bytes" })).toBeVisible();
  await expect(page.getByLabel("Digests")).toHaveText(/^[0-9a-f]{64}/);
  await expect(page.getByText("signs today")).toBeVisible();
  await look(page, "statement");
  // Whether the key still signs is not asked for ever: what went wrong is said.
  const problem = { request_id: "req_of_the_key", code: "limit", message: "too much was asked: wait a moment" };
  await page.route("**/api/v1/evidence-key", (route) => route.fulfill({ status: 429, json: problem }));
  await page.reload();
  const alert = page.getByRole("alert");
  await expect(alert).toContainText("Request req_of_the_key");
  await page.unroute("**/api/v1/evidence-key");
  await alert.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByText("signs today")).toBeVisible();
  await page.getByRole("link", { name: "Its record in the log" }).click();
  await page.getByRole("button", { name: /^Details of record/ }).first().click();
  await page.getByRole("button", { name: "Verify that it is in the log" }).click();
  await expect(page.getByText("The record is in the log.", { exact: true })).toBeVisible();

  await page.goto("/t/default/evidence?kind=assessment");
  await table.locator("td.main a").first().click();
  await expect(page.getByRole("heading", { name: "None of its own" })).toBeVisible();
  await expect(page.getByRole("heading", { name: "Bundle of the control as it stands now" })).toBeVisible();
  const own = page.getByRole("region", { name: "Bundle", exact: true });
  await own.getByRole("button", { name: "Get the evidence bundle" }).click();
  await own.getByRole("button", { name: /^Verify/ }).click();
  await expect(own.getByText("The bundle is genuine")).toBeVisible();
  await expect(own.getByText("is in it", { exact: true })).toBeVisible();
  await page.reload();
  const prove = async () => {
    const control = page.getByRole("region", { name: "Bundle of the control as it stands now" });
    await control.getByRole("button", { name: "Get the evidence bundle" }).click();
    await control.getByRole("button", { name: /^Verify/ }).click();
    await expect(page.getByText("The bundle is genuine")).toBeVisible();
  };
  const missing = page.getByText("This statement is not in the bundle");
  await prove();
  // The newest judgement holds.
  await expect(page.getByText("is in it", { exact: true })).toBeVisible();
  await expect(missing).toHaveCount(0);
  // One that holds no more is of the same control, and its bundle does not have it.
  await page.route(/\/api\/v1\/tenants\/default\/evidence\/evd_\w+$/, async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ response: answer, json: { ...((await answer.json()) as object), id: "evd_00000000000000000000000000" } });
  });
  await page.reload();
  await prove();
  await expect(missing).toBeVisible();
  await expect(page.getByText("is in it", { exact: true })).toHaveCount(0);
  await page.unrouteAll();
  await page.goto("/t/default/evidence/evd_00000000000000000000000000");
  await expect(alert).toContainText("Request req_");
});

test("everything is judged again when somebody asks for it, and an auditor is told why they may not @both", async ({ page, browser, watched }) => {
  await signIn(page);
  await page.goto("/t/default/controls");
  await page.getByRole("button", { name: "Judge now" }).click();
  await expect(page.getByText(/nodes were judged by \d+ rules/)).toBeVisible();
  await look(page, "judged");
  await page.goto("/t/default/audit?text=evaluation_run");
  await expect(page.getByRole("table", { name: "Audit log" })).toContainText("evaluation_run");

  const theirs = watched(await (await browser.newContext()).newPage());
  await joins(page, theirs, { email: "desk@example.org", name: "Desk", role: "auditor" });
  const asked: string[] = [];
  theirs.on("request", (request) => {
    if (request.method() === "POST" && request.url().endsWith("/evaluations")) asked.push(request.url());
  });
  for (const place of ["findings", "controls"]) {
    await theirs.goto(`/t/default/${place}`);
    const judge = theirs.getByRole("button", { name: "Judge now" });
    await expect(judge).toHaveAttribute("aria-disabled", "true");
    await expect(judge).toHaveAccessibleDescription("Your role auditor lacks the permission audit:run.");
    await judge.click({ force: true });
  }
  await theirs.goto("/t/default/destinations/anything");
  expect(asked).toEqual([]);
  await expect(theirs.getByText("Your role auditor lacks the permission access:manage.")).toBeVisible();
  await theirs.goto("/platform/providers");
  await expect(theirs.getByRole("heading", { name: "Not for you" })).toBeVisible();
  await theirs.context().close();
});

test("each credential says how it went when it was last tried, and one that was not, that it was not", async ({ page }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const make = (name: string) =>
    call(page, "POST", "/api/v1/tenants/default/credentials", {
      plugin: "snmp",
      name,
      type: "snmp-community",
      secret: { community: "planted-community-of-the-settings-walk" },
    });
  const [tried, other] = [await make("tried"), await make("untried")];
  // The server's own machine is no target: it ends without a question to anybody.
  const body = { plugin: "snmp", credential: tried["id"], config: { targets: "127.0.0.1" } };
  await call(page, "POST", "/api/v1/tenants/default/validations", body);
  await page.goto("/t/default/credentials");
  const table = page.getByRole("table", { name: "Credentials" });
  const row = (name: string) => table.getByRole("row").filter({ has: page.getByRole("cell", { name, exact: true }) });
  // Without a reload: the list goes on asking while one is tried.
  await expect(row("tried")).toContainText("failed");
  await expect(row("untried")).toContainText("never");
  await look(page, "credentials-validated");
  for (const it of [tried, other]) await call(page, "DELETE", `/api/v1/tenants/default/credentials/${it["id"]}`);
});

test("frameworks and packs are shown with their versions, and lead to their controls and rules @both", async ({ page, refusals }) => {
  refusals.expect(429);
  await signIn(page);
  await page.getByRole("link", { name: "Frameworks", exact: true }).click();
  const frameworks = page.getByRole("table", { name: "Frameworks" });
  await expect(frameworks).toContainText("nist-800-53-r5");
  await expect(frameworks.getByRole("row").filter({ hasText: "nist-800-53-r5" })).toContainText(/\d+ of \d+/);
  const packs = page.getByRole("table", { name: "Packs" });
  await expect(packs.getByRole("row").filter({ hasText: "Linux host" })).toContainText(/\d+\.\d+\.\d+/);
  await look(page, "frameworks");
  // How they stand comes beside the list: until it is there, and where it does not come, none is called not judged.
  let release = () => {};
  const gate = new Promise<void>((open) => (release = open));
  await page.route(/\/api\/v1\/tenants\/default\/posture\?/, async (route) => {
    await gate;
    await route.fulfill({ status: 429, json: { request_id: "req_of_the_posture", code: "limit", message: "too much was asked: wait a moment" } });
  });
  await page.reload();
  const nist = frameworks.getByRole("row").filter({ hasText: "nist-800-53-r5" });
  await expect(nist.getByRole("cell", { name: "…", exact: true })).toHaveCount(2);
  release();
  await expect(page.getByRole("alert")).toContainText("Request req_of_the_posture");
  await expect(page.getByRole("alert")).toHaveCount(1);
  await expect(nist.getByRole("cell", { name: "unknown", exact: true })).toHaveCount(2);
  await page.unrouteAll();
  await page.getByRole("alert").getByRole("button", { name: "Try again" }).click();
  await expect(nist).toContainText(/\d %/);
  await expect(page.getByRole("alert")).toHaveCount(0);
  await packs.getByRole("link", { name: "Linux host" }).click();
  await expect(page).toHaveURL(/rules\?pack=linux-host$/);
  await expect(page.getByRole("table", { name: "Rules" })).toContainText("linux-ssh-root-login");
});

test("where audit records are sent is shown, with what waits and why", async ({ page }) => {
  await signIn(page);
  await page.goto("/platform/integrations");
  const table = page.getByRole("table", { name: "Integrations" });
  await expect(table).toContainText("tls://127.0.0.1:");
  await expect(table).toContainText("failing");
  await expect(table).toContainText("never");
  await page.getByRole("button", { name: "Logs that go to siem" }).click();
  const logs = page.getByRole("dialog").getByRole("table", { name: "Logs" });
  await expect(logs.getByRole("row")).toHaveCount(3);
  await expect(logs).toContainText("the installation’s own");
  await expect(logs).toContainText("default");
  await look(page, "integrations");
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toHaveCount(0);
});

test("an agent that enrolled has its page, and is let in no more once it is revoked there", async ({ page }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const folder = mkdtempSync(join(tmpdir(), "cairn-agent-"));
  // As the package leaves it.
  const settings = readFileSync(resolve("../crates/agent/package/agent.toml"), "utf8").replaceAll("/etc/cairn-agent", folder);
  writeFileSync(join(folder, "agent.toml"), settings);
  await page.getByRole("link", { name: "Agents", exact: true }).click();
  await page.getByRole("button", { name: "Enroll an agent" }).first().click();
  await page.getByLabel("Labels", { exact: true }).fill("site=berlin");
  await page.getByRole("button", { name: "Make a token" }).click();
  const commands = (await page.getByLabel("Commands").textContent()) ?? "";
  await page.getByRole("button", { name: "Done" }).click();
  const where = `--config ${join(folder, "agent.toml")} --name desk-7`;
  const agent = `env CAIRN_AGENT_STATE_DIR=${join(folder, "state")} ${process.env["CAIRN_TEST_AGENT"] ?? ""} "$@" ${where}`;
  const ended = new Promise((done) => pasted(folder, commands, { "cairn-agent": agent }).on("close", done));
  expect(await ended).toBe(0);
  // It is used up, and the last thing that enrolling does is to take its file away.
  expect(existsSync(join(folder, "token"))).toBe(false);
  await page.reload();
  await page.getByRole("link", { name: "desk-7", exact: true }).click();
  await expect(page.getByRole("heading", { level: 1, name: "desk-7" })).toBeVisible();
  await expect(page.getByText("site=berlin")).toBeVisible();
  await page.getByRole("button", { name: "Labels", exact: true }).click();
  await page.getByRole("dialog").getByLabel("Labels").fill("site=paris");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await expect(page.getByText("site=paris")).toBeVisible();
  await look(page, "agent");
  await page.getByRole("button", { name: "Revoke…" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await expect(page.locator(".head .badge")).toHaveText("revoked");
  await expect(page.getByRole("button", { name: "Revoke…" })).toHaveAttribute("aria-disabled", "true");
});

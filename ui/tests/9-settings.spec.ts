// Destinations and their hosts, credentials and what they were tried with, and filters that go back step by step.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { call, expect, look, settled, signIn, test } from "./world";

test.describe.configure({ mode: "serial" });

/** A public key that `ssh-keygen` made, and the file that it is in. */
function hostKey(): { file: string; line: string } {
  const file = join(mkdtempSync(join(tmpdir(), "cairn-host-")), "key");
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file]);
  return { file, line: readFileSync(`${file}.pub`, "utf8").trim() };
}

test("a host becomes a destination, is told what it needs, has its key signed and is changed @both", async ({ page, refusals }) => {
  refusals.expect(400, 404);
  const { line } = hostKey();
  await signIn(page);
  await page.getByRole("link", { name: "Destinations", exact: true }).click();
  await settled(page);
  await page.getByRole("button", { name: "Add an SSH host" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name", { exact: true }).fill("web9");
  await dialog.getByLabel("Address").fill("web9.example:2222");
  await dialog.getByLabel("Accounts").fill("deploy, root");
  await dialog.getByLabel("Labels").fill("env=prod");
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
  await look(page, "host");

  // Its certificate is of its own key, by the authority that is shown.
  await page.getByRole("button", { name: "Sign its key for 90 days" }).click();
  const certificate = (await page.getByLabel("Certificate", { exact: true }).textContent()) ?? "";
  const principal = /^@cert-authority (\S+) /.exec((await page.getByLabel("Line for known_hosts").textContent()) ?? "")?.[1] ?? "";
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
  // Labels stay where nothing is said of them, and are changed by themselves.
  await expect(main.getByText("env=prod")).toBeVisible();
  await page.getByRole("button", { name: "Change…", exact: true }).click();
  await expect(dialog.getByRole("button", { name: "Save" })).toHaveAttribute("aria-disabled", "true");
  await expect(dialog.getByLabel("Relay")).toHaveCount(0);
  await dialog.getByLabel("Labels").fill("env=prod, team=web");
  await look(page, "change-a-destination");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(main.getByText("env=prod, team=web")).toBeVisible();

  // Somebody reaches it: the page says who, and its grants are one step away.
  const grant = await call(page, "POST", "/api/v1/tenants/default/grants", { user: "admin@localhost", labels: { team: "web" }, role: "deploy" });
  await page.reload();
  await expect(page.getByRole("table", { name: "Who reaches it" })).toContainText("admin@localhost");
  await page.goto("/t/default/destinations");
  await expect(page.getByLabel("Command for web9")).toHaveText("cairn ssh deploy@web9");
  await call(page, "DELETE", `/api/v1/tenants/default/grants/${grant["id"]}`);

  // A second one of the name would be the first one changed: it is refused.
  await page.getByRole("button", { name: "Add an SSH host" }).click();
  await dialog.getByLabel("Name", { exact: true }).fill("web9");
  await dialog.getByLabel("Address").fill("evil.example");
  await dialog.getByLabel("Its public key").fill(hostKey().line);
  await dialog.getByLabel("Accounts").fill("root");
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
  await page.getByLabel("Kind").selectOption("collection");
  await expect(page).toHaveURL(/kind=collection$/);
  expect(await steps()).toBe(there + 1);
});

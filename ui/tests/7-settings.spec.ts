// Access and settings: host keys, access as code, breaking glass, the log's proofs and files, keys of the installation.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { ADMIN, call, expect, look, publicKey, signIn, test } from "./world";

test.describe.configure({ mode: "serial" });

/** As `ssh-keygen -l` shows it. */
function fingerprint(key: string): string {
  return execFileSync("ssh-keygen", ["-l", "-f", "-"], { input: key }).toString().split(" ")[1] ?? "";
}

test("a host key is trusted, replaced and forgotten, and a wrong one leaves what is there", async ({ page, refusals }) => {
  refusals.expect(400, 409);
  const [first, second] = [publicKey(), publicKey()];
  await signIn(page);
  await page.getByRole("link", { name: "SSH host keys", exact: true }).click();
  await expect(page.getByLabel("Keys of the authority")).toContainText("ssh-ed25519 ");
  await page.getByRole("button", { name: "Trust a key" }).click();
  await page.getByLabel("Host", { exact: true }).fill("web9.example");
  await page.getByLabel("Public key").fill(first);
  await look(page, "trust-a-host-key");
  await page.getByRole("button", { name: "Trust", exact: true }).click();
  const table = page.getByRole("table", { name: "SSH host keys" });
  await expect(table).toContainText(fingerprint(first));
  await expect(table).toContainText("web9.example:22");
  await look(page, "ssh-host-keys");
  await page.getByRole("button", { name: "Replace the key of web9.example:22" }).click();
  await page.getByLabel("Public key").fill("no key");
  await page.getByRole("button", { name: "Replace", exact: true }).click();
  await expect(page.getByRole("dialog").getByRole("alert")).toBeVisible();
  await expect(table).toContainText(fingerprint(first));
  await page.getByLabel("Public key").fill(second);
  await page.getByRole("button", { name: "Replace", exact: true }).click();
  await expect(page.getByRole("dialog")).toHaveCount(0);
  await expect(table).toContainText(fingerprint(second));
  await expect(table).not.toContainText(fingerprint(first));
  await page.getByRole("button", { name: "Forget the key of web9.example:22" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Forget" }).click();
  await expect(page.getByRole("heading", { name: "No host keys" })).toBeVisible();
});

test("a file's difference is shown, and exactly that is made @both", async ({ page, refusals }) => {
  refusals.expect(400, 409);
  await signIn(page);
  await page.getByRole("link", { name: "Access as code", exact: true }).click();
  const file = page.getByLabel("File (JSON)");
  await file.fill("groups:");
  await page.getByRole("button", { name: "Show what would change" }).click();
  await expect(page.getByText("This is no JSON")).toBeVisible();
  await file.fill(JSON.stringify({ version: 1, name: "browser", groups: [{ name: "by-file", members: [ADMIN] }] }));
  await page.getByRole("button", { name: "Show what would change" }).click();
  const changes = page.getByRole("table", { name: "Changes" });
  await expect(changes).toContainText("by-file");
  await look(page, "access-as-code-difference");
  // Somebody else is faster: what was shown is not what would be made now, and nothing is.
  const made = await call(page, "POST", "/api/v1/tenants/default/groups", { name: "by-file" });
  await page.getByRole("button", { name: "Apply exactly this" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Apply" }).click();
  await expect(page.getByRole("alert")).toBeVisible();
  await call(page, "DELETE", `/api/v1/tenants/default/groups/${made["id"]}`);
  await page.getByRole("button", { name: "Show what would change" }).click();
  await page.getByRole("button", { name: "Apply exactly this" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Apply" }).click();
  await expect(page.getByText(/^Applied:/)).toBeVisible();
  await page.getByRole("button", { name: "Show what would change" }).click();
  await expect(page.getByRole("heading", { name: "Nothing", exact: true })).toBeVisible();
  await expect(page.getByRole("button", { name: "Apply exactly this" })).toHaveAttribute("aria-disabled", "true");
  // Saying that it goes shows that, before it does.
  await file.fill(JSON.stringify({ version: 1, name: "browser" }));
  await page.getByLabel("Take away what this file made").check();
  await page.getByRole("button", { name: "Show what would change" }).click();
  await expect(changes).toContainText("delete");
  await page.getByRole("button", { name: "Apply exactly this" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Apply" }).click();
  await expect(page.getByText(/^Applied:/)).toBeVisible();
  await page.getByRole("link", { name: "Groups", exact: true }).click();
  await expect(page.getByText("by-file")).toHaveCount(0);
});

test("glass is broken by whom the policy lets, and the log raises an alarm @both", async ({ page, refusals }) => {
  refusals.expect(403, 404);
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const host = { address: "192.0.2.9", host_key: publicKey(), roles: ["deploy"] };
  await call(page, "PUT", "/api/v1/tenants/default/destinations/glass1/ssh-host", host);
  await page.getByRole("link", { name: "Destinations", exact: true }).click();
  const breaks = page.getByRole("button", { name: "Break glass…" });
  // The tenant lets nobody, until its policy does.
  await expect(breaks).toHaveAttribute("aria-disabled", "true");
  await expect(breaks).toHaveAccessibleDescription("This tenant does not let you break glass: ask for access instead.");
  const group = await call(page, "POST", "/api/v1/tenants/default/groups", { name: "on-call" });
  const me = (await (await page.request.get("/api/v1/me")).json()) as { id: string };
  await call(page, "PUT", `/api/v1/tenants/default/groups/${group["id"]}/members/${me.id}`);
  await call(page, "PUT", "/api/v1/tenants/default/access-policy", { request_s_max: 86_400, break_glass: { group: "on-call", s_max: 1_800 } });
  await page.reload();
  await expect(breaks).toHaveAttribute("aria-disabled", "false");
  await breaks.click();
  // No longer than the policy says.
  await expect(page.getByLabel("For", { exact: true }).getByRole("option")).toHaveText(["15 minutes"]);
  await page.getByLabel("Destination", { exact: true }).fill("glass1");
  await page.getByLabel("Role there").fill("deploy");
  await page.getByLabel("Reason").fill("the site is down");
  await look(page, "break-glass");
  // Taken away meanwhile, the API refuses it all the same.
  await call(page, "DELETE", `/api/v1/tenants/default/groups/${group["id"]}/members/${me.id}`);
  await page.getByRole("dialog").getByRole("button", { name: "Break glass", exact: true }).click();
  await expect(page.getByRole("dialog").getByRole("alert")).toBeVisible();
  await call(page, "PUT", `/api/v1/tenants/default/groups/${group["id"]}/members/${me.id}`);
  await page.getByRole("dialog").getByRole("button", { name: "Break glass", exact: true }).click();
  await expect(page.getByRole("dialog")).toHaveCount(0);
  await expect(page.getByRole("table", { name: "What you reach" })).toContainText("glass1");
  await page.goto("/t/default/destinations/glass1");
  await expect(page.getByText("Besides, members of the group on-call may break glass there")).toBeVisible();
  await page.getByRole("link", { name: "Grants", exact: true }).click();
  await page.getByLabel("Destination", { exact: true }).fill("glass1");
  await page.getByLabel("Destination", { exact: true }).press("Enter");
  await expect(page).toHaveURL(/destination=glass1/);
  await expect(page.getByRole("table", { name: "Grants" })).toContainText("break-glass");
  // It is new: nobody can say yet that it is not used.
  await page.getByLabel("Not used for").selectOption("90");
  await expect(page.getByRole("heading", { name: "No grants like that" })).toBeVisible();
  await page.goto("/t/default/audit?text=glass_break");
  await expect(page.getByRole("table", { name: "Audit log" })).toContainText("glass_break");
  await call(page, "PUT", "/api/v1/tenants/default/access-policy", { request_s_max: 86_400, break_glass: null });
  await call(page, "DELETE", "/api/v1/tenants/default/destinations/glass1");
  await call(page, "DELETE", `/api/v1/tenants/default/groups/${group["id"]}`);
});

test("an eligible grant is given, asked under, and gives nothing before somebody else approves @both", async ({ page, refusals }) => {
  refusals.expect(403);
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const host = { address: "192.0.2.8", host_key: publicKey(), roles: ["deploy"], labels: { team: "eligible" } };
  await call(page, "PUT", "/api/v1/tenants/default/destinations/eligible1/ssh-host", host);
  const dialog = page.getByRole("dialog");
  await page.getByRole("link", { name: "Grants", exact: true }).click();
  await page.getByRole("button", { name: "Give a grant" }).first().click();
  await dialog.getByLabel("It gives").selectOption("asking");
  await dialog.getByLabel("Login name").fill("admin@localhost");
  await dialog.getByLabel("Destination", { exact: true }).fill("eligible1");
  await dialog.getByLabel("Role there").fill("deploy");
  await dialog.getByLabel("Host: lends (optional)").fill("permit-pty");
  await dialog.getByLabel("Reason").fill("on call");
  await look(page, "give-an-eligible-grant");
  await dialog.getByRole("button", { name: "Give" }).click();
  await expect(dialog).toHaveCount(0);
  await expect(page.getByRole("table", { name: "Grants" })).toContainText("may only ask: each time somebody approves it");
  // It gives nothing, and the destination says who may ask.
  await page.goto("/t/default/destinations/eligible1");
  await expect(page.getByRole("table", { name: "Who may ask for it" })).toContainText("lends pty");
  await expect(page.getByRole("heading", { name: "Nobody", exact: true })).toBeVisible();
  // Nothing else may be asked for, which the form says.
  await page.goto("/t/default/security");
  const access = page.getByRole("region", { name: "Access", exact: true });
  await access.getByLabel("What may be asked for").selectOption("eligible");
  await access.getByRole("button", { name: "Save: Access" }).click();
  await expect(access).toContainText("only what an eligible grant covers");
  await page.goto("/t/default/requests");
  await page.getByRole("button", { name: "Ask for eligible1 as deploy" }).click();
  await expect(dialog.getByLabel("Destination", { exact: true })).toHaveValue("eligible1");
  await dialog.getByLabel("Role there").fill("root");
  await dialog.getByLabel("Reason").fill("a disk is full");
  await dialog.getByRole("button", { name: "Ask", exact: true }).click();
  await expect(dialog.getByRole("alert")).toContainText("only for what an eligible grant of yours covers");
  await dialog.getByLabel("Role there").fill("deploy");
  await look(page, "ask-under-an-eligible-grant");
  await dialog.getByRole("button", { name: "Ask", exact: true }).click();
  await expect(dialog).toHaveCount(0);
  await expect(page.getByRole("table", { name: "Your requests" })).toContainText("under an eligible grant, with its limits");
  await call(page, "PUT", "/api/v1/tenants/default/access-policy", { request_s_max: 86_400 });
  await call(page, "DELETE", "/api/v1/tenants/default/destinations/eligible1");
});

test("a record's proof is verified in the browser, and one that was changed is refused @both", async ({ page }) => {
  await signIn(page);
  const good = page.getByText("The record is in the log.", { exact: true });
  for (const [action, says] of [["evidence_sign", "It is of evidence that was signed"], ["tenant_create", "are as shown"]]) {
    await page.goto(`/t/default/audit?text=${action}`);
    await page.getByRole("button", { name: /^Details of record/ }).last().click();
    await page.getByRole("button", { name: "Verify that it is in the log" }).click();
    await expect(good).toBeVisible();
    await expect(page.getByText(says ?? "")).toBeVisible();
  }
  await look(page, "audit-proof");
  // Whatever is changed on the way to the browser is noticed: each line of the proof, and the record itself.
  let change = (text: string) => text;
  await page.route("**/log/proof?*", async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ response: answer, body: change(await answer.text()) });
  });
  const flip = (line: string) => (line.startsWith("A") ? `B${line.slice(1)}` : `A${line.slice(1)}`);
  const at = (place: (lines: string[]) => number) => (text: string) => {
    const lines = text.split("\n");
    return lines.map((line, number) => (number === place(lines) ? flip(line) : line)).join("\n");
  };
  const gap = (lines: string[]) => lines.indexOf("");
  const wrong: ((text: string) => string)[] = [
    (text) => text.replace("@v1", "@v2"),
    (text) => text.replace(/^index \d+/m, "index 999999"),
    at(() => 2),
    at((lines) => gap(lines) - 1),
    at((lines) => gap(lines) + 1),
    at((lines) => gap(lines) + 3),
    (text) => text.replace(/^\u2014 .*\n/m, ""),
    () => "",
  ];
  for (const one of wrong) {
    change = one;
    await page.getByRole("button", { name: "Verify that it is in the log" }).click();
    await expect(page.getByRole("alert")).toContainText("Do not rely on this record.");
    await expect(good).toHaveCount(0);
  }
  // A name that stands beside the log's own signature was not checked, and is not told as if it was.
  change = (text) => `${text.trimEnd()}\n\u2014 witness.example AAAAAAAA\n`;
  await page.getByRole("button", { name: "Verify that it is in the log" }).click();
  await expect(good).toBeVisible();
  await expect(page.getByText("not checked here: witness.example")).toBeVisible();
  change = (text) => text;
  // What is shown beside the record's own bytes, and a fingerprint that is not the key's.
  const key = (await (await page.request.get("/api/v1/tenants/default/log")).json()) as { fingerprint: string };
  await page.route(/\/tenants\/default\/log$/, async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ response: answer, json: { ...((await answer.json()) as object), fingerprint: "0".repeat(64) } });
  });
  await page.getByRole("button", { name: "Verify that it is in the log" }).click();
  await expect(page.getByText(key.fingerprint)).toBeVisible();
  for (const other of [{ action: "user_create" }, { outcome: "deny" }, { object_id: "usr_0" }, { at: "2020-01-01T00:00:00.000Z" }]) {
    await page.route(/\/tenants\/default\/audit\?/, async (route) => {
      const answer = await route.fetch();
      const list = (await answer.json()) as { items: object[] };
      await route.fulfill({ response: answer, json: { ...list, items: list.items.map((item) => ({ ...item, ...other })) } });
    });
    await page.reload();
    await page.getByRole("button", { name: /^Details of record/ }).last().click();
    await page.getByRole("button", { name: "Verify that it is in the log" }).click();
    await expect(page.getByRole("alert")).toContainText("shown otherwise than its own bytes say");
    await expect(good).toHaveCount(0);
    await page.unroute(/\/tenants\/default\/audit\?/);
  }
});

test("the log is saved in each form, and search goes by who and when", async ({ page }, info) => {
  await signIn(page);
  await page.goto("/t/default/audit");
  await page.getByLabel("Who").fill(ADMIN);
  await page.getByRole("button", { name: "Search" }).click();
  await expect(page).toHaveURL(/actor=admin/);
  for (const [format, begins] of [
    ["jsonl", /^\{"/],
    ["cef", /^CEF:/],
    ["ocsf", /^\{"/],
  ] as const) {
    await page.getByLabel("Format").selectOption(format);
    const saving = page.waitForEvent("download");
    await page.getByRole("button", { name: "Export what matches" }).click();
    const file = info.outputPath(`audit.${format}`);
    await (await saving).saveAs(file);
    expect(readFileSync(file, "utf8")).toMatch(begins);
  }
  await page.getByLabel("Before").fill("2001-01-01");
  await expect(page.getByRole("heading", { name: "Nothing matches" })).toBeVisible();
  await page.getByRole("button", { name: "Earlier ones" }).click();
  await expect(page.getByRole("table", { name: "Checkpoints" })).toBeVisible();
});

test("the installation's own log, keys, witnesses and tenants are managed", async ({ page, refusals }) => {
  refusals.expect(400, 404);
  await signIn(page);
  await page.goto("/platform/audit");
  await page.getByRole("button", { name: /^Details of record/ }).first().click();
  await page.getByRole("button", { name: "Verify that it is in the log" }).click();
  await expect(page.getByText("The record is in the log.", { exact: true })).toBeVisible();
  await page.goto("/platform/data-keys");
  const keys = page.getByRole("table", { name: "Data keys" });
  const versions = () => keys.getByRole("cell").filter({ hasText: /^\d+$/ }).allTextContents();
  await expect(keys).toBeVisible();
  const before = (await versions()).map(Number);
  await page.getByRole("button", { name: "Rotate all" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Rotate", exact: true }).click();
  await expect.poll(async () => (await versions()).map(Number)).toEqual(before.map((version) => version + 1));
  await page.goto("/platform/witnesses");
  await page.getByRole("button", { name: "Add a witness" }).first().click();
  await page.getByLabel("Its key").fill("not a key");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.getByRole("dialog").getByRole("alert")).toBeVisible();
  await page.getByRole("button", { name: "Cancel" }).click();
  await call(page, "POST", "/api/v1/tenants", { slug: "soon-closed", name: "Soon closed", admin: null });
  await page.goto("/platform/tenants");
  await page.getByRole("button", { name: "Close soon-closed" }).click();
  await expect(page.getByRole("button", { name: "Close the tenant" })).toHaveAttribute("aria-disabled", "true");
  await page.getByLabel("Its short name, to be sure").fill("soon-closed");
  await look(page, "close-a-tenant");
  await page.getByRole("button", { name: "Close the tenant" }).click();
  await expect(page.getByRole("dialog")).toHaveCount(0);
  await expect(page.getByRole("table", { name: "Tenants" })).not.toContainText("soon-closed");
});

test("a key that is rotated has two good secrets or one, as was chosen", async ({ page, playwright, baseURL }) => {
  const good = async (secret: string) => {
    const headers = { authorization: `Bearer ${secret}` };
    const machine = await playwright.request.newContext({ ...(baseURL ? { baseURL } : {}), extraHTTPHeaders: headers });
    const status = (await machine.get("/api/v1/tenants/default/nodes?limit=1")).status();
    await machine.dispose();
    return status === 200;
  };
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const made = await call(page, "POST", "/api/v1/tenants/default/api-keys", { name: "turning", role: "read-only", networks: [] });
  await page.goto("/t/default/keys");
  const rotate = async (overlap: string) => {
    await page.getByRole("button", { name: "Rotate turning" }).click();
    await page.getByLabel("The secret so far is good for").selectOption(overlap);
    await page.getByRole("button", { name: "Rotate", exact: true }).click();
    const secret = (await page.getByLabel("The key", { exact: true }).textContent()) ?? "";
    await page.getByRole("button", { name: "I have kept it" }).click();
    return secret;
  };
  const second = await rotate("3600");
  expect([await good(made["secret"] ?? ""), await good(second)]).toEqual([true, true]);
  const third = await rotate("0");
  expect([await good(made["secret"] ?? ""), await good(second), await good(third)]).toEqual([false, false, true]);
});

test("two lists on one page turn their pages apart", async ({ page }) => {
  await signIn(page);
  await page.goto("/t/default/members");
  await expect(page.getByRole("table", { name: "Members" })).toBeVisible();
  // One more than a page holds.
  for (let at = 0; at < 101; at += 1) {
    await call(page, "PUT", "/api/v1/tenants/default/members", { email: `guest-${at}@example.org`, role: "read-only" });
  }
  await page.reload();
  await page.getByRole("navigation", { name: "Pages of Invitations" }).getByRole("link", { name: "Next page" }).click();
  await expect(page).toHaveURL(/\?invitations=[^&]+$/);
  await expect(page.getByRole("table", { name: "Members" })).toContainText(ADMIN);
  await expect(page.getByRole("navigation", { name: "Pages of Members" }).getByRole("link", { name: "First page" })).toHaveCount(0);
  await expect(page.getByRole("table", { name: "Invitations" }).getByRole("row")).toHaveCount(2);
});

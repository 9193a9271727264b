// Two people at once: nobody saves over what they did not see, and who is first is told as well as who is not.
import { type Browser, type Page } from "@playwright/test";
import { enrolled } from "./fleet";
import { call, expect, look, publicKey, settled, signIn, test } from "./world";

test.describe.configure({ mode: "serial" });

/** The same person in another browser. */
async function another(browser: Browser, watched: (page: Page) => Page) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 860 } });
  const page = watched(await context.newPage());
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  return page;
}

const MEANWHILE = "Somebody else changed this since you opened it";

test("of two who add a host of one name at the same time one is told, and what the other added stays @both", async ({ page, browser, watched, refusals }) => {
  refusals.expect(412);
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const other = await another(browser, watched);
  const pages = [page, other];
  for (const [at, it] of pages.entries()) {
    await it.goto("/t/default/destinations");
    await it.getByRole("button", { name: "Add an SSH host" }).first().click();
    const dialog = it.getByRole("dialog");
    await dialog.getByLabel("Name", { exact: true }).fill("together");
    await dialog.getByLabel("Address").fill(`10.0.0.${at + 1}`);
    await dialog.getByLabel("Its public key").fill(publicKey());
    await dialog.getByLabel("Accounts").fill("deploy");
    await dialog.getByLabel("How users reach it").selectOption("direct");
  }
  // Both press at once: each is answered, and one of them with the host that is there.
  await Promise.all(pages.map((it) => it.getByRole("dialog").getByRole("button", { name: "Add", exact: true }).click()));
  const told = (it: Page) => it.getByRole("alert").filter({ hasText: "There is a destination `together` already" });
  const made = (it: Page) => it.getByRole("heading", { level: 1, name: "together" });
  for (const it of pages) await expect(told(it).or(made(it))).toBeVisible();
  const first = (await made(page).isVisible()) ? 0 : 1;
  const [winner, loser] = first === 0 ? [page, other] : [other, page];
  await expect(told(loser)).toBeVisible();
  await expect(winner.getByRole("main").getByText(`10.0.0.${first + 1}:22`)).toBeVisible();
  // What was typed is still there, to be added under another name.
  await expect(loser.getByRole("dialog").getByLabel("Address")).toHaveValue(`10.0.0.${2 - first}`);
  await look(loser, "a-host-of-that-name");
  await loser.getByRole("dialog").getByLabel("Name", { exact: true }).fill("together-2");
  await loser.getByRole("dialog").getByRole("button", { name: "Add", exact: true }).click();
  await expect(loser.getByRole("heading", { level: 1, name: "together-2" })).toBeVisible();
  // No page of what is deleted is open, which would ask for it once more.
  await other.context().close();
  await page.goto("/t/default");
  await settled(page);
  await call(page, "DELETE", "/api/v1/tenants/default/destinations/together-2");
});

test("who saves a host that somebody changed meanwhile sees that first, and keeps both changes @both", async ({ page, browser, watched }) => {
  await signIn(page);
  await page.goto("/t/default/destinations/together");
  const other = await another(browser, watched);
  await other.goto("/t/default/destinations/together");
  for (const it of [page, other]) await it.getByRole("button", { name: "Change the host…" }).click();
  const [mine, theirs] = [page.getByRole("dialog"), other.getByRole("dialog")];
  await theirs.getByLabel("Accounts").fill("deploy, backup");
  await theirs.getByRole("button", { name: "Save" }).click();
  await expect(other.getByText("backup, deploy").first()).toBeVisible();

  await mine.getByLabel("Address").fill("10.0.0.9:2222");
  await mine.getByRole("button", { name: "Save" }).click();
  await expect(mine.getByRole("alert")).toContainText(MEANWHILE);
  await expect(mine.getByRole("alert")).toContainText("Accounts: deploy → backup, deploy");
  // The form is longer than the window, and its button at its end.
  await expect(mine.getByRole("alert")).toBeInViewport({ ratio: 1 });
  // What they changed is in the form, with what was typed here.
  await expect(mine.getByLabel("Accounts")).toHaveValue("backup, deploy");
  await expect(mine.getByLabel("Address")).toHaveValue("10.0.0.9:2222");
  await look(page, "changed-meanwhile");
  await mine.getByRole("button", { name: "Save" }).click();
  await expect(mine).toHaveCount(0);
  await expect(page.getByRole("main").getByText("10.0.0.9:2222")).toBeVisible();
  await expect(page.getByText("backup, deploy").first()).toBeVisible();

  // Labels of the same destination, from two dialogs.
  for (const it of [page, other]) {
    await it.reload();
    await it.getByRole("button", { name: "Change…", exact: true }).click();
  }
  await theirs.getByLabel("Labels").fill("env=prod");
  await theirs.getByRole("button", { name: "Save" }).click();
  await expect(theirs).toHaveCount(0);
  await mine.getByLabel("Labels").fill("team=web");
  await mine.getByRole("button", { name: "Save" }).click();
  await expect(mine.getByRole("alert")).toContainText("Labels: none → env=prod");
  await expect(mine.getByLabel("Labels")).toHaveValue("team=web");
  await mine.getByLabel("Labels").fill("team=web, env=prod");
  await mine.getByRole("button", { name: "Save" }).click();
  await expect(page.getByText("env=prod, team=web")).toBeVisible();
  await other.context().close();
  await page.goto("/t/default");
  await settled(page);
  await call(page, "DELETE", "/api/v1/tenants/default/destinations/together");
});

test("a policy that two change is changed by neither without a word", async ({ page, browser, watched }) => {
  await signIn(page);
  const other = await another(browser, watched);
  for (const it of [page, other]) await it.goto("/t/default/security");
  const [mine, theirs] = [page, other].map((it) => it.getByRole("region", { name: "Targets of jobs" }));
  await expect(theirs!.getByLabel("Special networks")).toBeVisible();
  await mine!.getByLabel("Special networks").fill("127.0.0.1");
  await theirs!.getByLabel("Special networks").fill("127.0.0.2");
  await theirs!.getByRole("button", { name: "Save" }).click();
  await expect(theirs!.getByRole("status")).toContainText("none → 127.0.0.2/32");
  await mine!.getByRole("button", { name: "Save" }).click();
  await expect(mine!.getByRole("alert")).toContainText(`${MEANWHILE} (Special networks: none → 127.0.0.2/32)`);
  await expect(mine!.locator("dl")).toContainText("127.0.0.2/32");
  await expect(mine!.getByLabel("Special networks")).toHaveValue("127.0.0.1");
  await mine!.getByLabel("Special networks").fill("127.0.0.1\n127.0.0.2");
  await mine!.getByRole("button", { name: "Save" }).click();
  await expect(mine!.getByRole("status")).toContainText("127.0.0.2/32 → 127.0.0.1/32, 127.0.0.2/32");
  await call(page, "PUT", "/api/v1/tenants/default/target-policy", { special_networks: [] });
  await other.context().close();
});

test("an agent and a relay say alike why they are not let in, are labelled and revoked on their pages, and lead to what was done with them", async ({ page, browser, watched }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const other = await another(browser, watched);
  for (const kind of ["agent", "relay"] as const) {
    const unit = await enrolled(page, kind, `copied-${kind}`);
    for (const it of [page, other]) {
      await it.goto(`/t/default/${kind}s/${unit.id}`);
      await expect(it.getByRole("heading", { level: 1, name: `copied-${kind}` })).toBeVisible();
      await it.getByRole("button", { name: "Labels", exact: true }).click();
    }
    const [mine, theirs] = [page.getByRole("dialog"), other.getByRole("dialog")];
    await theirs.getByLabel("Labels").fill("env=prod");
    await theirs.getByRole("button", { name: "Save" }).click();
    await expect(theirs).toHaveCount(0);
    await mine.getByLabel("Labels").fill("site=berlin");
    await mine.getByRole("button", { name: "Save" }).click();
    await expect(mine.getByRole("alert")).toContainText(`${MEANWHILE} (Labels: none → env=prod)`);
    await mine.getByLabel("Labels").fill("env=prod, site=berlin");
    await mine.getByRole("button", { name: "Save" }).click();
    await expect(mine).toHaveCount(0);
    await expect(page.getByText("env=prod, site=berlin")).toBeVisible();

    await unit.copied();
    await page.reload();
    await expect(page.locator(".head .badge")).toHaveText("cloned");
    await expect(page.getByText(`Look at the machine, revoke this ${kind}, then enroll it anew.`)).toBeVisible();
    await expect(page.getByText("neither is let in any more")).toBeVisible();
    await look(page, `${kind}-cloned`);

    await page.getByRole("link", { name: "In the audit log" }).click();
    const records = page.getByRole("table", { name: "Audit log" });
    await expect(records).toContainText(`${kind}_clone`);
    await expect(records).toContainText(`${kind}_label`);
    await page.goBack();

    await page.getByRole("button", { name: "Revoke…" }).click();
    await expect(page.getByRole("dialog")).toContainText("its open connections end at once");
    await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
    await expect(page.locator(".head .badge")).toHaveText("revoked");
    await expect(page.getByRole("button", { name: "Revoke…" })).toHaveAttribute("aria-disabled", "true");
    await settled(page);
  }
  await other.context().close();
});

test("who invites somebody that has a role, or gives a group one that gives one, is told, and changes it in the list @both", async ({ page, browser, watched, refusals }) => {
  refusals.expect(412);
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const other = await another(browser, watched);
  const invite = async (it: Page, role: string) => {
    await it.goto("/t/default/members");
    await it.getByRole("button", { name: "Invite somebody" }).first().click();
    await it.getByRole("dialog").getByLabel("Login name").fill("twice@example.org");
    await it.getByRole("dialog").getByLabel("Role").selectOption(role);
    await it.getByRole("dialog").getByRole("button", { name: "Invite", exact: true }).click();
  };
  await invite(other, "auditor");
  await expect(other.getByRole("dialog").getByText("twice@example.org is invited")).toBeVisible();
  await invite(page, "read-only");
  await expect(page.getByRole("dialog").getByRole("alert")).toContainText("`twice@example.org` is invited already, with the role `auditor`");
  await look(page, "invited-already");
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  // Those of walks before can fill the first page.
  const invited = page.getByRole("table", { name: "Invitations" }).getByRole("row", { name: "twice@example.org" });
  const further = page.getByRole("navigation", { name: "Pages of Invitations" }).getByRole("link", { name: "Next page" });
  await expect(invited.or(further).first()).toBeVisible();
  if ((await invited.count()) === 0) await further.click();
  await expect(invited).toContainText("auditor");
  // Who administers the tenant does not take their own role away by inviting themselves.
  await page.getByRole("button", { name: "Invite somebody" }).first().click();
  const mail = await page.getByRole("table", { name: "Members" }).getByRole("row").nth(1).locator("td").first().innerText();
  await page.getByRole("dialog").getByLabel("Login name").fill(mail.split("\n")[0]!);
  await page.getByRole("dialog").getByRole("button", { name: "Invite", exact: true }).click();
  await expect(page.getByRole("dialog").getByRole("alert")).toContainText("is a member already, with the role");
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Withdraw the invitation of twice@example.org" }).click();
  await expect(page.getByRole("row", { name: "twice@example.org" })).toHaveCount(0);

  await call(page, "POST", "/api/v1/providers", {
    name: "both",
    title: "Both",
    issuer: "https://127.0.0.1:1/",
    client_id: "cairn",
    client_secret: "not a secret that opens anything",
  });
  const give = async (it: Page, role: string) => {
    await it.goto("/t/default/group-roles");
    await it.getByRole("button", { name: "Give a role" }).first().click();
    await it.getByRole("dialog").getByLabel("Identity provider").fill("both");
    await it.getByRole("dialog").getByLabel("Group there").fill("staff");
    await it.getByRole("dialog").getByLabel("Role").selectOption(role);
    await it.getByRole("dialog").getByRole("button", { name: "Give", exact: true }).click();
  };
  await give(other, "auditor");
  await expect(other.getByRole("dialog")).toHaveCount(0);
  await give(page, "read-only");
  await expect(page.getByRole("dialog").getByRole("alert")).toContainText("The group `staff` of `both` gives a role already, `auditor`");
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();

  // Two change it in the list: who is second looks first.
  for (const it of [page, other]) await it.getByRole("button", { name: "Change the role of staff of both" }).click();
  const [mine, theirs] = [page.getByRole("dialog"), other.getByRole("dialog")];
  await theirs.getByLabel("Role").selectOption("security-analyst");
  await theirs.getByRole("button", { name: "Change" }).click();
  await expect(theirs).toHaveCount(0);
  await mine.getByLabel("Role").selectOption("read-only");
  await mine.getByRole("button", { name: "Change" }).click();
  await expect(mine.getByRole("alert")).toContainText(`${MEANWHILE} (Role: auditor → security-analyst)`);
  await mine.getByRole("button", { name: "Change" }).click();
  await expect(mine).toHaveCount(0);
  await expect(page.getByRole("row", { name: "staff" })).toContainText("read-only");
  await other.context().close();
  await page.goto("/t/default");
  await settled(page);
  await call(page, "DELETE", "/api/v1/providers/both");
});

// Findings in groups, many of them changed at once, what to run against one, and the control behind it.
import { readFileSync } from "node:fs";
import { expect, look, settled, signIn, test } from "./world";

test.describe.configure({ mode: "serial" });

test("findings are grouped, the address holds it, and a group opens into its findings", async ({ page }, info) => {
  await signIn(page);
  await page.getByRole("link", { name: "Findings", exact: true }).click();
  await page.getByLabel("Status").selectOption("open");
  await page.getByLabel("Group by").selectOption("rule");
  await expect(page).toHaveURL(/status=open&group=rule/);
  const groups = page.getByRole("table", { name: "Groups of findings" });
  await expect(groups.getByRole("row").nth(1)).toBeVisible();
  await look(page, "finding-groups");
  for (const by of ["node", "framework", "control"]) {
    await page.getByLabel("Group by").selectOption(by);
    await expect(groups.getByRole("columnheader").first()).toHaveText(new RegExp(by, "i"));
    await settled(page);
    await expect(groups.getByRole("row").nth(1)).toBeVisible();
  }
  await page.goBack();
  await expect(page.getByLabel("Group by")).toHaveValue("framework");
  const saving = page.waitForEvent("download");
  await page.getByRole("button", { name: "Export CSV" }).click();
  const file = info.outputPath("groups.csv");
  await (await saving).saveAs(file);
  expect(readFileSync(file, "utf8").split("\r\n")[0]).toBe(
    "framework,label,type,risk,open,accepted,resolved,critical,high,medium,low,info",
  );
  await page.getByLabel("Group by").selectOption("rule");
  await expect(groups.getByRole("columnheader").first()).toHaveText("Rule");
  await settled(page);
  const first = groups.getByRole("row").nth(1);
  const open = Number(await first.getByRole("cell").nth(2).textContent());
  await first.getByRole("link").click();
  await expect(page.getByRole("table", { name: "Findings" }).getByRole("row")).toHaveCount(open + 1);
  await expect(page.getByRole("button", { name: /^Rule / })).toBeVisible();
});

test("findings are chosen with the keyboard, from one to another, and changed together @both", async ({ page }) => {
  await signIn(page);
  await page.goto("/t/default/findings?status=open&severity=low");
  const boxes = page.getByRole("checkbox", { name: /^Choose / });
  await expect(boxes.nth(3)).toBeVisible();
  await boxes.nth(0).focus();
  await page.keyboard.press("Space");
  await expect(boxes.nth(0)).toBeChecked();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await expect(boxes.nth(2)).toBeFocused();
  await page.keyboard.press("Shift+Space");
  await expect(boxes.nth(1)).toBeChecked();
  await expect(boxes.nth(2)).toBeChecked();
  await expect(boxes.nth(3)).not.toBeChecked();
  await boxes.nth(3).click({ modifiers: ["Shift"] });
  await expect(page.getByText("4 chosen")).toBeVisible();
  await expect(page.getByRole("button", { name: "Open again…" })).toHaveAttribute("aria-disabled", "true");
  await page.getByRole("button", { name: "Resolve…" }).click();
  const dialog = page.getByRole("dialog", { name: "Resolve: 4 findings" });
  await expect(dialog.getByRole("list", { name: "Which findings" })).toContainText("4 low open");
  await look(page, "resolve-findings");
  await page.getByRole("button", { name: "Resolve 4 findings" }).click();
  await expect(page.getByRole("dialog")).toHaveCount(0);
  // Back again, by the filter this time: all that match, on every page.
  await page.goto("/t/default/findings?status=resolved&severity=low");
  await expect(boxes.first()).toBeVisible();
  const resolved = await boxes.count();
  await page.getByLabel("All that match, on every page").check();
  await expect(boxes.first()).toBeChecked();
  await page.getByRole("button", { name: "Open again…" }).click();
  await page.getByRole("button", { name: `Open again ${resolved} findings` }).click();
  await expect(page.getByRole("heading", { name: "Nothing matches" })).toBeVisible();
});

test("what changed between looking and confirming is told, and nothing is done", async ({ page, refusals }) => {
  refusals.expect(409);
  await signIn(page);
  await page.goto("/t/default/findings?status=open&severity=low");
  await page.getByLabel("All that match, on every page").check();
  await page.getByRole("button", { name: "Resolve…" }).click();
  // It is counted first.
  await expect(page.getByRole("list", { name: "Which findings" })).toBeVisible();
  const confirm = page.getByRole("button", { name: /^Resolve \d+ findings$/ });
  await expect(confirm).toBeVisible();
  const before = Number(/\d+/.exec((await confirm.textContent()) ?? "")?.[0]);
  // Somebody else resolves one meanwhile.
  await page.evaluate(async () => {
    const headers = { "content-type": "application/json", "x-cairn-request": "1" };
    const list = await (await fetch("/api/v1/tenants/default/findings?status=open&severity=low&limit=1")).json();
    await fetch(`/api/v1/tenants/default/findings/${list.items[0].id}/resolve`, { method: "POST", headers });
  });
  await confirm.click();
  await expect(page.getByRole("dialog")).toContainText("look again");
  // The numbers are new, and it is confirmed again.
  await expect(page.getByRole("button", { name: `Resolve ${before - 1} findings` })).toBeVisible();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.goto("/t/default/findings?status=resolved&severity=low");
  await page.getByRole("checkbox", { name: /^Choose / }).first().check();
  await page.getByRole("button", { name: "Open again…" }).click();
  await page.getByRole("button", { name: "Open again 1 finding" }).click();
  await expect(page.getByRole("heading", { name: "Nothing matches" })).toBeVisible();
});

test("a finding says what to run, and leads to its rule and its control with the proof", async ({ page }) => {
  await signIn(page);
  await page.goto("/t/default/findings?status=open&text=linux-sysctl");
  await page.locator("td.main a").first().click();
  await expect(page.getByLabel("Patch, shell")).toContainText("sysctl -p /etc/sysctl.d/");
  await look(page, "finding-patch");
  await page.locator("dl a[href*='/rules/']").click();
  await expect(page.getByLabel("Condition")).toContainText("props.sysctl");
  await look(page, "rule");
  await page.locator("a[href*='/controls/']").first().click();
  const rules = page.getByRole("table", { name: "Rules of this control" });
  await expect(rules.getByRole("row").nth(1)).toBeVisible();
  await expect(page.getByRole("table", { name: "Nodes that fail" })).toBeVisible();
  await expect(page.getByRole("table", { name: "Collections that it rests on" })).toBeVisible();
  await look(page, "control");
  await page.getByRole("button", { name: "Get the evidence bundle" }).click();
  await page.getByRole("button", { name: /^Verify/ }).click();
  await expect(page.getByText("The bundle is genuine")).toBeVisible();
  // All that was signed about it, also earlier.
  await page.getByRole("link", { name: "Its evidence" }).click();
  await expect(page).toHaveURL(/\/evidence\?framework=[^&]+&control=[^&]+$/);
  await expect(page.getByRole("table", { name: "Evidence" }).getByRole("row").nth(1)).toContainText("assessment");
  await page.locator(".filters button").filter({ hasText: "×" }).click();
  await expect(page).toHaveURL(/\/evidence$/);
});

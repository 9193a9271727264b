// A review of access: what one may decide, what one may not and why, and what it ends in.
import { call, expect, joins, look, publicKey, settled, signIn, test } from "./world";

const REVIEWER = "h-reviewer@example.org";

test("a reviewer decides about others, is told why not about themselves, and the review ends in evidence @both", async ({ page, browser, watched }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const theirs = watched(await (await browser.newContext({ viewport: { width: 1360, height: 860 } })).newPage());
  await joins(page, theirs, { email: REVIEWER, name: "Reviewer", role: "auditor" });
  const tenant = "/api/v1/tenants/default";
  await call(page, "PUT", `${tenant}/destinations/reviewed/ssh-host`, { address: "192.0.2.8", host_key: publicKey(), roles: ["deploy"] });
  const grants = [];
  for (const user of [REVIEWER, "admin@localhost"]) {
    grants.push(await call(page, "POST", `${tenant}/grants`, { user, role: "deploy", destination: "reviewed", reason: "deploys" }));
  }
  const ends_at = new Date(Date.now() + 86_400_000).toISOString();
  const body = { name: "Who deploys", reviewers: [REVIEWER], undecided: "keep", ends_at, scope: { destinations: ["reviewed"] } };
  const { id = "" } = await call(page, "POST", `${tenant}/access-reviews`, body);

  // Who manages access and was not asked sees all of it, and decides nothing.
  await page.goto(`/t/default/reviews/${id}`);
  const items = page.getByRole("table", { name: "Items" });
  await expect(items.getByRole("row")).toHaveCount(3);
  for (const button of await items.getByRole("button").all()) {
    await expect(button).toHaveAttribute("aria-disabled", "true");
    await expect(button).toHaveAccessibleDescription("Only the reviewers of a review decide.");
  }

  await theirs.goto(`/t/default/reviews/${id}`);
  await settled(theirs);
  const [own, other] = [REVIEWER, "admin@localhost"].map((email) => theirs.getByRole("row").filter({ hasText: `user ${email}` }));
  for (const name of [/^Keep/, /^Take/]) {
    await expect(own!.getByRole("button", { name })).toHaveAttribute("aria-disabled", "true");
    await expect(own!.getByRole("button", { name })).toHaveAccessibleDescription(/gives access to yourself: another reviewer decides about it/);
    await expect(other!.getByRole("button", { name })).toHaveAttribute("aria-disabled", "false");
  }
  await look(theirs, "review");
  // Pressed all the same, it opens nothing.
  await own!.getByRole("button", { name: /^Keep/ }).click({ force: true });
  await expect(theirs.getByRole("dialog")).toHaveCount(0);
  await other!.getByRole("button", { name: /^Keep/ }).click();
  await theirs.getByLabel("Reason").fill("still deploys");
  await look(theirs, "review-decide");
  await theirs.getByRole("dialog").getByRole("button", { name: "Keep" }).click();
  await expect(theirs.getByRole("dialog")).toHaveCount(0);
  await expect(other!).toContainText("kept");
  await theirs.context().close();

  await page.reload();
  await page.getByRole("button", { name: "Close", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Close", exact: true }).click();
  await expect(page.getByRole("link", { name: "Its evidence is signed." })).toBeVisible();
  await look(page, "review-closed");
  for (const grant of grants) await call(page, "DELETE", `${tenant}/grants/${grant["id"]}`);
  await call(page, "DELETE", `${tenant}/destinations/reviewed`);
});

// The list of nodes by when they changed and when they were seen first.
import { expect, look, settled, signIn, test } from "./world";

const minute = (at: Date) => at.toISOString().slice(0, 16);

test("nodes are listed by when they changed or were seen first, and the address holds that @both", async ({ page }) => {
  await signIn(page);
  await page.goto("/t/default/nodes");
  await settled(page);
  const nodes = page.getByRole("table", { name: "Nodes" });
  const rows = nodes.getByRole("row");
  const all = await rows.count();
  expect(all).toBeGreaterThan(2);
  const since = minute(new Date(Date.now() - 24 * 3_600_000));
  const later = minute(new Date(Date.now() + 3_600_000));
  for (const [label, name] of [["Changed since (UTC)", "changed_since"], ["First seen since (UTC)", "first_seen_since"]] as const) {
    await page.getByLabel(label).fill(since);
    await expect(page).toHaveURL((url) => url.searchParams.get(name) === `${since}:00Z`);
    await settled(page);
    await expect(rows).toHaveCount(all);
    await page.getByLabel(label).fill(later);
    await expect(page.getByRole("heading", { name: "Nothing matches" })).toBeVisible();
    // As a link that somebody was sent.
    await page.reload();
    await expect(page.getByLabel(label)).toHaveValue(later);
    await expect(page.getByRole("heading", { name: "Nothing matches" })).toBeVisible();
    await page.getByLabel(label).fill("");
    await expect(rows).toHaveCount(all);
  }
  await page.getByLabel("Changed since (UTC)").fill(since);
  await expect(rows).toHaveCount(all);
  await look(page, "nodes-changed-since");
});

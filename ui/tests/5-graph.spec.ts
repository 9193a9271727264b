// The asset graph: what this machine is, in groups that open, as a drawing and as tables.
import { expect, look, signIn, test } from "./world";

test.describe.configure({ mode: "serial" });

test("the graph is drawn in groups that open by the keyboard, and its address shows the same again @both", async ({ page }) => {
  await signIn(page);
  await page.getByRole("link", { name: "Graph", exact: true }).click();
  await page.getByLabel("Group by").selectOption("kind");
  await expect(page).toHaveURL(/by=kind/);
  const drawing = page.getByRole("application", { name: "Drawing of the graph" });
  await expect(drawing).toHaveAttribute("data-still", "true");
  await drawing.focus();
  await page.keyboard.press("ArrowRight");
  await expect(page).toHaveURL(/at=g/);
  // The address is written before the page shows what is chosen, and keys are about what it shows.
  await expect(page.getByRole("button", { name: "Open it", exact: true })).toBeVisible();
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/open=host\./);
  await expect(drawing).toHaveAttribute("data-still", "true");
  await look(page, "graph-opened");
  await page.goto(page.url());
  await page.getByRole("button", { name: "Show as a table" }).click();
  await expect(page.getByRole("table", { name: "Elements of the graph" })).toContainText("host.");
  await look(page, "graph-table");
  await page.getByRole("button", { name: "Look into the past…" }).click();
  await expect(page.getByRole("slider", { name: "As of" })).toBeVisible();
});

test("a node leads into the graph, to what it affects, and to who says that it is there", async ({ page }) => {
  await signIn(page);
  await page.getByRole("link", { name: "Nodes", exact: true }).click();
  await page.getByLabel("Type").selectOption({ value: "host.machine" });
  await page.getByRole("table", { name: "Nodes" }).getByRole("link").first().click();
  await expect(page.getByRole("table", { name: "Sources of this node" })).toContainText("host");
  await expect(page.getByRole("table", { name: "Evidence of how this node was read" })).toBeVisible();
  await expect(page.getByRole("heading", { name: "Who can reach it" })).toBeVisible();
  await page.getByRole("link", { name: "What it affects" }).click();
  await expect(page.getByRole("list", { name: "The nearest that are affected" })).toBeVisible();
  await page.getByRole("button", { name: "Bring in its neighbours" }).click();
  await expect(page).toHaveURL(/node=.*node=/);
  await look(page, "graph");
});

// A recording of a real session, by `ssh` at a host behind a relay: replayed, and its bundle verified. The test that starts this one has made it.
import { expect, look, settled, signIn, test } from "./world";

const RECORDING = process.env["CAIRN_TEST_RECORDING"] ?? "";
const USER = process.env["CAIRN_TEST_HOST_USER"] ?? "";

test.skip(RECORDING === "", "there is a session where the test brings a host: journey::console::a_session_at_a_real_host_is_replayed…");

test("what somebody saw at a host is seen again, in the order and the colours in which it came", async ({ page }) => {
  await signIn(page);
  await page.goto("/t/default/recordings");
  await page.getByRole("table", { name: "Recordings" }).getByRole("link").first().click();
  await expect(page).toHaveURL(new RegExp(`/recordings/${RECORDING}$`));
  await expect(page.locator(".facts").filter({ hasText: "Exit status" })).toContainText("0");
  await page.getByRole("button", { name: "Show what was recorded" }).click();
  const screen = page.getByRole("region", { name: "Screen" });
  // The terminal had no size: it is shown on one of the usual size.
  await expect(screen.locator("> div")).toHaveCount(24);
  expect((await screen.locator("> div").first().textContent())?.length).toBe(80);
  await expect(screen).not.toContainText("last words");
  await look(page, "recording");
  await page.getByLabel("Speed").selectOption("4");
  await page.getByRole("button", { name: "Play", exact: true }).click();
  await expect(screen).toContainText("0 0");
  await expect(screen).toContainText("red and plain");
  await expect(screen.locator("span[class]", { hasText: /^red$/ })).toHaveClass(/\bf1\b/);
  await expect(screen).toContainText(`last words of ${USER}`);
  await expect(page.getByRole("button", { name: "Play again" })).toBeVisible();
  // A step back shows what was there then.
  await page.getByLabel("Position").fill("0");
  await expect(screen).not.toContainText("last words");
});

test("its bundle is verified on its page, and a changed one is not", async ({ page }) => {
  await signIn(page);
  await page.goto(`/t/default/recordings/${RECORDING}`);
  await settled(page);
  await page.getByRole("button", { name: "Get the signed bundle" }).click();
  await page.getByRole("button", { name: "Verify the bundle" }).click();
  await expect(page.getByText("The bundle is genuine: nothing in it was changed, added or removed.")).toBeVisible();
  await expect(page.getByText("This statement")).toBeVisible();
  await look(page, "recording-verified");
  // By a key that one does not trust it is none.
  await page.getByLabel("Fingerprint of the key that you trust").fill("0".repeat(64));
  await page.getByRole("button", { name: "Verify the bundle" }).click();
  await expect(page.getByRole("alert")).toContainText("Do not rely on this bundle.");
  await page.reload();
  await settled(page);
  await page.route("**/bundle", async (route) => {
    const response = await route.fetch();
    const body = await response.body();
    // One bit of something in the middle.
    body[Math.floor(body.length / 2)]! ^= 1;
    await route.fulfill({ response, body });
  });
  await page.getByRole("button", { name: "Get the signed bundle" }).click();
  await page.getByRole("button", { name: "Verify the bundle" }).click();
  await expect(page.getByRole("alert")).toContainText("Do not rely on this bundle.");
});

// From the first login to an evidence bundle that was verified: what a new administrator does on the first day.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Response } from "@playwright/test";
import { ADMIN, expect, FIRST_PASSWORD, look, PASSWORD, settled, signIn, test, URL_OF_SERVER } from "./world";

test.describe.configure({ mode: "serial" });

test("a wrong password is told as such, and the first one has to be changed @both", async ({ page }) => {
  await page.goto("/");
  await expect(page).toHaveURL(/\/login$/);
  await look(page, "login");
  await signIn(page, ADMIN, "not the password");
  await expect(page.getByRole("alert")).toHaveText("The login name or the password is wrong.");
  await signIn(page, ADMIN, FIRST_PASSWORD);
  await expect(page.getByRole("heading", { name: "Choose your password" })).toBeVisible();
  await look(page, "choose-password");
  // Nothing else can be reached before.
  await page.goto("/account");
  await expect(page.getByRole("heading", { name: "Choose your password" })).toBeVisible();
  await page.getByLabel("Password so far").fill(FIRST_PASSWORD);
  await page.getByLabel("New password", { exact: true }).fill(PASSWORD);
  await page.getByLabel("New password, again").fill(`${PASSWORD}x`);
  await page.getByRole("button", { name: "Change the password" }).click();
  await expect(page.getByText("This is not the same as above.")).toBeVisible();
  await page.getByLabel("New password, again").fill(PASSWORD);
  await page.getByRole("button", { name: "Change the password" }).click();
  await expect(page.getByRole("heading", { name: "Where you are signed in" })).toBeVisible();
});

test("from home to a finding, to its evidence, verified in the browser, by the command line and by openssl @both", async ({ page }, info) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  // The machine of the server is its first host.
  await expect(page.getByRole("link", { name: /open, medium/ })).not.toHaveText(/^0/, { timeout: 90_000 });
  await page.reload();
  await expect(page.getByRole("heading", { name: "Fleet" })).toBeVisible();
  await expect(page.getByText("No agents and no relays")).toBeVisible();
  await look(page, "home");

  await page.getByRole("link", { name: "Findings", exact: true }).click();
  await page.getByLabel("Status").selectOption("open");
  await expect(page).toHaveURL(/status=open/);
  await look(page, "findings");
  const first = page.getByRole("table", { name: "Findings" }).locator("td.main a").first();
  const title = (await first.textContent()) ?? "";
  await first.click();
  await expect(page.getByRole("heading", { level: 1, name: title })).toBeVisible();
  await page.getByRole("button", { name: "Get the evidence bundle" }).click();
  await page.getByRole("button", { name: /^Verify/ }).click();
  await expect(page.getByText("The bundle is genuine")).toBeVisible();
  await look(page, "finding");

  const saving = page.waitForEvent("download");
  await page.getByRole("button", { name: /^Save/ }).click();
  const file = info.outputPath("bundle.zip");
  await (await saving).saveAs(file);
  const { fingerprint } = (await (await page.request.get("/api/v1/evidence-key")).json()) as { fingerprint: string };
  const folder = info.outputPath("unpacked");
  execFileSync("unzip", ["-q", "-d", folder, file]);
  execFileSync("sh", ["verify.sh", fingerprint], { cwd: folder });
  // So it is by the command line, which exits with 3 where a bundle is wrong.
  const byCommand = (bundle: string) =>
    spawnSync(process.env["CAIRN_TEST_CLI"] ?? "cairn", ["evidence", "verify", "--key-fingerprint", fingerprint, bundle], { encoding: "utf8" });
  expect(byCommand(file)).toMatchObject({ status: 0 });

  // The same file is verified from the disk; and one changed byte anywhere is noticed.
  await page.goto(`${new URL(page.url()).pathname.split("/findings")[0]}/evidence/verify`);
  await page.getByLabel("Evidence bundle").setInputFiles(file);
  await page.getByRole("button", { name: /^Verify/ }).click();
  await expect(page.getByText("The bundle is genuine")).toBeVisible();
  await look(page, "verify");
  const bytes = readFileSync(file);
  for (let part = 1; part < 12; part += 1) {
    const changed = Buffer.from(bytes);
    const at = Math.floor((bytes.length * part) / 12);
    changed[at] = (changed[at] ?? 0) ^ 1;
    // It has the name and the size of the good one: what was said of that is not said of it.
    const place = info.outputPath(`changed-${part}`);
    mkdirSync(place);
    const bad = join(place, "bundle.zip");
    writeFileSync(bad, changed);
    expect(byCommand(bad)).toMatchObject({ status: 3 });
    await page.getByLabel("Evidence bundle").setInputFiles(bad);
    await expect(page.getByText("The bundle is genuine")).toHaveCount(0);
    await expect(page.getByRole("alert")).toHaveCount(0);
    await page.getByRole("button", { name: /^Verify/ }).click();
    await expect(page.getByRole("alert")).toContainText("Do not rely on this bundle.");
  }
  // A file is written anew where the chosen one was: it can be chosen again, though a browser tells of no change, and is judged as it is now.
  const again = info.outputPath("again.zip");
  const choose = async (bytes: Buffer) => {
    writeFileSync(again, bytes);
    const opening = page.waitForEvent("filechooser");
    await page.getByLabel("Evidence bundle").click();
    const chooser = await opening;
    expect(await page.getByLabel("Evidence bundle").inputValue()).toBe("");
    await chooser.setFiles(again);
    await expect(page.getByText(`again.zip: ${bytes.length.toLocaleString("en")} bytes`)).toBeVisible();
    await page.getByRole("button", { name: /^Verify/ }).click();
  };
  await choose(bytes);
  await expect(page.getByText("The bundle is genuine")).toBeVisible();
  await choose(bytes.subarray(0, bytes.length - 1));
  await expect(page.getByRole("alert")).toContainText("Do not rely on this bundle.");
  await expect(page.getByText("The bundle is genuine")).toHaveCount(0);
  await choose(bytes);
  await expect(page.getByText("The bundle is genuine")).toBeVisible();
  // What one key bears out, another one does not: nothing is said of it before it is asked.
  await page.getByLabel("Fingerprint of the key that you trust").fill("0".repeat(64));
  await expect(page.getByText("The bundle is genuine")).toHaveCount(0);

  // Another key than the one that is trusted.
  await page.getByLabel("Evidence bundle").setInputFiles(file);
  await page.getByLabel("Fingerprint of the key that you trust").fill("0".repeat(64));
  await page.getByRole("button", { name: /^Verify/ }).click();
  await expect(page.getByRole("alert")).toContainText("not the one that you trust");
});

test("the pages of a tenant have no fault that axe knows", async ({ page }) => {
  await signIn(page);
  for (const name of ["Controls", "Evidence", "Nodes"]) {
    await page.getByRole("link", { name, exact: true }).click();
    await expect(page.getByRole("heading", { level: 1, name })).toBeVisible();
    await expect(page.getByRole("table")).toBeVisible();
    await look(page, name.toLowerCase());
  }
  await page.getByLabel("Name contains").fill("libc6");
  await page.getByLabel("Name contains").press("Enter");
  await expect(page).toHaveURL(/name=libc6/);
  await page.locator("td.main a").first().click();
  await expect(page.getByRole("heading", { name: "Properties" })).toBeVisible();
  await look(page, "node");
  await page.getByRole("link", { name: ADMIN }).click();
  await expect(page.getByRole("heading", { name: "Where you are signed in" })).toBeVisible();
  await look(page, "account");
});

test("an address that is no page says so, and one of no file is no page", async ({ page }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await page.goto("/t/no-such-tenant/findings");
  await expect(page.getByRole("heading", { name: "There is no such tenant" })).toBeVisible();
  expect((await page.request.get("/no-such-page")).status()).toBe(404);
  expect((await page.request.get("/assets/no-such-file.js")).status()).toBe(404);
  const document = await page.request.get("/");
  expect(document.headers()["content-security-policy"]).toContain("default-src 'self'");
  expect(document.headers()["content-security-policy"]).not.toContain("unsafe");
  expect(document.headers()["cache-control"]).toBe("no-cache");
  expect(await document.text()).not.toMatch(/<style|style=|<script(?![^>]*\ssrc=)/);
  const again = await page.request.get("/", { headers: { "if-none-match": document.headers()["etag"] ?? "" } });
  expect(again.status()).toBe(304);
});

test("the first page is at most 200 KB of compressed JavaScript", async ({ page }) => {
  const scripts: Response[] = [];
  page.on("response", (response) => {
    if (response.url().endsWith(".js")) scripts.push(response);
  });
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await settled(page);
  let bytes = 0;
  for (const script of scripts) {
    expect(script.headers()["content-encoding"]).toBe("br");
    expect(script.headers()["cache-control"]).toContain("immutable");
    bytes += (await script.request().sizes()).responseBodySize;
  }
  expect(bytes).toBeGreaterThan(10_000);
  expect(bytes).toBeLessThan(200_000);
  expect(URL_OF_SERVER).toContain("https://");
});

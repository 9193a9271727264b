// The browser tests: the system's Chromium against a server that `cargo xtask browser` starts, by its real certificate.
import { defineConfig } from "@playwright/test";

const env = (name: string) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run these tests by \`cargo xtask browser\``);
  return value;
};

export default defineConfig({
  testDir: "tests",
  outputDir: "../target/browser",
  // One server, and what one test makes the next one finds.
  workers: 1,
  fullyParallel: false,
  reporter: "list",
  timeout: 120_000,
  expect: { timeout: 20_000 },
  use: {
    actionTimeout: 20_000,
    baseURL: env("CAIRN_TEST_URL"),
    viewport: { width: 1360, height: 860 },
    colorScheme: "light",
    acceptDownloads: true,
    launchOptions: {
      executablePath: process.env["CAIRN_TEST_CHROMIUM"] ?? "/usr/bin/chromium",
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        // The server's own authority, by its key: everything else about the connection is checked as always.
        `--ignore-certificate-errors-spki-list=${env("CAIRN_TEST_AUTHORITY")}`,
      ],
    },
  },
});

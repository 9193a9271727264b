// Every list of the console, each by the same rules: its filters are in the address, it is a skeleton while it loads, an error names its request
// and can be tried again, an empty one says the next step, all of it is saved as a file, and what a role may not do says why.
import { createHash, generateKeyPairSync } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Browser, Cookie, Page, Response, Route } from "@playwright/test";
import { enroll } from "./fleet";
import { ADMIN, call, expect, joins, publicKey, settled, signIn, test } from "./world";

test.describe.configure({ mode: "serial" });

interface List {
  /** As its table is called. */
  name: string;
  /** What it asks, below the tenant or the whole API. */
  asks: RegExp;
  /** The heading of the empty one and the next step in it; or why it is never empty. */
  empty: { title: string; next: string } | { never: string };
  /** A filter of it: in the address, the label of its field, and whether the server is asked by it. */
  filter?: { name: string; value: string; label: string; here?: true };
  /** What a saved file of it holds, and the heads of its first columns. */
  holds: string;
  /** One row that the API does not have here. */
  row?: object;
}

/** What a page is, where it is no list, and has none. */
type Which = List[] | string;

const at = (rest: string) => new RegExp(`^/api/v1/tenants/[^/]+/${rest}$`);
const all = (rest: string) => new RegExp(`^/api/v1/${rest}$`);
/** A recording comes from a relay that serves a session, which no browser test has: journey::ssh_relay walks that. */
const RECORDING = {
  id: "rec_00000000000000000000000000",
  began_at: "2026-01-01T00:00:00Z",
  ended_at: "2026-01-01T00:01:00Z",
  state: "complete",
  user: "planned@example.org",
  destination: "dst_00000000000000000000000000",
  destination_name: "web1",
  role: "deploy",
  target: { kind: "ssh", account: "deploy", command: "uptime" },
};
const GROUP_ROLE = { id: "grl_1", provider: "corp", group: "auditors", role: "auditor", created_at: "2026-01-01T00:00:00Z", created_by: "usr_1" };
const PROVIDER = {
  id: "idp_1",
  name: "corp",
  title: "Corp",
  issuer: "https://corp.example",
  client_id: "cairn",
  redirect_uri: "https://localhost/api/v1/login/corp/callback",
  scim: false,
  created_at: "2026-01-01T00:00:00Z",
};

/** It is in the configuration of a server that this one is not. */
const FORWARD = {
  name: "siem",
  kind: "syslog",
  address: "tls://siem.example:6514",
  format: "jsonl",
  logs: [],
  delivered: 3,
  waiting: 0,
  failures: 0,
  delivered_at: "2026-01-01T00:00:00Z",
};

/** Every page that the console has. What is a list stands here with its rules: a page that is new fails the first test until it does. */
const PAGES: Record<string, Which> = {
  "/login": "before a session",
  "/": "leads to the first tenant",
  "/device": "approves one sign-in of the command line",
  "*": "no page",
  "/platform/*": "no page",
  "/t/:tenant/*": "no page",
  "/t/:tenant": "panels: a-home.spec.ts",
  "/t/:tenant/findings/:finding": "one finding",
  "/t/:tenant/controls/:control": "one control",
  "/t/:tenant/rules/:rule": "one rule",
  "/t/:tenant/evidence/verify": "verifies a file of one's own",
  "/t/:tenant/nodes/:node": "one node",
  "/t/:tenant/graph": "a drawing: 5-graph.spec.ts",
  "/t/:tenant/relays/:relay": "one relay",
  "/t/:tenant/groups/:group": "one group",
  "/t/:tenant/agents/:agent": "one agent",
  "/t/:tenant/evidence/:evidence": "one statement",
  "/t/:tenant/destinations/:destination": "one destination",
  "/t/:tenant/access-file": "compares a file of one's own",
  "/t/:tenant/recordings/:recording": "one recording",
  "/t/:tenant/security": "policies",
  "/account": [{ name: "Sessions", asks: all("me/sessions"), empty: { never: "it is asked within a session" }, holds: "password" }],
  "/t/:tenant/findings": [
    {
      name: "Findings",
      asks: at("findings"),
      empty: { title: "No findings", next: "Run a job" },
      filter: { name: "severity", value: "low", label: "Severity" },
      holds: "low",
    },
    {
      name: "Groups of findings",
      asks: at("finding-groups"),
      empty: { title: "No groups", next: "Run a job" },
      filter: { name: "group", value: "rule", label: "Group by" },
      holds: "linux-",
    },
  ],
  "/t/:tenant/controls": [
    {
      name: "Controls",
      asks: at("controls"),
      empty: { never: "they come with the rules" },
      filter: { name: "result", value: "fail", label: "Result" },
      holds: "nist",
    },
  ],
  "/t/:tenant/frameworks": [
    { name: "Frameworks", asks: all("frameworks"), empty: { never: "they come with the server" }, holds: "nist" },
    { name: "Packs", asks: all("packs"), empty: { never: "they come with the server" }, holds: "cis-aws-foundations" },
  ],
  "/t/:tenant/rules": [
    {
      name: "Rules",
      asks: all("rules"),
      empty: { never: "they are shipped" },
      filter: { name: "text", value: "sysctl", label: "Rule, node type or control contains", here: true },
      holds: "linux-sysctl",
    },
  ],
  "/t/:tenant/evidence": [
    {
      name: "Evidence",
      asks: at("evidence"),
      empty: { title: "No evidence here", next: "Run a job" },
      filter: { name: "kind", value: "config", label: "Kind" },
      holds: "config",
    },
  ],
  "/t/:tenant/nodes": [
    {
      name: "Nodes",
      asks: at("nodes"),
      empty: { title: "Nothing discovered yet", next: "Run a job" },
      filter: { name: "type", value: "host.user", label: "Type" },
      holds: "host.user",
    },
  ],
  "/t/:tenant/jobs": [
    {
      name: "Jobs",
      asks: at("jobs"),
      empty: { title: "No jobs here", next: "Run a job" },
      filter: { name: "status", value: ":status", label: "Status" },
      holds: "host",
    },
    { name: "Schedules", asks: at("schedules"), empty: { title: "Nothing repeats", next: "Run a job" }, holds: "host" },
  ],
  "/t/:tenant/jobs/:job": [
    {
      name: "Scopes",
      asks: at("jobs/[^/]+/scopes"),
      empty: { never: "the tenant has no job" },
      filter: { name: "state", value: "complete", label: "State" },
      holds: ":accounts",
    },
  ],
  "/t/:tenant/jobs/:job/log": [
    {
      name: "Log",
      asks: at("jobs/[^/]+/log"),
      empty: { never: "the tenant has no job" },
      filter: { name: "level", value: "info", label: "Level" },
      holds: "info",
    },
  ],
  "/t/:tenant/coverage": [
    {
      name: "Coverage",
      asks: at("coverage"),
      empty: { title: "Nothing here", next: "Run a job" },
      filter: { name: "kind", value: "accounts", label: "Kind" },
      holds: "accounts",
    },
  ],
  "/t/:tenant/credentials": [
    { name: "Credentials", asks: at("credentials"), empty: { title: "No credentials", next: "Add a credential" }, holds: "listed" },
  ],
  "/t/:tenant/agents": [
    {
      name: "Agents",
      asks: at("agents"),
      empty: { title: "No agents here", next: "Enroll an agent" },
      filter: { name: "label", value: "site=listed", label: "Label" },
      holds: "listed-agent",
    },
    { name: "Enrollment tokens", asks: at("enrollment-tokens"), empty: { title: "No tokens", next: "Enroll an agent" }, holds: "enr_" },
  ],
  "/t/:tenant/relays": [
    { name: "Relays", asks: at("relays"), empty: { title: "No relays here", next: "Enroll a relay" }, holds: "listed-relay" },
    { name: "Enrollment tokens", asks: at("enrollment-tokens"), empty: { title: "No tokens", next: "Enroll a relay" }, holds: "enr_" },
  ],
  "/t/:tenant/destinations": [
    { name: "Destinations", asks: at("destinations"), empty: { title: "No destinations", next: "Add an SSH host" }, holds: "listed-host" },
  ],
  "/t/:tenant/requests": [
    { name: "Your requests", asks: at("access-requests/mine"), empty: { title: "You asked for nothing", next: "Ask for access" }, holds: "listed-host" },
    { name: "Requests of everybody", asks: at("access-requests"), empty: { title: "Nobody asked", next: "cairn requests create" }, holds: ADMIN },
  ],
  "/t/:tenant/grants": [
    {
      name: "Grants",
      asks: at("grants"),
      empty: { title: "No grants", next: "Give a grant" },
      filter: { name: "destination", value: "listed-host", label: "Destination" },
      holds: "listed-host",
    },
  ],
  "/t/:tenant/groups": [{ name: "Groups", asks: at("groups"), empty: { title: "No groups", next: "Make a group" }, holds: "listed" }],
  "/t/:tenant/group-roles": [
    {
      name: "Roles of providers’ groups",
      asks: at("group-roles"),
      empty: { title: "No roles", next: "Give a role" },
      holds: "auditors",
      row: GROUP_ROLE,
    },
  ],
  "/t/:tenant/ssh-host-keys": [
    { name: "SSH host keys", asks: at("ssh-host-keys"), empty: { title: "No host keys", next: "Trust a key" }, holds: "listed.example" },
  ],
  "/t/:tenant/reviews": [{ name: "Reviews", asks: at("access-reviews"), empty: { title: "No reviews", next: "Begin a review" }, holds: "Listed" }],
  "/t/:tenant/reviews/:review": [
    { name: "Items", asks: at("access-reviews/[^/]+/items"), empty: { never: "the tenant has no review" }, holds: "listed-host" },
  ],
  "/t/:tenant/recordings": [
    {
      name: "Recordings",
      asks: at("recordings"),
      empty: { title: "No recordings", next: "What is recorded" },
      filter: { name: "user", value: "planned@example.org", label: "User" },
      holds: "uptime",
      row: RECORDING,
    },
  ],
  "/t/:tenant/audit": [
    {
      name: "Audit log",
      asks: at("audit"),
      empty: { never: "that the tenant was made is in it" },
      filter: { name: "category", value: "credential", label: "Category" },
      holds: "credential",
    },
  ],
  "/t/:tenant/keys": [{ name: "API keys", asks: at("api-keys"), empty: { title: "No keys", next: "Make a key" }, holds: "listed" }],
  "/t/:tenant/members": [
    { name: "Members", asks: at("members"), empty: { never: "who looks belongs to it" }, holds: ADMIN },
    { name: "Invitations", asks: at("invitations"), empty: { title: "Nobody is invited", next: "Invite somebody" }, holds: "@example.org" },
  ],
  "/platform/tenants": [{ name: "Tenants", asks: all("tenants"), empty: { never: "the first is made at the start" }, holds: "hollow" }],
  "/platform/users": [{ name: "Users", asks: all("users"), empty: { never: "who looks is one" }, holds: ADMIN }],
  "/platform/providers": [
    { name: "Identity providers", asks: all("providers"), empty: { title: "No providers", next: "until you add one" }, holds: "Corp", row: PROVIDER },
  ],
  "/platform/integrations": [
    {
      name: "Integrations",
      asks: all("audit-forwards"),
      empty: { never: "the server of the walks sends records somewhere" },
      // No log goes there.
      holds: "idle",
      row: FORWARD,
    },
  ],
  "/platform/data-keys": [{ name: "Data keys", asks: all("data-keys"), empty: { never: "the server made one" }, holds: "the installation" }],
  "/platform/audit": [
    {
      name: "Installation log",
      asks: all("audit"),
      empty: { never: "the first start is in it" },
      filter: { name: "category", value: "user", label: "Category" },
      holds: "user",
    },
  ],
  "/platform/witnesses": [
    { name: "Witnesses", asks: all("witnesses"), empty: { title: "No witnesses", next: "Add a witness" }, holds: "witness.example" },
  ],
};

const LISTS = Object.entries(PAGES).flatMap(([page, which]) => (typeof which === "string" ? [] : which.map((list) => ({ page, list }))));

/** What a name in an address stands for: found when the rows are made. */
const ids: Record<string, string> = { job: "", review: "", status: "" };

const filled = (text: string) => text.replace(/:(job|review|status)/, (_, name: string) => ids[name] ?? "");
const address = (page: string, tenant: string) => filled(page.replace(":tenant", tenant));

test("no page and no list of the console is missing here", () => {
  const pages: string[] = [];
  const inside: string[] = [];
  for (const line of readFileSync("src/console.tsx", "utf8").split("\n")) {
    const route = /^\s*<Route (?:path="([^"]*)"|(index))?.*?(\/?)>\s*$/.exec(line);
    if (route) {
      const [, path, index, closed] = route;
      const whole = index ? (inside.at(-1) ?? "/") : path?.startsWith("/") ? path : path === undefined ? (inside.at(-1) ?? "") : [inside.at(-1), path].filter(Boolean).join("/");
      if (closed) pages.push(whole);
      else inside.push(whole);
    } else if (/^\s*<\/Route>/.test(line)) inside.pop();
  }
  expect(pages.length).toBeGreaterThan(40);
  expect([...new Set(pages)].filter((page) => page !== "*/*").sort()).toEqual(Object.keys(PAGES).filter((page) => page !== "*").sort());

  // A list whose name is made elsewhere is counted with the others of its folder.
  const named = new Set(LISTS.map(({ list }) => list.name));
  let lists = 0;
  for (const file of readdirSync("src", { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".tsx"))) {
    for (const [, name] of readFileSync(join("src", file), "utf8").matchAll(/<Listing(?:<\w+>)?\s+name=(?:"([^"]+)"|\{[\w.]+\})/g)) {
      lists += 1;
      if (name) expect([...named], file).toContain(name);
    }
    const uses = readFileSync(join("src", file), "utf8").split("<Listing").length - 1;
    const exports = readFileSync(join("src", file), "utf8").split("exported={").length - 1;
    if (!file.startsWith("list/")) expect(exports, `${file}: each list of it is saved as a file`).toBe(uses);
  }
  // The log of a tenant and of the installation are one, and so are agents and relays, with the tokens of both.
  expect(LISTS.length).toBe(lists + 3);
});

/** A key as a witness of logs has one (C2SP signed-note, cosignature/v1). */
function witnessKey(name: string): string {
  const { x = "" } = generateKeyPairSync("ed25519").publicKey.export({ format: "jwk" });
  const key = Buffer.concat([Buffer.from([4]), Buffer.from(x, "base64url")]);
  const id = createHash("sha256").update(`${name}\n`).update(key).digest("hex").slice(0, 8);
  return `${name}+${id}+${key.toString("base64")}`;
}

test("an empty tenant says of each list what to do next @both", async ({ page }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  await call(page, "POST", "/api/v1/tenants", { slug: "hollow", name: "Hollow", admin: ADMIN });
  // A role is taken up at the sign-in.
  await page.context().clearCookies();
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  let shown = "";
  for (const { page: route, list } of LISTS) {
    if ("never" in list.empty) continue;
    const query = list.filter?.name === "group" ? `?group=${list.filter.value}` : "";
    if (shown !== route + query) await page.goto(address(route, "hollow") + query);
    shown = route + query;
    const empty = page.locator(".empty").filter({ has: page.getByRole("heading", { name: list.empty.title, exact: true }) });
    await expect(empty, list.name).toBeVisible();
    await expect(empty, list.name).toContainText(list.empty.next);
  }
});

test("rows are made for each list @both", async ({ page }) => {
  await signIn(page);
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
  const tenant = "/api/v1/tenants/default";
  const secret = { access_key_id: "AKIAIOSFODNN7EXAMPLE", secret_access_key: "planted/secret+of/the/browser/tests+0123456" };
  const key = publicKey();
  await call(page, "PUT", `${tenant}/members`, { email: "invited@example.org", role: "read-only" });
  await call(page, "POST", `${tenant}/api-keys`, { name: "listed", role: "read-only", networks: [] });
  await call(page, "POST", `${tenant}/credentials`, { plugin: "aws", type: "aws-keys", name: "listed", secret });
  await call(page, "POST", `${tenant}/schedules`, { plugin: "host", interval_s: 86_400 });
  await call(page, "POST", `${tenant}/groups`, { name: "listed" });
  await call(page, "POST", `${tenant}/ssh-host-keys`, { target: "listed.example", key });
  await call(page, "PUT", `${tenant}/destinations/listed-host/ssh-host`, { address: "192.0.2.8", host_key: key, roles: ["deploy"] });
  await call(page, "POST", `${tenant}/grants`, { role: "deploy", user: ADMIN, destination: "listed-host", reason: "for the lists" });
  await call(page, "POST", `${tenant}/access-requests`, { destination: "listed-host", role: "deploy", duration_s: 600, reason: "for the lists" });
  const ends_at = new Date(Date.now() + 86_400_000).toISOString();
  const review = await call(page, "POST", `${tenant}/access-reviews`, { name: "Listed", reviewers: [ADMIN], undecided: "keep", ends_at });
  await call(page, "POST", `${tenant}/enrollment-tokens`, { kind: "agent" });
  const agent = await enroll(page, "agent", "listed-agent");
  await call(page, "PUT", `${tenant}/agents/${agent}/labels`, { labels: { site: "listed" } });
  await enroll(page, "relay", "listed-relay");
  await call(page, "POST", "/api/v1/witnesses", { vkey: witnessKey("witness.example") });
  ids["review"] = review["id"] ?? "";
  session = await page.context().cookies();
  // One that has ended, of the server's own machine.
  const ended = async () => {
    const jobs = (await (await page.request.get(`${tenant}/jobs`)).json()) as { items: { id: string; status: string }[] };
    const one = jobs.items.find((job) => ["completed", "partial"].includes(job.status));
    Object.assign(ids, { job: one?.id ?? "", status: one?.status ?? "" });
    // Its evidence is signed, and its nodes are judged, a moment later.
    const lists = ["evidence?kind=config", "findings?severity=low", "controls?result=fail"];
    const sizes = lists.map(async (list) => ((await (await page.request.get(`${tenant}/${list}`)).json()) as { items: unknown[] }).items.length);
    return one && (await Promise.all(sizes)).every((size) => size > 0) ? one.id : "";
  };
  await expect.poll(ended, { timeout: 90_000 }).not.toBe("");
});

/** Signed in once for all lists. */
let session: Cookie[] = [];

/** Asks for a list, which is held back, then refused, then answered. */
async function held(page: Page, list: List) {
  let release = () => {};
  const gate = new Promise<void>((open) => (release = open));
  const asked: URL[] = [];
  const answer = async (route: Route) => {
    const url = new URL(route.request().url());
    asked.push(url);
    if (asked.length === 1) {
      await gate;
      const problem = { request_id: "req_of_the_refusal", code: "limit", message: "too much was asked: wait a moment" };
      await route.fulfill({ status: 429, json: problem });
    } else if (list.row) await route.fulfill({ json: { items: [list.row] } });
    else await route.continue();
  };
  const of = (url: URL) => list.asks.test(url.pathname);
  await page.route((url) => of(url), answer);
  return { release, asked };
}

/** One list by all rules. */
async function walk(page: Page, route: string, list: List, file: string) {
  const filter = list.filter && { ...list.filter, value: filled(list.filter.value) };
  const { release, asked } = await held(page, list);
  await page.goto(address(route, "default") + (filter?.value ? `?${filter.name}=${encodeURIComponent(filter.value)}` : ""));
  await expect.poll(() => asked.length).toBe(1);
  // All else has come: what still loads is the list.
  const loading = page.getByRole("status", { name: "Loading" });
  await expect(loading).toHaveCount(1);
  release();
  const alert = page.getByRole("alert").filter({ hasText: "Too much was asked" });
  await expect(alert).toContainText("req_of_the_refusal");
  await expect(loading).toHaveCount(0);
  await alert.getByRole("button", { name: "Try again" }).click();
  const table = page.getByRole("table", { name: list.name, exact: true });
  await expect(table).toContainText(list.holds);
  await expect(alert).toHaveCount(0);

  if (filter?.value) {
    // A link to it shows the same, and so does the page after it is loaded anew.
    if (!filter.here) expect(asked.every((url) => [...url.searchParams.values()].includes(filter.value))).toBe(true);
    const field = page.getByLabel(filter.label, { exact: true });
    await expect(field).toHaveValue(filter.value);
    await page.reload();
    await expect(field).toHaveValue(filter.value);
    await expect(table).toContainText(list.holds);
  }

  // What the export was answered, page by page; a list that is no list by keyset is on the page as a whole.
  const pages: Promise<{ items: unknown[] }>[] = [];
  const hear = (response: Response) => {
    const url = new URL(response.url());
    if (list.asks.test(url.pathname) && url.searchParams.get("limit") === "500") pages.push(response.json() as Promise<{ items: unknown[] }>);
  };
  page.on("response", hear);
  const saving = page.waitForEvent("download");
  await page.getByRole("navigation", { name: `Pages of ${list.name}` }).getByRole("button", { name: "Export CSV" }).click();
  await (await saving).saveAs(file);
  page.off("response", hear);
  const text = readFileSync(file, "utf8");
  expect(text).toContain(list.holds);
  let rows = (await Promise.all(pages)).reduce((sum, { items }) => sum + items.length, 0);
  if (pages.length === 0 || filter?.here) {
    await expect(page.getByRole("navigation", { name: `Pages of ${list.name}` }).getByRole("link", { name: "Next page" })).toHaveCount(0);
    rows = await table.locator("tbody tr").count();
  }
  // A line within quotes belongs to its cell.
  expect(text.replace(/"(?:[^"]|"")*"/g, "").split("\r\n").length - 2, "a line for each row of all pages, below the heads").toBe(rows);

  if (filter?.value) {
    // Taken away in the page, it is out of the address.
    const field = page.getByLabel(filter.label, { exact: true });
    if ((await field.evaluate((it) => it.tagName)) === "SELECT") await field.selectOption("");
    else {
      await field.fill("");
      await field.press("Enter");
    }
    await expect(page).not.toHaveURL(new RegExp(`[?&]${filter.name}=`));
  }
  await page.unrouteAll();
}

test("each list is a skeleton, tells an error and can be tried again, holds its filters in the address, and is saved as a file @both", async ({ page, refusals }, info) => {
  test.setTimeout(300_000);
  refusals.expect(429);
  await page.context().addCookies(session);
  // All are walked, so that one run tells of each that does not keep to the rules.
  const wrong: string[] = [];
  for (const [at, { page: route, list }] of LISTS.entries()) {
    try {
      await test.step(`${list.name} (${route})`, () => walk(page, route, list, info.outputPath(`list-${at}.csv`)));
    } catch (error) {
      wrong.push(`${list.name} (${route}): ${String(error)}`);
      await page.unrouteAll();
    }
  }
  expect(wrong.join("\n\n")).toBe("");
});

test("what is typed into two fields of one form counts together", async ({ page }) => {
  await page.context().addCookies(session);
  await page.goto("/t/default/recordings");
  await page.getByLabel("User").fill("somebody@example.org");
  await page.getByLabel("Destination").fill("web1");
  await page.getByRole("button", { name: "Search" }).click();
  await expect(page).toHaveURL(/\?user=somebody%40example.org&destination=web1$/);
  await page.goto("/t/default/audit");
  await page.getByLabel("Who").fill(ADMIN);
  await page.getByLabel("Text").fill("credential_create");
  await page.getByRole("button", { name: "Search" }).click();
  await expect(page).toHaveURL(/\?text=credential_create&actor=admin%40localhost$/);
  const records = page.getByRole("table", { name: "Audit log" });
  await expect(records.locator("tbody tr").filter({ hasNotText: "credential_create" })).toHaveCount(0);
  await expect(records).toContainText("credential_create");
  // Back to what was before, the fields are too.
  await page.goBack();
  await expect(page.getByLabel("Who")).toHaveValue("");
});

/** What everybody may do who sees a page: reading, and what is one's own. */
const READING =
  /^(Try again|Export CSV|Export what matches|Search|Filter|Clear|Details of record \d+|Follow|Have the server verify it|Save the checkpoint|Earlier ones|Evidence of .+|Show all|Save PNG|Save JSON|Show as a table|Look into the past…|Copy|Copy .+|I have seen this|Ask for access|Break glass…|Withdraw the request for .+)$/;

interface Shown {
  name: string;
  off: boolean;
  why: string;
}

/** Every button of the page, with why it cannot be used. */
async function buttons(page: Page): Promise<Shown[]> {
  return page.locator("main").evaluate((main) =>
    [...main.querySelectorAll("button")].map((it) => ({
      name: it.getAttribute("aria-label") ?? it.textContent?.trim() ?? "",
      off: it.getAttribute("aria-disabled") === "true",
      why: document.getElementById(it.getAttribute("aria-describedby") ?? "")?.textContent ?? "",
    })),
  );
}

async function memberOf(role: string, page: Page, browser: Browser, watched: (page: Page) => Page): Promise<Page> {
  const theirs = watched(await (await browser.newContext({ viewport: { width: 1360, height: 860 } })).newPage());
  await joins(page, theirs, { email: `${role}-of-lists@example.org`, name: role, role });
  return theirs;
}

/** What else a role may do. */
const ROLES: [string, RegExp][] = [
  ["auditor", /^$/],
  ["security-analyst", /^(Run a job|Judge now|Accept…|Resolve…|Open again…|Cancel|(Pause|Change|Delete) the schedule of .+|.* schedule .*)$/],
];

for (const [role, may] of ROLES) {
  test(`with the role ${role} nothing can be changed that it may not, and the page says why`, async ({ page, browser, watched, refusals }) => {
    refusals.expect(404);
    await page.context().addCookies(session);
    await page.goto("/account");
    const theirs = await memberOf(role, page, browser, watched);
    let seen = 0;
    for (const route of Object.keys(PAGES).filter((route) => route.startsWith("/t/") || route.startsWith("/platform/"))) {
      if (/:(finding|control|rule|node|agent|evidence|relay|group|destination|recording)\b/.test(route) || route.endsWith("*")) continue;
      await theirs.goto(address(route, "default"));
      // One who does not review is told of no review.
      await expect(theirs.locator("main h1").or(theirs.locator("main").getByRole("alert"))).toBeVisible();
      await settled(theirs);
      const refused = theirs.getByRole("heading", { name: /^(Not with your role|Not for you)$/ });
      if (await refused.count()) {
        await expect(theirs.locator("main"), route).toContainText(new RegExp(`Your role ${role} lacks the permission \\w+:\\w+|who manage the installation`));
        expect(await buttons(theirs)).toEqual([]);
        continue;
      }
      seen += 1;
      for (const { name, off, why } of await buttons(theirs)) {
        if (READING.test(name)) continue;
        // What the role may do is on, or off for a reason of its own: nothing to act on, say.
        if (may.test(name)) {
          if (off) expect(why, `${route}: ${name} is off and says no reason`).not.toBe("");
          expect(why, `${route}: ${name}`).not.toContain("lacks the permission");
        }
        else expect([off, why], `${route}: ${name}`).toEqual([true, expect.stringContaining(`Your role ${role} lacks the permission`)]);
      }
    }
    expect(seen).toBeGreaterThan(5);
    await theirs.context().close();
  });
}

test("what was made for the lists is taken away again @both", async ({ page }) => {
  await page.context().addCookies(session);
  await page.goto("/account");
  await call(page, "DELETE", "/api/v1/witnesses/witness.example");
});

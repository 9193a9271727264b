// What `console.py` measures in the browser: prints one JSON document.
import { createRequire } from "node:module";

const { chromium } = createRequire(new URL("../ui/package.json", import.meta.url))("playwright-core");
const env = (name) => process.env[name] ?? "";
const url = env("CAIRN_BENCH_URL");
const rounds = Number(env("CAIRN_BENCH_ROUNDS"));

const browser = await chromium.launch({
  executablePath: process.env.CAIRN_TEST_CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    `--ignore-certificate-errors-spki-list=${env("CAIRN_BENCH_PIN")}`,
  ],
});

/** A browser that has nothing of the console yet. */
async function fresh(cookies = []) {
  const context = await browser.newContext({ baseURL: url, viewport: { width: 1360, height: 860 } });
  await context.addCookies(cookies);
  await context.addInitScript(watch);
  return context;
}

/** In the page: notes when what is waited for is there and painted, and when the graph is drawn. */
function watch() {
  const seen = {};
  window.seen = seen;
  const note = (name) => {
    if (!seen[name]) requestAnimationFrame(() => setTimeout(() => (seen[name] ??= performance.now())));
  };
  const look = () => {
    const main = document.querySelector("main");
    if (document.querySelector("input[type=password]")) note("login");
    if (document.querySelector("nav[aria-label=Pages] a")) note("frame");
    if (main?.querySelector("h1") && document.querySelector("nav[aria-label=Pages] a")) note("home");
    if (main?.querySelector("table") && !main.querySelector('[role=status][aria-label="Loading"]')) note("filled");
  };
  new MutationObserver(look).observe(document, { childList: true, subtree: true });
  window.frames_drawn = [];
  for (const name of ["drawArrays", "drawArraysInstanced", "drawElements", "drawElementsInstanced"]) {
    const draw = WebGL2RenderingContext.prototype[name];
    WebGL2RenderingContext.prototype[name] = function (...of) {
      note("drawn");
      const last = window.frames_drawn.at(-1);
      const now = performance.now();
      // One frame draws lines and points.
      if (last === undefined || now - last.at > 4) window.frames_drawn.push({ at: now });
      return draw.apply(this, of);
    };
  }
}

const when = async (page, name) => {
  await page.waitForFunction((name) => window.seen[name], name, { timeout: 60_000 });
  return page.evaluate((name) => window.seen[name], name);
};

/** Bytes of JavaScript as they came. */
async function scripts(page, path, name) {
  let bytes = 0;
  const answers = [];
  page.on("response", (response) => response.url().endsWith(".js") && answers.push(response));
  await page.goto(path);
  await when(page, name);
  await page.waitForLoadState("networkidle");
  for (const answer of answers) bytes += (await answer.request().sizes()).responseBodySize;
  return bytes;
}

async function signIn() {
  const context = await fresh();
  const page = await context.newPage();
  await page.goto("/login");
  await page.getByLabel("Login name").fill("admin@localhost");
  await page.getByLabel("Password").fill(env("CAIRN_BENCH_PASSWORD"));
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("navigation", { name: "Pages" }).waitFor();
  const cookies = await context.cookies();
  await context.close();
  return cookies;
}

async function pages() {
  const cookies = await signIn();
  const found = {};
  for (const [name, path, usable, who] of [
    ["login", "/login", "login", []],
    ["home", "/t/default", "home", cookies],
  ]) {
    const times = { cold: { usable: [] }, warm: { usable: [], filled: [] } };
    for (let round = 0; round < rounds; round += 1) {
      const context = await fresh(who);
      const page = await context.newPage();
      await page.goto(path);
      times.cold.usable.push(await when(page, usable));
      await page.waitForLoadState("networkidle");
      await page.reload();
      times.warm.usable.push(await when(page, usable));
      if (name === "home") times.warm.filled.push(await when(page, "filled"));
      await context.close();
    }
    const context = await fresh(who);
    found[name] = { ...times, bytes: await scripts(await context.newPage(), path, usable) };
    await context.close();
  }
  return found;
}

async function graph() {
  const cookies = await signIn();
  const found = { first: [], loaded: [], clicked: [] };
  for (let round = 0; round < rounds; round += 1) {
    const context = await fresh(cookies);
    const page = await context.newPage();
    await page.goto("/t/default/graph");
    found[round === 0 ? "first" : "loaded"].push(await when(page, "drawn"));
    await page.goto("/t/default");
    await when(page, "filled");
    const from = await page.evaluate(() => {
      window.seen.drawn = undefined;
      document.querySelector("a[href$='/graph']").click();
      return performance.now();
    });
    found.clicked.push((await when(page, "drawn")) - from);
    await context.close();
  }
  return found;
}

/** As the server answers, but for so many elements: more than it ever gives at once. */
function drawing(elements, links) {
  let state = 7;
  const random = (below) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state % below;
  };
  const severities = { critical: 0, high: 0, medium: 0, low: 0, info: 0 };
  return {
    as_of: null,
    by: "account",
    current: true,
    edges_left: 0,
    edges_total: links,
    links_left: 0,
    missing: [],
    nodes_total: elements,
    elements: Array.from({ length: elements }, (_, n) => ({
      kind: "node",
      nodes: 1,
      unseen: 0,
      groups: 0,
      inside: 0,
      group: null,
      findings: { ...severities, [n % 7 === 0 ? "high" : "low"]: n % 3 },
      node: { id: `aws:eu-central-1:aws.ec2.instance:i-${n}`, name: `web-${n}`, type: "aws.ec2.instance", provider: "aws", region: "eu-central-1", account: "1", network: "vpc-1" },
    })),
    links: Array.from({ length: links }, (_, n) => {
      const source = random(elements);
      // Most are near, as in an estate; some go anywhere.
      const target = n % 10 === 0 ? random(elements) : (source + 1 + random(20)) % elements;
      return { source, target, count: 1, types: ["contains"] };
    }),
  };
}

async function frames() {
  const elements = 20_000;
  const links = 30_000;
  const context = await fresh(await signIn());
  const page = await context.newPage();
  const body = JSON.stringify(drawing(elements, links));
  await page.route("**/graph/view", (route) => route.fulfill({ contentType: "application/json", body }));
  await page.goto("/t/default/graph");
  const box = page.getByRole("application", { name: "Drawing of the graph" });
  await when(page, "drawn");
  // Until nothing moves by itself.
  await page.waitForFunction(() => document.querySelector("[data-still]")?.getAttribute("data-still") === "true", undefined, { timeout: 300_000 });
  const gpu = await page.evaluate(() => {
    const gl = document.createElement("canvas").getContext("webgl2");
    const told = gl?.getExtension("WEBGL_debug_renderer_info");
    return gl ? String(gl.getParameter(told ? told.UNMASKED_RENDERER_WEBGL : gl.RENDERER)) : "none";
  });
  const renderer = await page.evaluate(() => document.querySelector("[data-renderer]")?.getAttribute("data-renderer"));
  // What the page's own work takes of each frame.
  await page.evaluate(() => {
    window.script_ms = [];
    const ask = window.requestAnimationFrame.bind(window);
    window.requestAnimationFrame = (work) =>
      ask((at) => {
        const begun = performance.now();
        work(at);
        window.script_ms.push(performance.now() - begun);
      });
  });
  const { x, y, width, height } = await box.boundingBox();
  await page.mouse.move(x + width / 2, y + height / 2);
  await page.mouse.down();
  await page.evaluate(() => (window.frames_drawn.length = 0));
  const ends = Date.now() + 6_000;
  for (let step = 0; Date.now() < ends; step += 1) {
    await page.mouse.move(x + width / 2 + 150 * Math.sin(step / 40), y + height / 2 + 100 * Math.cos(step / 40));
  }
  await page.mouse.up();
  const { at, script } = await page.evaluate(() => ({ at: window.frames_drawn.map((frame) => frame.at), script: window.script_ms }));
  await context.close();
  const gaps = at.slice(1).map((time, n) => time - at[n]).sort((a, b) => a - b);
  script.sort((a, b) => a - b);
  const sum = gaps.reduce((all, gap) => all + gap, 0);
  return {
    elements,
    links,
    renderer,
    gpu: /SwiftShader|llvmpipe/.test(gpu) ? `${/SwiftShader|llvmpipe/.exec(gpu)[0]}: software, no GPU` : gpu,
    frames_per_s: (gaps.length / sum) * 1_000,
    slow_ms: gaps[Math.floor(gaps.length * 0.95)],
    script_ms: script[Math.floor(script.length / 2)],
  };
}

const parts = { pages, graph, frames };
console.log(JSON.stringify(await parts[process.argv[2]]()));
await browser.close();

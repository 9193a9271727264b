"""The console in a headless Chromium, against a server of its own on SQLite: how soon its first page can be used, what JavaScript that takes, how soon
the overview of a graph of a million nodes is drawn, and how often 20,000 elements are drawn while they are moved. Goals: see `docs/BENCHMARKS.md`.

Needs Node, Chromium and what `cargo xtask browser` installs; the release build has to hold the console (`cargo xtask console` before it).
`CAIRN_BENCH_NODES` (default 1,000,000) is the size of the graph. `CAIRN_BENCH_ROUNDS` (default 7): medians are of so many.
"""

import base64
import hashlib
import json
import os
import pathlib
import ssl
import statistics
import subprocess
import sys
import tempfile

import measure

NODES = int(os.environ.get("CAIRN_BENCH_NODES", 1_000_000))
ROUNDS = int(os.environ.get("CAIRN_BENCH_ROUNDS", 7))
ENDED = ("completed", "partial", "failed", "cancelled")
UI = measure.ROOT / "ui"


def filler():
    """The program that makes the graph: see `crates/store/examples/bench_graph.rs`."""
    if not os.environ.get("CAIRN_BENCH_BIN"):
        subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "store", "--example", "bench_graph"], cwd=measure.ROOT, check=True)
    found = measure.binaries() / "examples" / "bench_graph"
    if not found.is_file():
        sys.exit(f"{found} is missing: run `cargo build --release -p store --example bench_graph`")
    return found


def pin(server):
    """The server's key, as Chromium is told to trust it."""
    leaf = (server.data / "tls.crt").read_text().partition(ssl.PEM_FOOTER)[0] + ssl.PEM_FOOTER
    spki = subprocess.run("openssl x509 -pubkey -noout | openssl pkey -pubin -outform DER", shell=True, input=leaf.encode(), capture_output=True, check=True).stdout
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


def browse(server, what):
    """What `console.mjs` measured of one part."""
    environment = os.environ | {
        "CAIRN_BENCH_URL": server.url,
        "CAIRN_BENCH_PIN": pin(server),
        "CAIRN_BENCH_PASSWORD": (server.folder / "second").read_text(),
        "CAIRN_BENCH_ROUNDS": str(ROUNDS),
    }
    done = subprocess.run(["node", measure.ROOT / "benches" / "console.mjs", what], env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def seconds(name, times, goal="<= 1"):
    measure.say(f"{name}: {', '.join(f'{time:.0f}' for time in sorted(times))} ms")
    measure.figure(name, statistics.median(times) / 1_000, "s", "1 s", 1, goal)


def first_pages(server, where):
    found = browse(server, "pages")
    for page, name in (("login", "sign-in page"), ("home", f"home of {where}")):
        for cache in ("cold", "warm"):
            seconds(f"{name}, {cache} cache: can be used", found[page][cache]["usable"])
        if page == "home":
            seconds(f"{name}, warm cache: all panels are filled", found[page]["warm"]["filled"], goal="")
        measure.figure(f"{name}: compressed JavaScript", found[page]["bytes"] / 1_000, "KB", "200 KB", 200, "<= 1")


def main():
    if not (UI / "node_modules" / "playwright-core").is_dir():
        sys.exit("Playwright is not installed: run `cargo xtask console`")
    fill = filler()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        small = measure.Server(folder / "small", CAIRN_DISCOVERY_OWN_HOST="true")
        small.start()
        small.login(first=True)
        measure.until("the discovery of this host", lambda: next((j for j in small.json("jobs", "list") if j["status"] in ENDED), None))
        first_pages(small, "this host")
        small.stop()

        large = measure.Server(folder / "large")
        large.start()
        large.login(first=True)
        large.stop()
        measure.say(f"filling the graph with {NODES:,} nodes")
        subprocess.run([fill], env=os.environ | {"CAIRN_BENCH_INTO": str(large.data), "CAIRN_BENCH_NODES": str(NODES)}, check=True)
        large.start()
        graph = browse(large, "graph")
        seconds(f"graph of {NODES:,} nodes, server just started: overview is drawn", graph["first"])
        seconds(f"graph of {NODES:,} nodes, page loaded anew: overview is drawn", graph["loaded"])
        seconds(f"graph of {NODES:,} nodes, from the home page: overview is drawn", graph["clicked"])
        first_pages(large, f"{NODES:,} nodes")
        large.stop()

        small.start()
        moved = browse(small, "frames")
        measure.say(f"drawn by {moved['renderer']}, {moved['gpu']}: {moved['elements']} elements, {moved['links']} connections")
        how = f"{moved['elements']:,} elements moved ({moved['gpu']})"
        measure.figure(f"graph, {how}: drawn", moved["frames_per_s"], "frames/s", "smooth", 30, ">= 1")
        measure.figure(f"graph, {how}: slowest of 20 frames", moved["slow_ms"], "ms", "two frames of 30", 67, "")
        measure.figure(f"graph, {how}: the console's own time for a frame", moved["script_ms"], "ms", "a frame of 60", 16.7, "<= 1")
        small.stop()


main()

"""A fleet against one server: memory of each that is connected, and how all come back when the server was killed. Goals: see `docs/BENCHMARKS.md`.

`CAIRN_BENCH_AGENTS` (default 10,000) and `CAIRN_BENCH_RELAYS` (default 1,000) simulated ones in one process (`crates/server/examples/bench_fleet.rs`).
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import measure

AGENTS, RELAYS = (int(os.environ.get(f"CAIRN_BENCH_{name}", default)) for name, default in (("AGENTS", 10_000), ("RELAYS", 1_000)))


def program():
    if not os.environ.get("CAIRN_BENCH_BIN"):
        subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "server", "--example", "bench_fleet"], cwd=measure.ROOT, check=True)
    found = measure.binaries() / "examples" / "bench_fleet"
    if not found.is_file():
        sys.exit(f"{found} is missing: run `cargo build --release -p server --examples`")
    return found


def main():
    fleet = program()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        # All come from one address here.
        room = str(AGENTS + RELAYS + 500)
        server = measure.Server(folder / "server", CAIRN_SERVER_CONNECTIONS_MAX=room, CAIRN_SERVER_CONNECTIONS_PER_ADDRESS=room,
                                CAIRN_LOG_LEVEL="warn")
        server.start()
        server.login(first=True)
        port = server.url.rpartition(":")[2]
        server.listen = f"127.0.0.1:{port}"
        words = [fleet, port, server.data / "ca.crt", server.folder / "home" / "config.json", AGENTS, RELAYS]
        ran = subprocess.Popen([str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for line in ran.stdout:
            if line.strip() != "restart":
                print(line, end="", flush=True)
                continue
            server.child.kill()
            server.child.wait()
            server.start()
            ran.stdin.write(f"{server.child.pid}\n")
            ran.stdin.flush()
        if code := ran.wait():
            sys.exit(f"{fleet} ended with {code}")
        server.stop()


main()

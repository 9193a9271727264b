"""Agents: how many reports one server takes in, and what one agent costs its host. Goals: see `docs/BENCHMARKS.md`.

`CAIRN_BENCH_AGENTS` (default 64) simulated ones report for `CAIRN_BENCH_SECONDS` (default 10) each way. The real one runs every collector
in `CAIRN_BENCH_CYCLES` (default 6) cycles, which come faster than at its default of 300 s: what a cycle costs is divided by that.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import measure

AGENTS, SECONDS, CYCLES = (int(os.environ.get(f"CAIRN_BENCH_{name}", default)) for name, default in (("AGENTS", 64), ("SECONDS", 10), ("CYCLES", 6)))
INTERVAL_S, DEFAULT_S = 10, 300


def programs():
    """The agent and the load."""
    if not os.environ.get("CAIRN_BENCH_BIN"):
        for what in (["-p", "agent", "--bin", "cairn-agent"], ["-p", "agent", "--example", "bench_agent"]):
            subprocess.run(["cargo", "build", "--quiet", "--release", *what], cwd=measure.ROOT, check=True)
    found = measure.binaries() / "cairn-agent", measure.binaries() / "examples" / "bench_agent"
    for program in found:
        if not program.is_file():
            sys.exit(f"{program} is missing: run `cargo build --release -p agent --bins --examples`")
    return found


def new_token(server):
    made = server.cairn("agents", "tokens", "create", "-o", "json", stderr=subprocess.DEVNULL)[4]
    return json.loads(made)["token"]


def one_agent(program, server, folder):
    environment = server.environment | {
        "CAIRN_AGENT_SERVER": server.url,
        "CAIRN_AGENT_CA_FILE": str(server.data / "ca.crt"),
        "CAIRN_AGENT_STATE_DIR": str(folder / "agent"),
        "CAIRN_AGENT_INTERVAL_S": str(INTERVAL_S),
        "CAIRN_AGENT_CPU_PERCENT_MAX": "100",
        # As its unit sets them.
        "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072",
    }
    token = new_token(server)
    subprocess.run([program, "enroll", "--name", "real"], env=environment, input=token, text=True, check=True, stdout=subprocess.DEVNULL)
    agent = subprocess.Popen([program, "run"], env=environment, stderr=subprocess.DEVNULL)

    def status():
        file = folder / "agent" / "status.json"
        return json.loads(file.read_text()) if file.exists() else None

    def cycles(count):
        """Waits for so many cycles that the server took; what they cost, in seconds of a core."""
        before, last = measure.cpu_s(agent.pid), (status() or {}).get("collected_at")

        def another():
            now = status()
            return now["collected_at"] if now and now["accepted_at"] and now["collected_at"] != last else None

        for _ in range(count):
            last = measure.until("a cycle", another)
        return measure.cpu_s(agent.pid) - before

    try:
        first = cycles(1)
        measure.say(f"the first report, of everything, took {first:.2f} s of a core")
        cost = cycles(CYCLES) / CYCLES
        rss, peak = (measure.kilobytes(agent.pid, "status", name) for name in ("VmRSS", "VmHWM"))
        nodes = sum(scope["nodes"] for scope in status()["scopes"].values())
    finally:
        agent.terminate()
        agent.wait(measure.PATIENCE_S)
    measure.figure(f"agent RSS after {CYCLES + 1} cycles ({nodes} nodes)", rss, "MB", "30 MB", 30, "<= 1")
    measure.figure("agent peak RSS, with the first report", peak, "MB", "30 MB", 30)
    measure.figure(f"agent CPU, a cycle of all collectors in {DEFAULT_S} s", cost / DEFAULT_S * 100, "% of a core", "0.5 %", 0.5, "<= 1")


def many_agents(load, server, folder):
    tokens = [new_token(server) for _ in range(AGENTS)]
    (folder / "tokens").write_text("".join(f"{token}\n" for token in tokens))
    (folder / "agents").mkdir(mode=0o700)
    words = [load, server.url, server.data / "ca.crt", server.child.pid, folder / "tokens", folder / "agents", SECONDS]
    subprocess.run([str(word) for word in words], check=True)


def main():
    agent, load = programs()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        # Each of few stands for very many.
        server = measure.Server(folder / "server", CAIRN_DISCOVERY_REPORTS_PER_MIN="1000000")
        server.start()
        server.login(first=True)
        one_agent(agent, server, folder)
        many_agents(load, server, folder)
        server.stop()


main()

"""How soon a server is ready and how much memory it keeps, on SQLite; and how soon the command line is there. Goals: see `docs/BENCHMARKS.md`."""

import pathlib
import statistics
import tempfile
import time

import measure

COLD, WARM, VERSION = 3, 5, 20
IDLE_S = 10
ENDED = ("completed", "partial", "failed", "cancelled")


def memory(server, when, goal):
    time.sleep(IDLE_S)
    for name, file, line, limit in (("RSS", "status", "VmRSS", goal), ("PSS", "smaps_rollup", "Pss", "")):
        measure.figure(f"server {name}, {when}", measure.kilobytes(server.child.pid, file, line), "MB", "60 MB", 60, limit)


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        cold = []
        for n in range(COLD):
            server = measure.Server(folder / f"cold-{n}")
            cold.append(server.start())
            if n + 1 < COLD:
                server.stop()
        measure.figure("server start, first on an empty directory", statistics.median(cold), "s", "1 s", 1)
        server.stop()
        warm = []
        for _ in range(WARM):
            warm.append(server.start())
            if len(warm) < WARM:
                server.stop()
        measure.figure("server start, later", statistics.median(warm), "s", "1 s", 1, "<= 1")
        memory(server, f"{IDLE_S} s after its start", "<= 1")
        server.stop()

        server = measure.Server(folder / "own-host", CAIRN_DISCOVERY_OWN_HOST="true")
        server.start()
        server.login(first=True)
        job = measure.until("the discovery of this host", lambda: next((j for j in server.json("jobs", "list") if j["status"] in ENDED), None))
        nodes = len(server.json("nodes", "list", "--all"))
        measure.say(f"discovery of this host: {job['status']}, {nodes} nodes")
        memory(server, f"{IDLE_S} s after it discovered this host ({nodes} nodes)", "")
        measure.figure("server peak RSS while it discovered this host", measure.kilobytes(server.child.pid, "status", "VmHWM"), "MB", "60 MB", 60)
        server.stop()

        times = [server.cairn("--version")[0] * 1000 for _ in range(VERSION)]
        measure.figure(f"`cairn --version`, median of {VERSION}", statistics.median(times), "ms", "30 ms", 30, "<= 1")


main()

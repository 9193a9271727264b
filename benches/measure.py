"""What the benchmarks of this folder share: a server of their own, what the kernel says of a process, and the figures that they print.

Needs nothing but Python. `CAIRN_BENCH_BIN` names a folder with release builds of `cairn-server` and `cairn`; without it they are built.
"""

import atexit
import hashlib
import json
import os
import pathlib
import resource
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATIENCE_S = 300
TICKS = os.sysconf("SC_CLK_TCK")
TRUST_ANYBODY = ssl._create_unverified_context()  # noqa: S323: a server that this process started, on loopback


def say(text):
    print(text, file=sys.stderr, flush=True)


def figure(bench, value, unit, compared_to, compared_value, goal="", ratio=None):
    """Prints one line as `cargo xtask bench` reads it. Without a goal it is shown and not judged."""
    ratio = value / compared_value if ratio is None else ratio
    line = {"bench": bench, "value": value, "unit": unit, "compared_to": compared_to, "compared_value": compared_value, "ratio": ratio}
    print(json.dumps({name: round(cell, 4) if isinstance(cell, float) else cell for name, cell in line.items()} | {"goal": goal}), flush=True)


def binaries():
    """The folder of the release builds."""
    if given := os.environ.get("CAIRN_BENCH_BIN"):
        folder = pathlib.Path(given).resolve()
    else:
        subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "server", "-p", "cli", "-p", "relay"], cwd=ROOT, check=True)
        folder = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release"
    for name in ("cairn-server", "cairn"):
        if not (folder / name).is_file():
            sys.exit(f"{folder / name} is missing: run `cargo build --release -p server -p cli`")
    return folder


def until(what, look):
    """What `look` found, asked every 2 ms: finer than anything measured here."""
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        if (found := look()) is not None:
            return found
        time.sleep(0.002)
    sys.exit(f"{what} did not happen within {PATIENCE_S} s")


def kilobytes(pid, file, name):
    """A line such as `VmRSS:  1234 kB` of a file in /proc, as MB of 1,000,000 bytes."""
    for line in pathlib.Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    sys.exit(f"the kernel tells no {name} of process {pid}")


def cpu_s(pid):
    """User and system time of a running process and of its ended children."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def folder_bytes(folder):
    return sum(file.stat().st_size for file in pathlib.Path(folder).rglob("*") if file.is_file())


def high_water(pid, peak):
    """Reads the peak of a process's memory every 5 ms until it ends."""
    program = pathlib.Path(f"/proc/{pid}/exe")
    ours = pathlib.Path("/proc/self/exe").resolve()
    while True:
        try:
            # Before its `exec` the child is a copy of this process.
            if program.resolve(strict=True) != ours:
                for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        peak[0] = max(peak[0], int(line.split()[1]) * 1024 / 1e6)
        except OSError:
            return
        time.sleep(0.005)


def run(command, **options):
    """Runs a command to its end: seconds, user and system seconds, peak resident MB (with its children), exit code, what it printed."""
    with tempfile.TemporaryFile() as out:
        begun = time.perf_counter()
        child = subprocess.Popen([str(word) for word in command], stdout=out, **options)
        watch = threading.Thread(target=high_water, args=(child.pid, peak := [0.0]))
        watch.start()
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begun
        watch.join()
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        # The kernel counts what this process itself had when it started the child: only what is above that is the child's for certain.
        memory = used.ru_maxrss * 1024 / 1e6
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        memory = memory if memory > own else peak[0] or memory
        return wall, used.ru_utime + used.ru_stime, memory, child.returncode, out.read().decode()


class Server:
    """A `cairn-server` on a data directory of its own, which outlives stops."""

    def __init__(self, folder, **environment):
        self.binaries, self.folder, self.listen = binaries(), pathlib.Path(folder), "127.0.0.1:0"
        self.folder.mkdir(mode=0o700)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "CAIRN_HOME": str(self.folder / "home"),
            "CAIRN_SERVER_METRICS_LISTEN": "",
            "CAIRN_DISCOVERY_OWN_HOST": "false",
        } | environment
        for name in ("first", "second"):
            with open(os.open(self.folder / name, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
                file.write(f"A-{name}-password-of-a-benchmark")

    @property
    def data(self):
        return self.folder / "data"

    def start(self):
        """Starts it; seconds from exec to the first 200 of /readyz."""
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        command = [self.binaries / "cairn-server", "--data-dir", self.data, "--listen", self.listen, "--port-file", port_file,
                   "--admin-password-file", self.folder / "first"]
        begun = time.perf_counter()
        with open(self.folder / "log", "ab") as log:
            self.child = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        atexit.register(self.child.kill)
        self.url = f"https://127.0.0.1:{until('the start', lambda: self._port(port_file))}"
        until("/readyz 200", self._ready)
        return time.perf_counter() - begun

    def _port(self, file):
        if self.child.poll() is not None:
            sys.exit(f"cairn-server ended: see its log:\n{(self.folder / 'log').read_text()}")
        return file.read_text().strip() or None if file.exists() else None

    def _ready(self):
        try:
            with urllib.request.urlopen(self.url + "/readyz", timeout=10, context=TRUST_ANYBODY) as answer:
                return True if answer.status == 200 else None
        except (urllib.error.URLError, ConnectionError):
            return None

    def stop(self):
        """Asks it to stop, which folds the write-ahead log into the database."""
        self.child.terminate()
        if code := self.child.wait(PATIENCE_S):
            sys.exit(f"cairn-server ended with {code}:\n{(self.folder / 'log').read_text()}")

    def cairn(self, *words, **options):
        """Runs the command line; as `run`."""
        ran = run([self.binaries / "cairn", *words], env=self.environment, **options)
        if ran[3]:
            sys.exit(f"`cairn {' '.join(map(str, words))}` ended with {ran[3]}")
        return ran

    def json(self, *words):
        return json.loads(self.cairn(*words, "-o", "json")[4])

    def login(self, first):
        """Signs in, the first time with the first password, which is replaced."""
        leaf = (self.data / "tls.crt").read_text().partition(ssl.PEM_FOOTER)[0] + ssl.PEM_FOOTER
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(leaf)).hexdigest()
        new = ["--new-password-file", self.folder / "second"] if first else []
        self.cairn("login", self.url, "--user", "admin@localhost", "--trust", digest, "--password-file",
                   self.folder / ("first" if first else "second"), *new, stderr=subprocess.DEVNULL)


class Relay:
    """A `cairn-relay` that enrolls itself with a server."""

    def __init__(self, server, folder, **environment):
        program = binaries() / "cairn-relay"
        if not program.is_file():
            sys.exit(f"{program} is missing: run `cargo build --release -p relay`")
        made = json.loads(server.cairn("relays", "tokens", "create", "-o", "json", stderr=subprocess.DEVNULL)[4])
        with open(os.open(folder / "enrollment", os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(made["token"])
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "RELAY_SERVER": server.url, "RELAY_NAME": "bench",
            "RELAY_TOKEN": f"file:{folder / 'enrollment'}", "RELAY_DATA_DIR": str(folder / "relay"),
            "RELAY_CA_CERT": str(server.data / "ca.crt"),
        } | environment
        with open(folder / "relay.log", "ab") as log:
            self.child = subprocess.Popen([program], env=environment, stdout=log, stderr=log)
        atexit.register(self.child.kill)

    def stop(self):
        self.child.terminate()
        self.child.wait()

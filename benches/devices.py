"""Network devices that one relay discovers in an hour: the real server, the real relay, and as many agents of net-snmp. Goals: see
`docs/BENCHMARKS.md`.

`CAIRN_BENCH_DEVICES` (default 500) devices are read with SNMPv3 (SHA-256, AES) and all collectors, each with `CAIRN_BENCH_INTERFACES` (default 48)
interfaces and, since it tells what is installed here, some hundreds of packages, in a network namespace of their own: run it as root. Devices, relay
and server share the machine. The second run finds nothing new.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import measure

DEVICES, INTERFACES = (int(os.environ.get(f"CAIRN_BENCH_{name}", default)) for name, default in (("DEVICES", 500), ("INTERFACES", 48)))
GOAL = 10_000
INSIDE = "CAIRN_BENCH_INSIDE"
PASSWORD = "a password of a benchmark"
FIRST_PORT = 20_000


def inside():
    """Runs this program once more, in a network of its own with interfaces."""
    if os.environ.get(INSIDE):
        return
    if os.geteuid():
        sys.exit("network namespaces need root: run this as root")
    measure.binaries()
    os.execvpe("unshare", ["unshare", "--net", sys.executable, "-B", __file__], os.environ | {INSIDE: "1"})


def interfaces():
    links = "".join(f"link add a{pair} type veth peer name b{pair}\n" for pair in range(INTERFACES // 2))
    subprocess.run(["ip", "-batch", "-"], input=f"link set lo up\n{links}", text=True, check=True)


def device(folder, number):
    """Starts an agent, with an engine of its own, so that it is a device of its own."""
    place = folder / f"device-{number}"
    place.mkdir()
    (place / "snmpd.conf").write_text(f"engineID device-{number}-of-a-benchmark\nsysName device-{number}\n"
                                      f'createUser reader SHA-256 "{PASSWORD}" AES "{PASSWORD}"\nrouser reader priv\n')
    command = ["/usr/sbin/snmpd", "-f", "-Le", "-C", "-c", place / "snmpd.conf", "-p", place / "pid", f"udp:127.0.0.1:{FIRST_PORT + number}"]
    environment = {"PATH": os.environ["PATH"], "SNMP_PERSISTENT_DIR": str(place / "memory"), "SNMPCONFPATH": str(place), "MIBS": ""}
    with open(place / "log", "wb") as log:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log), place / "log"


def devices(folder):
    started = []
    for number in range(DEVICES):
        child, log = device(folder, number)
        started.append(child)
        # It says its name when it answers.
        measure.until("an agent", lambda: True if b"NET-SNMP version" in log.read_bytes() else None)
    return started


def job(server):
    """Reads all devices once: seconds until the job has ended."""
    targets = ",".join(f"127.0.0.1:{FIRST_PORT + number}" for number in range(DEVICES))
    begun = time.perf_counter()
    ran = server.cairn("jobs", "run", "--plugin", "snmp", "--credential", "reader", "--relay", "bench", "--set", f"targets={targets}", "--wait",
                       "-o", "json", stderr=subprocess.DEVNULL)
    took = time.perf_counter() - begun
    if (status := json.loads(ran[4])["status"]) != "completed":
        sys.exit(f"the job ended as {status}")
    return took


def main():
    inside()
    interfaces()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        measure.say(f"starting {DEVICES} devices")
        running = devices(folder)
        try:
            server = measure.Server(folder / "server", CAIRN_LOG_LEVEL="warn")
            server.start()
            server.login(first=True)
            server.cairn("tenants", "target-policy", "--allow", "127.0.0.0/8")
            user = {"username": "reader", "auth_protocol": "SHA-256", "auth_password": PASSWORD, "privacy_protocol": "AES", "privacy_password": PASSWORD}
            (folder / "secret").write_text(json.dumps(user))
            with open(folder / "secret") as secret:
                server.cairn("creds", "add", "--plugin", "snmp", "--name", "reader", "--type", "snmp-v3", "--secret-stdin", stdin=secret)
            relay = measure.Relay(server, folder)
            measure.until("the relay", lambda: next((True for relay in server.json("relays", "list") if relay["health"] == "online"), None))
            times = []
            for run in ("first", "second"):
                before = measure.cpu_s(relay.child.pid)
                times.append(job(server))
                measure.say(f"the {run} run took {times[-1]:.1f} s, and the relay {measure.cpu_s(relay.child.pid) - before:.1f} s of a core")
            nodes = len(server.json("nodes", "list", "--all"))
            found = len(server.json("nodes", "list", "--type", "snmp.chassis", "--all"))
            peak = measure.kilobytes(relay.child.pid, "status", "VmHWM")
            relay.stop()
            server.stop()
        finally:
            for child in running:
                child.kill()
    if found != DEVICES:
        sys.exit(f"{found} devices were found, of {DEVICES}")
    for run, took in zip(("first", "second"), times):
        measure.figure(f"devices a relay discovers in an hour, {run} run over {DEVICES} of {nodes} nodes", DEVICES / took * 3_600, "devices/h",
                       "goal", float(GOAL), ">= 1")
    measure.say(f"the relay's peak RSS was {peak:.0f} MB")


main()

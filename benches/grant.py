"""From a grant that is taken away to the end of what it had open: the real server, the real relay in front of a cluster that answers at once, and a
watch through both. Goals: see `docs/BENCHMARKS.md`.

`CAIRN_BENCH_ROUNDS` (default 20): each makes a grant, opens a watch with a token for it, takes the grant away over the API, and waits for the watch's end.
"""

import http.client
import http.server
import json
import os
import pathlib
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import measure

ROUNDS = int(os.environ.get("CAIRN_BENCH_ROUNDS", 20))
LIMIT_MS = 2_000
NAMESPACES = {"kind": "NamespaceList", "apiVersion": "v1", "metadata": {}, "items": [{"metadata": {"name": "a"}}]}


class Cluster(http.server.BaseHTTPRequestHandler):
    """An API server that has a namespace, and watches in which nothing happens after their first line."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        if "watch=1" not in self.path:
            body = json.dumps(NAMESPACES).encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"3\r\n{}\n\r\n")
        self.wfile.flush()
        self.connection.recv(1)
        self.close_connection = True

    def log_message(self, *_):
        pass


def certificates(folder):
    """An authority and a certificate for 127.0.0.1, by openssl."""
    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=bench", "-days", "2")
    openssl("req", *curve, "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=127.0.0.1")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n")
    openssl("x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "tls.crt", "-days", "2",
            "-extfile", "names")


def cluster(folder):
    """Starts the cluster; where it is reached."""
    certificates(folder)
    (folder / "token").write_text("the-service-account")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cluster)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_address[1]}"


def token_of(document):
    """The session's token, wherever the command line keeps it."""
    if isinstance(document, dict):
        own = document.get("token")
        return own if isinstance(own, str) else next(filter(None, map(token_of, document.values())), None)
    return None


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "account").mkdir()
        address = cluster(folder / "account")
        server = measure.Server(folder / "server", CAIRN_LOG_LEVEL="warn")
        server.start()
        server.login(first=True)
        relay = measure.Relay(server, folder, RELAY_CLUSTER_NAME="prod", RELAY_CLUSTER_API=address,
                              RELAY_CLUSTER_ACCOUNT_DIR=str(folder / "account"))
        try:
            measure.until("the cluster", lambda: server.json("destinations", "list") or None)
            destination = server.json("destinations", "show", "prod")["id"]
            session = token_of(json.loads((server.folder / "home" / "config.json").read_text()))
            times = [round_trip(server, destination, session) for _ in range(ROUNDS)]
        finally:
            relay.stop()
        server.stop()
    measure.figure("grant taken away until its open watch ends, p50", statistics.median(times), "ms", "goal", float(LIMIT_MS), "<= 1")
    measure.figure("grant taken away until its open watch ends, slowest", max(times), "ms", "goal", float(LIMIT_MS), "<= 1")


def ask(server, path, token, method="GET"):
    request = urllib.request.Request(f"{server.url}/api/v1/tenants/default/{path}", method=method,
                                     headers={"Authorization": f"Bearer {token}"})
    return urllib.request.urlopen(request, timeout=60, context=measure.TRUST_ANYBODY)


def round_trip(server, destination, session):
    """Milliseconds from the API's answer to the end of the watch."""
    grant = json.loads(server.cairn("grants", "create", "edit", "--user", "admin@localhost", "--destination", "prod", "-o", "json")[4])["id"]
    shutil.rmtree(server.folder / "home" / "tokens", ignore_errors=True)
    token = json.loads(server.cairn("tokens", "add", "prod", "--role", "edit")[4])["status"]["token"]
    watch = ask(server, f"destinations/{destination}/proxy/api/v1/namespaces/a/pods?watch=1", token)
    watch.readline()
    ended = []

    def wait():
        try:
            watch.read()
        except OSError:
            pass
        except http.client.IncompleteRead:
            pass
        ended.append(time.perf_counter())

    waiting = threading.Thread(target=wait)
    waiting.start()
    with ask(server, f"grants/{grant}", session, "DELETE"):
        answered = time.perf_counter()
    waiting.join()
    return max(ended[0] - answered, 0.0) * 1e3


main()

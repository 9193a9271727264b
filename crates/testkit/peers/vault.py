"""A double of Vault's transit engine: vault.py TOKEN KEYS. Serves on a free port of the loopback, which it prints.

It checks what Vault checks: the token, the header that browsers cannot send, base64, and that a ciphertext comes back to the key and with the
associated data that it was made with. KEYS is a file of key names, one in each line, read at each request: a name that is taken out is a key that
was deleted.
"""

import base64
import http.server
import json
import pathlib
import sys

TOKEN, KEYS = sys.argv[1], pathlib.Path(sys.argv[2])


class Vault(http.server.BaseHTTPRequestHandler):
    """The three calls of a key provider."""

    def log_message(self, *_):
        """Nothing: stdout is for the port."""

    def reply(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def refuse(self, status, message):
        self.reply(status, {"errors": [message]})

    def admitted(self):
        if self.headers.get("x-vault-request") != "true" or self.headers.get("x-vault-token") != TOKEN:
            self.refuse(403, "permission denied")
            return False
        return True

    def do_GET(self):
        if self.admitted():
            if self.path == "/v1/auth/token/lookup-self":
                self.reply(200, {"data": {"ttl": 0, "renewable": False}})
            else:
                self.refuse(404, "no handler for route")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self.admitted():
            return
        *mount, action, key = self.path.split("/")
        if mount != ["", "v1", "transit"] or key not in KEYS.read_text().split():
            self.refuse(400, "encryption key not found")
        elif action == "encrypt":
            base64.b64decode(body["plaintext"], validate=True)
            sealed = json.dumps([key, body["plaintext"], body.get("associated_data")]).encode()
            self.reply(200, {"data": {"ciphertext": "vault:v1:" + base64.b64encode(sealed).decode()}})
        elif action == "decrypt":
            held, plaintext, associated = json.loads(base64.b64decode(body["ciphertext"].removeprefix("vault:v1:")))
            if (held, associated) != (key, body.get("associated_data")):
                self.refuse(400, "cipher: message authentication failed")
            else:
                self.reply(200, {"data": {"plaintext": plaintext}})
        else:
            self.refuse(404, "unsupported path")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Vault)
print(server.server_port, flush=True)
server.serve_forever()

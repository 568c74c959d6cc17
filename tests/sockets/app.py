"""The app beside a sidecar, a program of its own: plain HTTP on PORT, nothing of the mesh. `python app.py NAME`.

Paths: /environment, /call?url=URL (through HTTP_PROXY), /hold (until /release, /held tells), /die (half an answer),
/exit?status=N; a POST is echoed, anything else tells who answered.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

TOLD = ("PORT", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "MESH_UPSTREAMS")
DEADLINE = 20.0
held = threading.Event()
released = threading.Event()


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path == "/environment":
            self.tell({key: os.environ.get(key) for key in TOLD})
        elif path == "/call":
            self.tell(call(query["url"][0]))
        elif path == "/hold":
            held.set()
            self.tell({"released": released.wait(DEADLINE)})
        elif path == "/held":
            self.tell({"held": held.wait(DEADLINE)})
        elif path == "/release":
            released.set()
            self.tell({})
        elif path == "/die":
            self.send_response(200)
            self.send_header("content-length", "1000")
            self.end_headers()
            self.wfile.write(b"half of it")
            self.close_connection = True
        elif path == "/exit":
            self.tell({})
            self.wfile.flush()
            os._exit(int(query["status"][0]))
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.tell({"name": sys.argv[1], "path": self.path, "headers": headers})

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers.get("content-length", "0"))))

    def tell(self, value: object) -> None:
        self.answer(json.dumps(value).encode())

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def call(url: str) -> dict[str, object]:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
            return {"status": answer.status, "body": answer.read().decode()}
    except urllib.error.HTTPError as exc:
        with exc:
            return {"status": exc.code, "body": exc.read().decode()}


if __name__ == "__main__":
    with Server(("127.0.0.1", int(os.environ["PORT"])), App) as server:
        server.serve_forever()

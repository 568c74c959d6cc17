"""An app whose health a test decides: `python health_app.py NAME`, on PORT.

/be?health=N and /be?answer=N set the status of /health and of everything else from then on.
"""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

statuses = {"health": 200, "answer": 200}


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/be":
            statuses.update({name: int(values[0]) for name, values in parse_qs(url.query).items()})
            self.answer(200)
        else:
            self.answer(statuses["health" if url.path == "/health" else "answer"])

    def answer(self, status: int) -> None:
        body = sys.argv[1].encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


class Server(ThreadingHTTPServer):
    daemon_threads = True


if __name__ == "__main__":
    with Server(("127.0.0.1", int(os.environ["PORT"])), App) as server:
        server.serve_forever()

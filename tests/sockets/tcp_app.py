"""A TCP server on PORT, a program of its own. `python tcp_app.py greeter` speaks first and echoes one line;
`python tcp_app.py summer` reads to the end, then answers the sum of the bytes."""

from __future__ import annotations

import os
import socketserver
import sys


class Greeter(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 greeter\r\n")
        self.wfile.write(b"221 " + self.rfile.readline())


class Summer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"%d" % sum(self.rfile.read()))


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


if __name__ == "__main__":
    kind = {"greeter": Greeter, "summer": Summer}[sys.argv[1]]
    with Server(("127.0.0.1", int(os.environ["PORT"])), kind) as server:
        server.serve_forever()

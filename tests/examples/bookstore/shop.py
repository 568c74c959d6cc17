"""Starts the bookstore's services as ordinary processes on free ports and talks to them."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[3] / "examples" / "bookstore"
DEADLINE = 20.0


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str

    @property
    def data(self) -> object:
        return json.loads(self.text)


class Shop:
    """One running service."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, fields, response.read().decode())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Response:
        return self.ask("GET", path, **headers)


@contextmanager
def running(script: str, *arguments: str, **env: str) -> Iterator[Shop]:
    """Run FOLDER/script.py until the block ends; it must end well on SIGTERM."""
    clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    process = subprocess.Popen(
        [sys.executable, str(FOLDER / f"{script}.py"), *arguments],
        env={**clean, "PORT": "0", **env},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr:
        try:
            line = process.stderr.readline()
            found = re.search(r"listening on (\d+)", line)
            assert found, line
            yield Shop(int(found[1]))
        finally:
            process.terminate()
            assert process.wait(DEADLINE) == 0

"""Short calls and what becomes of their failures; the pilot's side is played by a fake with canned answers."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from mesh.ctl.api import PilotApi, fetch
from mesh.ctl.current import PilotAddress
from mesh.errors import MeshError

ANSWERS = {
    "/fine?kind=Service": (200, b'["it"]'),
    "/apply?wait=3": (200, b'{"acked": true}'),
    "/refused": (401, b'{"error": "the token is missing or wrong; send it"}'),
    "/invalid": (422, b'{"errors": [{"text": "a.yaml:1:1 wrong"}, "b.yaml:2:2 wrong too"]}'),
    "/missing": (404, b'{"error": "there is no such thing; see the list"}'),
    "/text": (500, b"plain words\n"),
    "/list": (500, b"[1]"),
}


class FakePilot(http.server.BaseHTTPRequestHandler):
    seen: list[tuple[str, str | None, bytes]] = []  # noqa: RUF012 - one fake for the module

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.seen.append((self.command, self.headers.get("authorization"), body))
        status, answer = ANSWERS[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def pilot() -> Iterator[PilotApi]:
    FakePilot.seen.clear()
    with http.server.HTTPServer(("127.0.0.1", 0), FakePilot) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield PilotApi(PilotAddress(f"http://127.0.0.1:{server.server_port}", "secret"))
        server.shutdown()
        thread.join()


def test_answers_are_json_and_the_token_goes_along(pilot: PilotApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert pilot.get("/fine", kind="Service", name="") == ["it"]
    assert pilot.post("/apply", b"text", wait=3.0) == {"acked": True}
    assert FakePilot.seen == [("GET", "Bearer secret", b""), ("POST", "Bearer secret", b"text")]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/refused", r"refuses the token: .*give --token-file of this very pilot"),
        ("/invalid", r"\Aa\.yaml:1:1 wrong\nb\.yaml:2:2 wrong too\Z"),
        ("/missing", r"\Athere is no such thing; see the list\Z"),
        ("/text", r"the pilot at http://.*/text answers 500: plain words"),
        ("/list", r"answers 500: \[1\]"),
    ],
)
def test_refusals_are_told_in_the_pilots_words(pilot: PilotApi, path: str, message: str) -> None:
    with pytest.raises(MeshError, match=message):
        pilot.get(path)


def test_nobody_there_is_told_with_the_address() -> None:
    with pytest.raises(MeshError, match=r"the agent at http://127\.0\.0\.1:1/ does not answer: .*; is it running\?"):
        fetch("http://127.0.0.1:1/", whom="the agent")

"""How the acceptance script fails; that it passes is tests/sockets/test_demo.py's business."""

from __future__ import annotations

import sys

import pytest

from mesh.ctl import check


def stand_in(code: str) -> object:
    return lambda script: (sys.executable, "-S", "-c", code)


def test_a_demo_that_cannot_start_fails_the_script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "program_argv", stand_in("print('no room'); raise SystemExit(2)"))
    assert check.run_check() == 1
    printed = capsys.readouterr().out
    assert printed.startswith("✗ start")
    assert "the demo ended with status 2: no room" in printed
    assert "page answers" not in printed


def test_a_demo_that_is_never_ready_is_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "program_argv", stand_in("import time; time.sleep(600)"))
    monkeypatch.setattr(check, "_START", 0.2)
    assert check.run_check() == 1
    assert "not ready after 0.2 s: no word" in capsys.readouterr().out


def test_a_page_that_is_not_the_bookstores_fails_its_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = """
import http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'hello')
server = http.server.HTTPServer(('127.0.0.1', 0), Page)
print(f'ready page=http://127.0.0.1:{server.server_port}/productpage', flush=True)
server.serve_forever()
"""
    monkeypatch.setattr(check, "program_argv", stand_in(code))
    assert check.run_check() == 1
    assert "✗ page answers" in (printed := capsys.readouterr().out)
    assert "the page lacks 'William Shakespeare'" in printed

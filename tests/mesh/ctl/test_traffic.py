"""Counts read from an exposition."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from mesh.ctl import traffic
from mesh.ctl.traffic import Count


def line(reporter: str, service: str, version: str, code: str, value: str) -> str:
    labels = f'reporter="{reporter}",destination_service_name="{service}",destination_version="{version}"'
    return f'istio_requests_total{{{labels},response_code="{code}"}} {value}\n'


TEXT = (
    "# TYPE istio_requests_total counter\n"
    + line("source", "reviews", "v1", "200", "5")
    + line("source", "reviews", "v1", "503", "2")
    + line("source", "reviews", "v3", "200", "1e1")
    + line("source", "ratings", "v1", "200", "9")
    + line("destination", "reviews", "v1", "200", "7")
    + 'other_total{reporter="source"} 1\n'
)


class FakeAdmin(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/stats/prometheus" else 404)
        self.end_headers()
        self.wfile.write(TEXT.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def admin() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), FakeAdmin) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_counts_of_one_reporter_by_version_and_status() -> None:
    found = traffic.parse_counts(TEXT, "source")
    assert found[0] == Count("reviews", "v1", "200", 5)
    assert traffic.by_version(found, "reviews") == {"v1": 7, "v3": 10}
    assert traffic.by_version(found, "reviews", errors=True) == {"v1": 2}
    assert traffic.parse_counts(TEXT, "destination") == [Count("reviews", "v1", "200", 7)]


def test_counts_are_asked_at_the_admin_port(admin: str) -> None:
    assert len(traffic.counts(admin)) == 4

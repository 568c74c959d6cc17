"""What every service of the bookstore can do, tried on ratings."""

from __future__ import annotations

import socket

from tests.examples.bookstore.shop import DEADLINE, running


def test_a_service_breaks_and_heals_on_request() -> None:
    with running("ratings") as ratings:
        assert ratings.get("/ratings/0").status == 200
        assert ratings.ask("POST", "/break").status == 200
        broken = ratings.get("/ratings/0")
        assert (broken.status, broken.data) == (500, {"error": "ratings v1 is broken on purpose"})
        assert ratings.get("/health").status == 200
        assert ratings.ask("POST", "/break", "status=503").status == 200
        assert ratings.get("/ratings/0").status == 503
        assert ratings.ask("POST", "/heal").status == 200
        assert ratings.get("/ratings/0").status == 200


def test_breaking_takes_error_statuses_only() -> None:
    with running("ratings") as ratings:
        for status in ("200", "abc", "600"):
            refused = ratings.ask("POST", "/break", f"status={status}")
            assert refused.status == 400
            assert "write 400 to 599" in refused.text
        assert ratings.get("/ratings/0").status == 200


def test_unknown_paths_and_methods_are_404() -> None:
    with running("ratings") as ratings:
        assert ratings.get("/nothing").status == 404
        assert ratings.get("/").status == 404
        assert ratings.ask("POST", "/ratings/0").status == 404


def test_connections_are_kept_and_head_has_no_body() -> None:
    with running("ratings") as ratings, socket.create_connection(("127.0.0.1", ratings.port), DEADLINE) as peer:
        file = peer.makefile("rb")
        peer.sendall(b"HEAD /health HTTP/1.1\r\nhost: x\r\n\r\nGET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        heads = []
        for _ in range(2):
            head = []
            while line := file.readline().strip():
                head.append(line)
            heads.append(head)
        assert [head[0] for head in heads] == [b"HTTP/1.1 200 OK"] * 2
        assert file.read(1) == b"{"
        file.close()


def test_a_body_of_unknown_length_is_refused() -> None:
    with running("ratings") as ratings:
        assert ratings.ask("POST", "/break", transfer_encoding="chunked").status == 411

"""Requests in parallel, against a service of the bookstore."""

from __future__ import annotations

from mesh.ctl import volley
from mesh.ctl.volley import Reply
from tests.examples.bookstore.shop import running


def test_a_volley_shares_its_requests_among_kept_connections() -> None:
    with running("ratings") as ratings:
        replies = volley.volley(f"127.0.0.1:{ratings.port}", "/ratings/0", 10, callers=3)
        assert [reply.status for reply in replies] == [200] * 10
        assert volley.ask(f"127.0.0.1:{ratings.port}", "/break", method="POST").status == 200
        assert volley.ask(f"127.0.0.1:{ratings.port}", "/ratings/0").status == 500


def test_no_answer_is_status_0_with_the_reason() -> None:
    reply = volley.ask("127.0.0.1:1", "/")
    assert reply.status == 0
    assert "ConnectionRefusedError" in reply.text


def test_statuses_are_summed_up_with_one_text_of_each_failure() -> None:
    replies = [Reply(200, "fine"), Reply(503, "no healthy\nupstream"), Reply(200, "fine")]
    assert volley.statuses(replies) == "2 x 200, 1 x 503 (no healthy upstream)"

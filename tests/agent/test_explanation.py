"""Calls and explanations travel as JSON."""

from __future__ import annotations

import msgspec
import pytest

from agent.explanation import Call, Destination, Explanation


def test_a_call_is_written_with_what_differs_from_the_default() -> None:
    call = msgspec.json.decode(b'{"authority":"reviews:9080","headers":[["end-user","jason"]]}', type=Call)
    assert call == Call(authority="reviews:9080", headers=(("end-user", "jason"),))
    assert (call.method, call.path, call.kind) == ("GET", "/", "http_proxy")
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"kind":"nonsense"}', type=Call)


def test_an_explanation_survives_json_and_knows_its_destination() -> None:
    chosen = Destination("b", 9, 90.0, "ok")
    answer = Explanation(outcome="routed", destinations=(Destination("a", 1, 10.0, "ok"), chosen), chosen="b")
    again = msgspec.json.decode(msgspec.json.encode(answer), type=Explanation)
    assert again == answer
    assert again.destination() == chosen
    assert Explanation(outcome="no_route").destination() is None

"""Settings of a peer: read in order, refused by value."""

from __future__ import annotations

import pytest

from agent.codec.h2_settings import read_settings, refusal
from agent.codec.http2 import FLOW_CONTROL_ERROR, NO_ERROR, PROTOCOL_ERROR
from tests.fake_http2_peer import settings


def test_settings_are_read_in_order() -> None:
    told = [(4, 5), (4, 2**32 - 1), (0xFFFF, 0)]
    assert read_settings(settings(*told)[9:]) == told
    assert read_settings(b"") == []


@pytest.mark.parametrize(
    ("key", "value", "by_server", "code"),
    [
        (1, 2**32 - 1, False, NO_ERROR),
        (2, 1, False, NO_ERROR),
        (2, 2, False, PROTOCOL_ERROR),
        (2, 0, True, NO_ERROR),
        (2, 1, True, PROTOCOL_ERROR),
        (4, 2**31 - 1, False, NO_ERROR),
        (4, 2**31, False, FLOW_CONTROL_ERROR),
        (5, 16383, False, PROTOCOL_ERROR),
        (5, 16384, False, NO_ERROR),
        (5, 2**24 - 1, False, NO_ERROR),
        (5, 2**24, False, PROTOCOL_ERROR),
        (8, 1, True, NO_ERROR),
        (8, 2, True, PROTOCOL_ERROR),
        (9, 2, False, PROTOCOL_ERROR),
        (0xFFFF, 2**32 - 1, False, NO_ERROR),
    ],
)
def test_values_that_may_not_be(key: int, value: int, by_server: bool, code: int) -> None:
    assert refusal(key, value, by_server=by_server) == code

"""SETTINGS of a peer (RFC 9113 6.5): which there are, and which values they may have."""

from __future__ import annotations

from typing import Final

from agent.codec.http2 import FLOW_CONTROL_ERROR, NO_ERROR, PROTOCOL_ERROR

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_STREAMS: Final = 3
INITIAL_STREAM_WINDOW: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEAD: Final = 6
EXTENDED_CONNECT: Final = 8  # RFC 8441
NO_PRIORITIES: Final = 9  # RFC 9218

LARGEST_WINDOW: Final = 2**31 - 1
_SIZE: Final = 6
_FRAME_SIZES: Final = (2**14, 2**24 - 1)


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Identifiers and values in their order; a payload that is no multiple of six bytes is for the caller to refuse."""
    return [
        (int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big"))
        for at in range(0, len(payload), _SIZE)
    ]


def refusal(key: int, value: int, *, by_server: bool) -> int:
    """The error of a connection whose peer says so; NO_ERROR for what may be, and for what nobody knows."""
    if key == INITIAL_STREAM_WINDOW:
        return FLOW_CONTROL_ERROR if value > LARGEST_WINDOW else NO_ERROR
    if key == ENABLE_PUSH:
        allowed = value == 0 if by_server else value <= 1
    elif key == MAX_FRAME_SIZE:
        allowed = _FRAME_SIZES[0] <= value <= _FRAME_SIZES[1]
    elif key in (EXTENDED_CONNECT, NO_PRIORITIES):
        allowed = value <= 1
    else:
        allowed = True
    return NO_ERROR if allowed else PROTOCOL_ERROR

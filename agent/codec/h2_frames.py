"""HTTP/2 frames as bytes (RFC 9113 4, 6): their numbers, and how to cut and write them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE: Final = 9
MAX_FRAME: Final = 16384
"""The largest payload: what our SETTINGS leave in force, and what any peer takes (6.5.2)."""
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20
STREAM: Final = 0x7FFFFFFF
"""The bits of a stream's number, and of a window's size."""
SETTINGS_ACK: Final = b"\0\0\0\x04\x01\0\0\0\0"
_GOAWAY: Final = b"\0\0\x08\x07\0\0\0\0\0"
_PING: Final = b"\0\0\x08\x06\0\0\0\0\0"
_PONG: Final = b"\0\0\x08\x06\x01\0\0\0\0"
_PREFACE_SIZE: Final = len(PREFACE)
# put together from these: a call of int.to_bytes costs more than all of them
_OCTETS: Final = [bytes((octet,)) for octet in range(256)]
_SIZES: Final = [bytes((0, octet)) for octet in range((MAX_FRAME >> 8) + 1)]


class FrameCutter:
    """Cuts a stream of bytes, which begins with the client's preface if `preface`, into the preface and frames."""

    __slots__ = ("_part", "_preface")

    def __init__(self, *, preface: bool) -> None:
        self._part = b""
        self._preface = preface

    def cut(self, data: bytes) -> list[bytes]:
        """What has become whole."""
        data = self._part + data
        pieces = []
        position = 0
        if self._preface and len(data) >= _PREFACE_SIZE:
            pieces.append(data[:_PREFACE_SIZE])
            position, self._preface = _PREFACE_SIZE, False
        while not self._preface and len(data) - position >= HEADER_SIZE:
            end = position + HEADER_SIZE + int.from_bytes(data[position : position + 3], "big")
            if end > len(data):
                break
            pieces.append(data[position:end])
            position = end
        self._part = data[position:]
        return pieces


def as_end(frame: bytes) -> bytes:
    """The same HEADERS or DATA, but END_STREAM."""
    return frame[:4] + bytes((frame[4] | END_STREAM,)) + frame[5:]


def without_resets(frames: bytes) -> bytes:
    """Whole frames but those that are RST_STREAM."""
    return b"".join(frame for frame in FrameCutter(preface=False).cut(frames) if frame[3] != RST_STREAM)


def stream_of(frame: bytes) -> int:
    """The number of its stream."""
    return int.from_bytes(frame[5:9], "big") & STREAM


def header(kind: int, flags: int, stream: int, length: int) -> bytes:
    """What a frame begins with."""
    octets = _OCTETS
    return b"%b%b%b%b%b%b%b%b" % (
        _SIZES[length >> 8],
        octets[length & 0xFF],
        octets[kind],
        octets[flags],
        octets[stream >> 24],
        octets[stream >> 16 & 0xFF],
        octets[stream >> 8 & 0xFF],
        octets[stream & 0xFF],
    )


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """SETTINGS, of identifiers and values."""
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values)
    return header(SETTINGS, 0, 0, len(payload)) + payload


def window_update(stream: int, size: int) -> bytes:
    """A WINDOW_UPDATE by so many bytes."""
    return header(WINDOW_UPDATE, 0, stream, 4) + size.to_bytes(4, "big")


def rst_stream(stream: int, code: int) -> bytes:
    """A RST_STREAM."""
    return header(RST_STREAM, 0, stream, 4) + code.to_bytes(4, "big")


def ping(payload: bytes, *, ack: bool) -> bytes:
    """A PING with 8 bytes of payload, or the answer to one."""
    return (_PONG if ack else _PING) + payload


def block(stream: int, fields: bytes, flags: int) -> bytes:
    """A header block: HEADERS with these flags, and as many CONTINUATIONs as it takes."""
    if len(fields) <= MAX_FRAME:
        return header(HEADERS, flags | END_HEADERS, stream, len(fields)) + fields
    pieces = [header(HEADERS, flags, stream, MAX_FRAME), fields[:MAX_FRAME]]
    at = MAX_FRAME
    while len(fields) - at > MAX_FRAME:
        pieces += [header(CONTINUATION, 0, stream, MAX_FRAME), fields[at : at + MAX_FRAME]]
        at += MAX_FRAME
    pieces += [header(CONTINUATION, END_HEADERS, stream, len(fields) - at), fields[at:]]
    return b"".join(pieces)


def goaway(last_stream: int, code: int) -> bytes:
    """A GOAWAY without further words."""
    return _GOAWAY + last_stream.to_bytes(4, "big") + code.to_bytes(4, "big")

"""HTTP/2 frames as bytes, for what the engines do around their libraries: cut, complete and write them."""

from __future__ import annotations

from typing import Final

PREFACE_SIZE: Final = 24
HEADER_SIZE: Final = 9
DATA, HEADERS, RST_STREAM, WINDOW_UPDATE = 0, 1, 3, 8
_GOAWAY: Final = b"\0\0\x08\x07\0\0\0\0\0"
_END_STREAM: Final = 0x1
_STREAM: Final = 0x7FFFFFFF


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
        if self._preface and len(data) >= PREFACE_SIZE:
            pieces.append(data[:PREFACE_SIZE])
            position, self._preface = PREFACE_SIZE, False
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
    return frame[:4] + bytes((frame[4] | _END_STREAM,)) + frame[5:]


def without_resets(frames: bytes) -> bytes:
    """Whole frames but those that are RST_STREAM."""
    return b"".join(frame for frame in FrameCutter(preface=False).cut(frames) if frame[3] != RST_STREAM)


def stream_of(frame: bytes) -> int:
    """The number of its stream."""
    return int.from_bytes(frame[5:9], "big") & _STREAM


def with_setting(sent: bytes, key: int, value: int) -> bytes:
    """Bytes that begin with a SETTINGS frame, which says one thing more."""
    size = int.from_bytes(sent[:3], "big")
    end = HEADER_SIZE + size
    more = key.to_bytes(2, "big") + value.to_bytes(4, "big")
    return (size + len(more)).to_bytes(3, "big") + sent[3:end] + more + sent[end:]


def goaway(last_stream: int, code: int) -> bytes:
    """A GOAWAY without further words."""
    return _GOAWAY + last_stream.to_bytes(4, "big") + code.to_bytes(4, "big")

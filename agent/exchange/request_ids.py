"""Ids of requests: random UUIDs, as Istio's proxies write them."""

from __future__ import annotations

from random import Random
from typing import Final

_AT_ONCE: Final = 64
_SIZE: Final = 32  # hexadecimal digits
_VARIANTS: Final = {ord(f"{digit:x}"): b"89ab"[digit & 3 : (digit & 3) + 1] for digit in range(16)}


class RequestIds:
    """UUIDs of version 4 (RFC 9562 5.4) as text; the 14th digit, 4, says no trace decision (Istio).

    `rng` is asked for some dozens at once.
    """

    __slots__ = ("_at", "_digits", "_rng")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._digits = b""
        self._at = 0

    def make(self) -> bytes:
        """The next one."""
        if self._at == len(self._digits):
            self._digits = self._rng.randbytes(_AT_ONCE * _SIZE // 2).hex().encode()
            self._at = 0
        digits, at = self._digits, self._at
        self._at = at + _SIZE
        return b"%b-%b-4%b-%b%b-%b" % (
            digits[at : at + 8],
            digits[at + 8 : at + 12],
            digits[at + 13 : at + 16],
            _VARIANTS[digits[at + 16]],
            digits[at + 17 : at + 20],
            digits[at + 20 : at + 32],
        )

"""Durations as Istio's YAML writes them: Go's notation, 1h, 1m30s, 1.5s, 10ms."""

import re

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_WHOLE = re.compile(rf"[-+]?(?:{_PART.pattern})+\Z")

MAX_SECONDS = 292 * 365 * 24 * 3600
"""What Go's 64-bit nanoseconds can hold."""


def parse_duration(text: str) -> float | None:
    """Seconds, or None when it is not a duration; "0" is one, a bare number otherwise is not."""
    if text in ("0", "+0", "-0"):
        return 0.0
    if not _WHOLE.match(text):
        return None
    nanoseconds = sum(round(float(number) * _UNITS[unit]) for number, unit in _PART.findall(text))
    seconds = nanoseconds / 1e9
    if seconds > MAX_SECONDS:
        return None
    return -seconds if text.startswith("-") else seconds


def is_whole_milliseconds(seconds: float) -> bool:
    """Whether the duration has no part below a millisecond (Istio's webhook refuses one)."""
    return round(seconds * 1e9) % 1_000_000 == 0

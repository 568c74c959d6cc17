"""Key sets of tokens (RFC 7517) as they are written in a RequestAuthentication."""

from __future__ import annotations

import json
from typing import Any, Final

NEEDS: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "oct": ("k",)}
"""Members that a key of each type has (RFC 7518, RFC 8037)."""
PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi")


def parse(text: str) -> list[dict[str, Any]]:
    """The keys of a set, or the one key that stands alone. Raises ValueError that says what is wrong."""
    try:
        document = json.loads(text)
    except ValueError as exc:
        raise ValueError(f"is not JSON: {exc}") from None
    keys = document.get("keys", [document]) if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError("is not a key set")
    for index, key in enumerate(keys):
        _check(key, index)
    return keys


def _check(key: Any, index: int) -> None:
    kind = key.get("kty") if isinstance(key, dict) else None
    if not isinstance(kind, str) or kind not in NEEDS:
        raise ValueError(f"key {index} has no kty of " + ", ".join(NEEDS))
    missing = [name for name in NEEDS[kind] if not isinstance(key.get(name), str) or not key[name]]
    if missing:
        raise ValueError(f"key {index} ({kind}) lacks " + ", ".join(missing))


def is_private(key: dict[str, Any]) -> bool:
    """Whether a key holds more than anybody may know."""
    return key["kty"] != "oct" and any(name in key for name in PRIVATE)

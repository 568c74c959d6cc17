"""The bootstrap token: whoever can read the state folder may join an agent to the mesh."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from mesh.errors import MeshError
from mesh.private_file import write_private

TOKEN_FILE = "token"
_SHORTEST = 16  # a hand-written token below this invites guessing


class TokenError(MeshError):
    """The token file cannot be used."""


class BootstrapToken:
    """A shared secret, compared in constant time."""

    def __init__(self, value: str) -> None:
        self.value = value

    def matches(self, offered: str) -> bool:
        """True for the very token."""
        return hmac.compare_digest(self.value.encode(), offered.encode("utf-8", "surrogateescape"))

    def authorizes(self, header: str | None) -> bool:
        """True for `Bearer TOKEN`, the value of an Authorization header."""
        scheme, _, offered = (header or "").partition(" ")
        return scheme.lower() == "bearer" and self.matches(offered.strip())


def load_or_create(state_dir: Path) -> BootstrapToken:
    """The token of this state folder, made at the first start. Raises TokenError."""
    path = state_dir / TOKEN_FILE
    try:
        if not path.exists():
            write_private(path, secrets.token_urlsafe(32).encode() + b"\n")
        value = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise TokenError(f"the token file {path} cannot be read: {exc}; remove it to get a new token") from exc
    if len(value) < _SHORTEST:
        raise TokenError(f"the token in {path} has under {_SHORTEST} characters; remove the file to get a new token")
    return BootstrapToken(value)

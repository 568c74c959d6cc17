"""URLs as far as a configuration is judged by them: is it one, and of which scheme."""

from __future__ import annotations

import re
from typing import Final

_SCHEME: Final = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*):(?P<rest>.*)\Z", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPE: Final = re.compile(r"%(?![0-9a-fA-F]{2})")
_AUTHORITY: Final = re.compile(
    r"//(?:[^@/?#]*@)?(?:\[[0-9a-fA-F:.%]+\]|[^\s:/?#\[\]<>\"\\^`{|}]*)(?::[0-9]*)?(?=[/?#]|\Z)",
)


def scheme_of(text: str) -> str | None:
    """The scheme of an absolute URL, in lower case; None for what is none."""
    match = _SCHEME.match(text)
    if match is None or _CONTROL.search(text) or _ESCAPE.search(match["rest"]):
        return None
    if match["rest"].startswith("//") and not _AUTHORITY.match(match["rest"]):
        return None
    return match["scheme"].lower() if match["rest"] else None

"""The one form of a request's path: what policy and routes are asked about is what the upstream gets.

Istio's `pathNormalization` (MeshConfig) chooses the rule of a chain; Envoy's settings of the agent override its parts.
The query is never touched. What cannot be read in one way only is refused. No Trio; the host is not rewritten, it
is compared in its canonical form by route/table.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from agent.bootstrap import Settings
from agent.exchange import faults

Mode = Literal["none", "base", "merge_slashes", "decode_and_merge_slashes"]
MODES: Final[tuple[Mode, ...]] = ("none", "base", "merge_slashes", "decode_and_merge_slashes")

# Possessive steps from segment to segment: a search that tries every byte costs three times as much.
is_odd: Final[Callable[[bytes], object]] = re.compile(
    rb"[^?%\\/]*+(?:/[^?%\\/.][^?%\\/]*+)*+/?+(?:[%\\]|(?<=/)[/.])"
).match
"""Whether there is `%`, a backslash, `//` or `/.` before the query: the whole cost for a path without them."""

_UNSAFE: Final = re.compile(rb"%(?:00|(?![0-9A-Fa-f]{2}))")
_ESCAPED_SLASH: Final = re.compile(rb"%(?:2[Ff]|5[Cc])")
# RFC 3986 2.3: letters, digits and -._~ mean the same whether escaped or not; the case of other escapes is kept.
_UNRESERVED: Final = re.compile(rb"%(?:2[DdEe]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")
_SLASHES: Final = re.compile(rb"//+")


class CanonicalPath(NamedTuple):
    """A path in its one form; `redirect`: the client is to ask again under it."""

    path: bytes
    redirect: bool


class PathRule:
    """How the paths of a filter chain are brought into their one form."""

    __slots__ = ("_merge", "_normalize", "_slashes")

    def __init__(self, mode: Mode, settings: Settings) -> None:
        decode = mode == "decode_and_merge_slashes"
        self._normalize = _either(settings.normalize_path, mode != "none")
        self._merge = _either(settings.merge_slashes, decode or mode == "merge_slashes")
        self._slashes = settings.path_with_escaped_slashes_action or ("unescape_and_forward" if decode else "keep")

    def canonical(self, target: bytes) -> CanonicalPath:
        """The form of `target` (a path with its query). Raises ProxyFault 400 for one that is refused."""
        path, mark, query = target.partition(b"?")
        if not is_odd(path):
            return CanonicalPath(target, False)
        redirect = False
        if self._slashes != "keep" and _ESCAPED_SLASH.search(path):
            if self._slashes == "reject":
                raise faults.bad_path()
            path = _ESCAPED_SLASH.sub(_slash, path)
            redirect = self._slashes == "unescape_and_redirect"
        if self._normalize:
            if _UNSAFE.search(path):
                raise faults.bad_path()
            path = _UNRESERVED.sub(_unescaped, path).replace(b"\\", b"/")
            if b"/." in path:
                path = _without_dots(path)
        if self._merge:
            path = _SLASHES.sub(b"/", path)
        return CanonicalPath(path + mark + query, redirect)


def path_rules(settings: Settings) -> dict[str, PathRule]:
    """The rule of each mode that a chain may name."""
    return {mode: PathRule(mode, settings) for mode in MODES}


def location(path: bytes) -> bytes:
    """`path` as a Location header: two slashes at its start would name another host."""
    return b"/" + path.lstrip(b"/")


def _either(setting: bool | None, otherwise: bool) -> bool:
    return otherwise if setting is None else setting


def _slash(escape: re.Match[bytes]) -> bytes:
    return b"/" if escape.group()[1] == 0x32 else b"\\"


def _unescaped(escape: re.Match[bytes]) -> bytes:
    return bytes.fromhex(escape.group()[1:].decode())


def _without_dots(path: bytes) -> bytes:
    """RFC 3986 5.2.4. An empty segment is one that `..` takes away; above the root there is nothing to take."""
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)

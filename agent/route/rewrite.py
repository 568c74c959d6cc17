"""Changes on the way: header operations on requests and responses, new path, new authority.

Order is Envoy's finalizeRequestHeaders: header operations see the old path; then the authority, then the path.
"""

from __future__ import annotations

from agent.codec.gate import path_of
from agent.codec.headers import Headers
from agent.codec.message import RequestHead, ResponseHead
from agent.route.operators import Facts, Template, compile_value
from agent.route.regex import compile_replace
from mesh import config

_AUTHORITY_NAMES = (":authority", "host")


class HeaderOps:
    """Compiled operations of one or more levels, applied in order: each level removes, sets, adds."""

    __slots__ = ("authority", "steps")

    def __init__(
        self, steps: tuple[tuple[str, bytes, bytes | Template], ...], authority: bytes | Template | None
    ) -> None:
        self.steps = steps
        self.authority = authority
        """From `:authority` or `host` in `set` (or `add`): the request's new authority."""

    def apply(self, headers: Headers, head: RequestHead, facts: Facts, response: ResponseHead | None = None) -> None:
        """Change `headers`. A set or add whose value comes out empty is left out, as Envoy does."""
        for verb, name, value in self.steps:
            if verb == "remove":
                headers.remove(name)
                continue
            filled = value if isinstance(value, bytes) else value.fill(head, facts, response)
            if not filled:
                continue
            if verb == "set":
                headers.set(name, filled)
            else:
                headers.add(name, filled)


def compile_headers(levels: list[config.HeaderOps | None], reports: list[str]) -> HeaderOps | None:
    """One list of steps from several levels, first level first; None when there is nothing to do.

    The first level that sets the authority wins: callers put the route's level where it must.
    """
    steps: list[tuple[str, bytes, bytes | Template]] = []
    authority: bytes | Template | None = None
    for ops in levels:
        if ops is None:
            continue
        steps.extend(("remove", name.lower().encode(), b"") for name in ops.remove if _may_change(name, reports))
        hosts: list[str] = []
        for verb, fields in (("set", ops.set), ("add", ops.add)):
            for name, value in fields:
                if name.lower() in _AUTHORITY_NAMES:
                    hosts.append(value)
                elif _may_change(name, reports):
                    steps.append((verb, name.lower().encode(), compile_value(value, reports)))
        if hosts and authority is None:
            authority = compile_value(hosts[0], reports)
    return HeaderOps(tuple(steps), authority) if steps or authority is not None else None


def merge_for_single(route: config.HeaderOps | None, target: config.HeaderOps | None) -> config.HeaderOps | None:
    """Istio puts the only destination's operations into the route's: removals and additions are concatenated."""
    if route is None or target is None:
        return route or target
    return config.HeaderOps(route.remove + target.remove, route.set + target.set, route.add + target.add)


class Rewrite:
    """A route's compiled path and authority rewrite."""

    __slots__ = ("_cut", "_prefix", "_replace", "authority")

    def __init__(self, rewrite: config.Rewrite, matched: config.StringMatch | None) -> None:
        self.authority = rewrite.authority.encode()
        self._prefix = None if rewrite.prefix is None else rewrite.prefix.encode()
        self._cut = matched_length(matched)
        self._replace = compile_replace(rewrite.regex, rewrite.substitution) if rewrite.regex else None

    def path(self, target: bytes) -> bytes:
        """The new path for `target`, query kept."""
        if self._prefix is not None:
            return replace_prefix(target, self._cut, self._prefix)
        if self._replace is None:
            return target
        path = path_of(target)
        return self._replace(path) + target[len(path) :]


def compile_rewrite(rewrite: config.Rewrite | None, matched: config.StringMatch | None) -> Rewrite | None:
    """None when there is nothing to rewrite. Raises ConfigError for a bad regex or substitution."""
    if rewrite is None or (rewrite.prefix is None and not rewrite.regex and not rewrite.authority):
        return None
    return Rewrite(rewrite, matched)


def matched_length(matched: config.StringMatch | None) -> int:
    """How many bytes of the path a prefix rewrite replaces; -1 the whole path (exact and regex matches)."""
    if matched is None or matched.kind == "present":
        return 1  # no path condition is Envoy's prefix "/"
    if matched.kind == "prefix":
        return len(matched.value.encode())
    return -1


def replace_prefix(target: bytes, cut: int, prefix: bytes) -> bytes:
    """`prefix` in place of the first `cut` bytes (-1: of the path); what follows is kept."""
    return prefix + target[len(path_of(target)) if cut < 0 else cut :]


def set_path(head: RequestHead, path: bytes) -> None:
    """Give the request another path and record the old one in x-envoy-original-path."""
    if path != head.path:
        head.headers.set(b"x-envoy-original-path", head.path)
        head.path = head.target = path


def set_authority(head: RequestHead, authority: bytes) -> None:
    """Give the request another authority; Host follows."""
    head.authority = authority
    head.headers.set(b"host", authority)


def finalize_request(head: RequestHead, ops: HeaderOps | None, rewrite: Rewrite | None, facts: Facts) -> None:
    """Apply everything that a route and its destination do to a request, once, before its first attempt.

    The authority is the rewrite's, else the header operations'.
    """
    authority = b""
    if ops is not None:
        if ops.authority is not None:
            authority = ops.authority if isinstance(ops.authority, bytes) else ops.authority.fill(head, facts)
        ops.apply(head.headers, head, facts)
    if rewrite is not None:
        authority = rewrite.authority or authority
        set_path(head, rewrite.path(head.path))
    if authority:
        set_authority(head, authority)


def _may_change(name: str, reports: list[str]) -> bool:
    if name.startswith(":") or name.lower() == "host":
        reports.append(f"header {name} cannot be changed here; only `set` of :authority or host rewrites the authority")
        return False
    return True

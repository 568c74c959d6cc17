"""The route table of one RouteConfig: authority -> virtual host -> first matching route.

Theory: hosts are looked up by dict (exact), then by suffix and prefix wildcards, longest first. Inside a
virtual host the first route in order wins. Routes with an exact path hang on a dict, those with a prefix on
sorted nodes whose parents are the shorter prefixes; every other route is in the tail, scanned in order. Each
route carries its position, so the best candidate so far bounds what is still worth asking.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any

from agent.codec.gate import path_of
from agent.codec.message import RequestHead
from agent.route.action import CompiledRoute
from mesh import config
from mesh.errors import ConfigError
from mesh.net.authority import split_port

_CACHE_LIMIT = 1024
_LONGEST_CACHED = 255
"""A DNS name has at most 253 characters; longer authorities are not worth remembering."""
_SMALL = 6
"""Below this many routes a plain scan is as fast as the index."""
_LAST = 2**62


class _Node:
    """Routes that share one exact path or prefix, and the next shorter prefix that covers it."""

    __slots__ = ("least", "parent", "prefix", "routes")

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.routes: tuple[CompiledRoute, ...] = ()
        self.parent: _Node | None = None
        self.least = _LAST
        """Smallest position here and in all ancestors."""


class VirtualHost:
    """The compiled routes of one virtual host."""

    __slots__ = ("_exact", "_nodes", "_sorted", "_tail", "config", "name", "routes")

    def __init__(self, host: config.VirtualHost, reports: list[str]) -> None:
        self.config = host
        self.name = host.name
        self.routes = tuple(_compile_route(route, n, host.name, reports) for n, route in enumerate(host.routes))
        self._exact: dict[bytes, _Node] = {}
        self._nodes: list[_Node] = []
        self._sorted: list[bytes] = []
        self._tail: tuple[CompiledRoute, ...] = ()
        if len(self.routes) > _SMALL:
            self._index()

    def match(self, head: RequestHead) -> CompiledRoute | None:
        """The first route in order all of whose conditions hold."""
        path = path_of(head.path)
        if not self._sorted and not self._exact:
            return _scan(self.routes, path, head, _LAST)
        node = self._exact.get(path)
        if node is None:
            node = self._covering(path)
        best: CompiledRoute | None = None
        bound = _LAST
        while node is not None and node.least < bound:
            for route in node.routes:
                if route.position >= bound:
                    break
                if _holds(route, head):
                    best = route
                    bound = route.position
                    break
            node = node.parent
        return _scan(self._tail, path, head, bound) or best

    def _covering(self, path: bytes) -> _Node | None:
        """The node of the longest prefix that `path` starts with.

        Whatever sorts between that prefix and `path` starts with it too, so the predecessor of `path` is the
        node itself or one of its descendants.
        """
        at = bisect_right(self._sorted, path) - 1
        node = self._nodes[at] if at >= 0 else None
        while node is not None and not path.startswith(node.prefix):
            node = node.parent
        return node

    def _index(self) -> None:
        exact: dict[bytes, list[CompiledRoute]] = {}
        prefixes: dict[bytes, list[CompiledRoute]] = {}
        tail: list[CompiledRoute] = []
        for route in self.routes:
            path = route.config.match.path
            if path is None or path.kind == "present":
                prefixes.setdefault(b"", []).append(route)
            elif path.kind == "regex" or path.ignore_case:
                tail.append(route)
            else:
                group = exact if path.kind == "exact" else prefixes
                group.setdefault(path.value.encode(), []).append(route)
        self._tail = tuple(tail)
        self._sorted = sorted(prefixes)
        above: list[_Node] = []
        for prefix in self._sorted:
            while above and not prefix.startswith(above[-1].prefix):
                above.pop()
            node = _node(prefix, prefixes[prefix], above[-1] if above else None)
            above.append(node)
            self._nodes.append(node)
        for path_bytes, routes in exact.items():
            self._exact[path_bytes] = _node(path_bytes, routes, self._covering(path_bytes))


def _node(prefix: bytes, routes: list[CompiledRoute], parent: _Node | None) -> _Node:
    node = _Node(prefix)
    reachable = []
    for route in routes:
        reachable.append(route)
        if not route.conditions:
            break  # nothing behind an unconditional route of the same path is ever asked
    node.routes = tuple(reachable)
    node.parent = parent
    node.least = min(reachable[0].position, parent.least if parent else _LAST)
    return node


def _holds(route: CompiledRoute, head: RequestHead) -> bool:
    for condition in route.conditions:  # noqa: SIM110 - all() with a generator costs twice this
        if not condition(head):
            return False
    return True


def _scan(routes: tuple[CompiledRoute, ...], path: bytes, head: RequestHead, bound: int) -> CompiledRoute | None:
    for route in routes:
        if route.position >= bound:
            return None
        test = route.path_test
        if (test is None or test(path)) and (not route.conditions or _holds(route, head)):
            return route
    return None


def _by_length(wildcards: dict[bytes, VirtualHost]) -> list[tuple[int, dict[bytes, VirtualHost]]]:
    """Wildcards grouped by length, longest first: one dict look-up per distinct length instead of one per domain."""
    groups: dict[int, dict[bytes, VirtualHost]] = {}
    for key, host in wildcards.items():
        groups.setdefault(len(key), {})[key] = host
    return sorted(groups.items(), reverse=True)


def _compile_route(route: config.Route, position: int, host: str, reports: list[str]) -> CompiledRoute:
    try:
        return CompiledRoute(route, position, reports)
    except ConfigError as exc:
        origin = route.origin
        raise ConfigError(
            f"route {route.name} of virtual host {host}: {exc.what}",
            remedy=exc.remedy,
            path=origin.field,
            kind=origin.kind,
            namespace=origin.namespace,
            name=origin.name,
            file=origin.file,
            line=origin.line,
        ) from exc


class RouteTable:
    """Compiled RouteConfig. Immutable but for a bounded memory of host look-ups."""

    __slots__ = ("_cache", "_default", "_exact", "_prefixes", "_suffixes", "hosts", "name", "reports")

    def __init__(self, name: str, hosts: tuple[VirtualHost, ...], reports: list[str]) -> None:
        self.name = name
        self.hosts = hosts
        self._exact: dict[bytes, VirtualHost] = {}
        self._default: VirtualHost | None = None
        self._cache: dict[bytes, VirtualHost | None] = {}
        suffixes: dict[bytes, VirtualHost] = {}
        prefixes: dict[bytes, VirtualHost] = {}
        for host in hosts:
            for domain in host.config.domains:
                self._claim(domain, host, suffixes, prefixes, reports)
        self._suffixes = _by_length(suffixes)
        self._prefixes = _by_length(prefixes)
        self.reports = tuple(dict.fromkeys(reports))
        """Sentences about what was left out or kept literally (double domains, operators that are not served)."""

    @classmethod
    def compile(
        cls,
        route_config: config.RouteConfig,
        *,
        upstream: Callable[[str], Any] | None = None,
        retry: Callable[[config.RetryPolicy], Any] | None = None,
    ) -> RouteTable:
        """Compile for serving. `upstream` gives the living cluster of a name, `retry` the compiled policy.

        Raises ConfigError for regexes and substitutions that cannot work, naming virtual host and route.
        """
        reports: list[str] = []
        hosts = tuple(VirtualHost(host, reports) for host in route_config.virtual_hosts)
        table = cls(route_config.name, hosts, reports)
        if upstream is not None or retry is not None:
            table.bind(upstream or (lambda _: None), retry or (lambda policy: policy))
        return table

    def bind(self, upstream: Callable[[str], Any], retry: Callable[[config.RetryPolicy], Any]) -> None:
        """Give every route its living clusters and its compiled retry policy."""
        for route in self.routes():
            route.bind(upstream, retry)

    def routes(self) -> Iterator[CompiledRoute]:
        """Every route of every virtual host."""
        for host in self.hosts:
            yield from host.routes

    def match(self, head: RequestHead) -> CompiledRoute | None:
        """The route of this request; None when its host is unknown (`host_known` tells) or no route matches."""
        host = self.find_host(head.authority)
        return None if host is None else host.match(head)

    def host_known(self, authority: bytes) -> bool:
        """Whether a virtual host serves this authority."""
        return self.find_host(authority) is not None

    def find_host(self, authority: bytes) -> VirtualHost | None:
        """The virtual host: exact (as written, then without port and final dot), longest `*.x`, longest `x.*`, `*`."""
        cache = self._cache
        try:
            return cache[authority]
        except KeyError:
            pass
        found = self._search(authority.lower())
        if len(authority) <= _LONGEST_CACHED:
            if len(cache) >= _CACHE_LIMIT:
                cache.clear()
            cache[authority] = found
        return found

    def _search(self, authority: bytes) -> VirtualHost | None:
        found = self._exact.get(authority)
        if found is not None:
            return found
        name, port = split_port(authority)
        if name[-1:] == b".":  # the DNS root: the same host, so the same routes
            name = name[:-1]
            found = self._exact.get(name + b":" + port)
            if found is not None:
                return found
        found = self._exact.get(name)
        if found is not None:
            return found
        size = len(name)
        for length, suffixes in self._suffixes:
            if length < size and (found := suffixes.get(name[-length:])) is not None:
                return found
        for length, prefixes in self._prefixes:
            if length < size and (found := prefixes.get(name[:length])) is not None:
                return found
        return self._default

    def _claim(
        self,
        domain: str,
        host: VirtualHost,
        suffixes: dict[bytes, VirtualHost],
        prefixes: dict[bytes, VirtualHost],
        reports: list[str],
    ) -> None:
        """Give `domain` to `host` unless an earlier one has it."""
        key = domain.lower().encode()
        if key == b"*":
            owner = self._default = self._default or host
        elif key.startswith(b"*"):
            owner = suffixes.setdefault(key[1:], host)
        elif key.endswith(b"*"):
            owner = prefixes.setdefault(key[:-1], host)
        else:
            owner = self._exact.setdefault(key, host)
        if owner is not host:
            reports.append(
                f"domain {domain} of virtual host {host.name} is already taken by {owner.name}; ignored there"
            )

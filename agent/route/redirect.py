"""The Location of a redirect (VirtualService redirect, Gateway API RequestRedirect)."""

from __future__ import annotations

from agent.codec.gate import path_of
from agent.codec.message import RequestHead
from agent.route.rewrite import matched_length, replace_prefix
from mesh import config
from mesh.net.authority import split_port

_DEFAULT_PORTS = {b"http": 80, b"https": 443}


class Redirect:
    """A compiled redirect: `status`, and `location` per request."""

    __slots__ = ("_authority", "_config", "_cut", "_path", "_prefix", "_scheme", "status")

    def __init__(self, redirect: config.Redirect, matched: config.StringMatch | None) -> None:
        self._config = redirect
        self.status = redirect.status
        self._scheme = redirect.scheme.encode()
        self._authority = redirect.authority.encode()
        self._path = None if redirect.path is None else redirect.path.encode()
        self._prefix = None if redirect.prefix is None else redirect.prefix.encode()
        self._cut = matched_length(matched)

    def location(self, head: RequestHead, listener_port: int) -> bytes:
        """The absolute URL to go to. `listener_port` is the port that `port_from: request` takes."""
        scheme = self._scheme or head.scheme
        return scheme + b"://" + self._host(head, scheme, listener_port) + self._target(head)

    def _host(self, head: RequestHead, scheme: bytes, listener_port: int) -> bytes:
        port = listener_port if self._config.port_from == "request" else self._config.port
        if port or self._config.port_from == "protocol":
            host = split_port(self._authority or head.authority)[0]
            if not port or port == _DEFAULT_PORTS.get(scheme):
                return host
            return b"%s:%d" % (host, port)
        if self._authority:
            return self._authority
        host, written = split_port(head.authority)
        if scheme != head.scheme and written == b"%d" % _DEFAULT_PORTS.get(head.scheme, 0):
            return host
        return head.authority

    def _target(self, head: RequestHead) -> bytes:
        target = head.path
        if self._path is not None:
            if b"?" in self._path:
                return self._path
            return self._path + target[len(path_of(target)) :]
        if self._prefix is not None:
            return replace_prefix(target, self._cut, self._prefix)
        return target

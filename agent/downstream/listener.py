"""Bind, accept, and give each connection a task that is its fault boundary.

Whatever goes wrong in a connection is counted and ends that connection alone. A listener survives pushes:
its chains are swapped in one assignment, and connections keep the chain that they began with.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

import trio

from agent.dataplane import Dataplane, Downstream
from agent.downstream.chain import Chains, choose
from agent.downstream.http import serve_http
from agent.downstream.proxy_protocol import accept_header
from agent.downstream.sniff import Application, application, hello_decided, looks_like_tls, parse_client_hello
from agent.downstream.tcp import serve_tcp
from agent.downstream.tls import HandshakeFailed, secure
from agent.policy.chain import guards
from mesh import config
from mesh.net.proxy_protocol import ProxyProtocolError
from mesh.net.tcp import TcpListener, TcpTransport, Transport

_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_DESCRIPTOR_PAUSE: Final = 0.1  # seconds; connections close meanwhile, and the backlog holds the newcomers
_SNIFF_TIMEOUT: Final = 60.0  # seconds for the first bytes of a connection that is not served without them


class Listener:
    """A bound socket and how to serve what it accepts."""

    def __init__(self, settings: config.Listener, sock: TcpListener, dataplane: Dataplane) -> None:
        self.config = settings
        self.sock = sock
        self.chains = Chains(settings.chains)
        self._guards = guards(settings, {})
        self._dataplane = dataplane

    def reconfigure(self, settings: config.Listener) -> None:
        """Serve new connections by these settings, and put open ones under its policies."""
        self.config = settings
        self.chains = Chains(settings.chains)
        self._guards = guards(settings, self._guards)

    def close(self) -> None:
        """Stop accepting; open connections go on."""
        self.sock.close()

    async def serve(self, connections: trio.Nursery) -> None:
        """Accept until closed. Connection tasks live in `connections`, so they outlive the listener."""
        dataplane = self._dataplane
        while True:
            await trio.lowlevel.checkpoint()  # a flood of newcomers must not keep the others from running
            try:
                transport = await self.sock.accept()
            except trio.ClosedResourceError:
                return
            except OSError as exc:
                if exc.errno not in _DESCRIPTORS:
                    raise
                dataplane.stats.refused("listener", "out_of_descriptors")
                await trio.sleep(_DESCRIPTOR_PAUSE)
                continue
            if dataplane.downstream_full():
                dataplane.stats.refused("listener", "max_connections")
                transport.reset()
                continue
            downstream = Downstream(transport, self.config, dataplane.clock())
            dataplane.connections.add(downstream)  # counted before its task runs, so that the limit holds
            connections.start_soon(self._serve_connection, downstream, name="connection")

    async def _serve_connection(self, downstream: Downstream) -> None:
        transport = downstream.transport
        dataplane = self._dataplane
        downstream.task = trio.lowlevel.current_task()
        stats = dataplane.stats.downstream("inbound" if self.config.direction == "inbound" else "outbound")
        stats.cx_total.inc()
        stats.cx_active.inc()
        try:
            await self._serve_chain(downstream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            dataplane.stats.refused("connection", "downstream_reset")
        except ProxyProtocolError as exc:
            dataplane.stats.refused("proxy_protocol", exc.reason)
            dataplane.log.debug("PROXY header refused", peer=transport.remote, reason=exc.reason)
        except HandshakeFailed as exc:
            dataplane.stats.refused("tls", exc.reason)
            dataplane.log.debug("handshake refused", peer=transport.remote, reason=exc.reason)
        except Exception as exc:  # the fault boundary: a bug costs one connection, never the listener
            dataplane.stats.refused("connection", "internal_error")
            dataplane.log.error("connection failed", peer=transport.remote, error=repr(exc), exc_info=exc)
        finally:
            stats.cx_active.dec()
            dataplane.connections.discard(downstream)
            downstream.transport.close()

    async def _serve_chain(self, downstream: Downstream) -> None:
        transport = downstream.transport
        if self.config.direction != "outbound" and isinstance(transport, TcpTransport):
            mode = self._dataplane.settings.proxy_protocol or self.config.proxy_protocol
            if mode != "off":
                downstream.direct = transport.remote
                await accept_header(transport, require=mode == "require")
        chain = await self._pick_chain(downstream)
        if chain is None:
            return
        downstream.guard = self._guards[chain.name]
        if chain.http is not None:
            await serve_http(downstream, chain.http, self._dataplane)
        elif chain.tcp is not None:
            await serve_tcp(downstream, chain.tcp, self._dataplane)

    async def _pick_chain(self, downstream: Downstream) -> config.FilterChain | None:
        """The chain of this connection, its TLS terminated; None, and counted, when there is none."""
        settings, chains = self.config, self.chains
        hello = None
        silent = False
        if chains.sniffing:
            data = await self._peek(downstream.transport, hello_decided, settings.detection_timeout)
            if data is None:
                return None
            silent = not data
            if looks_like_tls(data):
                hello = parse_client_hello(data)
                downstream.server_name = hello.server_name
        candidates = chains.candidates(hello)
        if candidates and candidates[0].tls is not None:
            await secure(downstream, candidates[0].tls, self._dataplane)
        carried: Application = "tcp"
        if candidates and candidates[0].application != "any" and not silent:
            data = await self._peek(downstream.transport, application, settings.detection_timeout)
            if data is None:
                return None
            carried = application(data) or "tcp"
        chain = choose(candidates, carried)
        if chain is None:
            self._dataplane.stats.refused("listener", "filter_chain_not_found")
        return chain

    async def _peek(
        self, transport: Transport, decided: Callable[[bytes], object], detection_timeout: float
    ) -> bytes | None:
        """What the client says first, until that is enough for a decision, it ends, or the time is over.

        The bytes are put back. None, and counted: it said nothing of use, and the listener does not go on without.
        """
        data = b""
        with trio.move_on_after(detection_timeout or _SNIFF_TIMEOUT) as scope:
            while not decided(data):
                more = await transport.receive()
                if not more:
                    break
                data += more
        if data:
            transport.unread(data)
        if scope.cancelled_caught:
            self._dataplane.stats.refused("connection", "detection_timeout" if data else "no_first_byte")
            return data if detection_timeout else None
        if not data:
            self._dataplane.stats.refused("connection", "no_first_byte")
            return None
        return data

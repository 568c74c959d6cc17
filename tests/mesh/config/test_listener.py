from __future__ import annotations

import msgspec
import pytest

from mesh import config


def test_a_listener_with_both_kinds_of_chain_survives_the_wire() -> None:
    listener = config.Listener(
        name="virtualInbound",
        direction="inbound",
        chains=(
            config.FilterChain(
                name="mtls",
                transport="mtls",
                tls=config.DownstreamTls(trust_domains=("cluster.local",)),
                http=config.HttpChain(route_config="inbound|8080||", server_name="istio-envoy"),
            ),
            config.FilterChain(name="tcp", tcp=config.TcpChain(clusters=(("inbound|3306||", 1),))),
        ),
    )
    assert config.decode_resource("listener", config.encode(listener)) == listener


def test_a_listener_asks_for_a_free_loopback_port_by_default() -> None:
    listener = config.Listener(name="a", direction="outbound")
    assert (listener.address, listener.port, listener.chains) == ("127.0.0.1", 0, ())


def test_an_unknown_transport_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="transport"):
        msgspec.convert({"name": "a", "transport": "quic"}, config.FilterChain)

from __future__ import annotations

from mesh import config


def _snapshot(
    route_config: str = "9080", cluster: str = "outbound|9080||a", tcp: str = "outbound|9080||a"
) -> config.Snapshot:
    http = config.FilterChain("http", http=config.HttpChain(route_config=route_config))
    tcp_chain = config.FilterChain("tcp", tcp=config.TcpChain(clusters=((tcp, 1),)))
    forward = config.Route("r", config.RouteMatch(), config.RouteAction((config.WeightedCluster(cluster),)))
    refuse = config.Route("x", config.RouteMatch(), config.DirectResponse(404))
    hosts = (config.VirtualHost("a", ("a",), (forward, refuse)),)
    return config.Snapshot(
        listeners={"l": config.Listener("l", "outbound", chains=(http, tcp_chain))},
        routes={"9080": config.RouteConfig("9080", hosts)},
        clusters={"outbound|9080||a": config.Cluster("outbound|9080||a")},
        endpoints={"outbound|9080||a": config.ClusterEndpoints("outbound|9080||a")},
    )


def test_items_come_in_the_order_in_which_nothing_breaks() -> None:
    assert [(kind, name) for kind, name, _ in _snapshot().items()] == [
        ("cluster", "outbound|9080||a"),
        ("endpoints", "outbound|9080||a"),
        ("route", "9080"),
        ("listener", "l"),
    ]


def test_a_whole_snapshot_has_nothing_dangling() -> None:
    assert _snapshot().dangling() == []


def test_dangling_names_who_refers_to_what() -> None:
    assert _snapshot(route_config="80", cluster="b", tcp="c").dangling() == [
        "listener l refers to route configuration 80",
        "listener l refers to cluster c",
        "route r of 9080 refers to cluster b",
    ]

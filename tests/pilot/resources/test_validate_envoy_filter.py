import pytest

from tests.pilot.faults import paths, warnings

REMOVE = "patch: {operation: REMOVE}"
MANAGER = "envoy.filters.network.http_connection_manager"


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        (f"applyTo: CLUSTER, {REMOVE}", []),
        (REMOVE, ["applyTo"]),
        ("applyTo: CLUSTER", ["patch"]),
        ("applyTo: CLUSTER, patch: {}", ["patch.operation"]),
        ("applyTo: CLUSTER, patch: {operation: ADD}", ["patch.value"]),
        (f"applyTo: CLUSTER, match: {{proxy: {{proxyVersion: '['}}}}, {REMOVE}", ["match.proxy.proxyVersion"]),
        (f"applyTo: CLUSTER, match: {{cluster: {{}}, listener: {{}}}}, {REMOVE}", ["match.cluster"]),
        (f"applyTo: CLUSTER, match: {{listener: {{}}}}, {REMOVE}", ["match"]),
        (f"applyTo: HTTP_ROUTE, match: {{cluster: {{}}}}, {REMOVE}", ["match"]),
        (f"applyTo: LISTENER, match: {{routeConfiguration: {{}}}}, {REMOVE}", ["match"]),
        (f"applyTo: CLUSTER, match: {{context: WAYPOINT, waypoint: {{}}}}, {REMOVE}", []),
        (f"applyTo: CLUSTER, match: {{waypoint: {{}}}}, {REMOVE}", ["match.context"]),
        (f"applyTo: CLUSTER, match: {{context: WAYPOINT, cluster: {{}}}}, {REMOVE}", ["match.context"]),
        (f"applyTo: EXTENSION_CONFIG, match: {{cluster: {{}}}}, {REMOVE}", []),
    ],
)
def test_patches(patch, expected):
    found = paths("EnvoyFilter", f"configPatches: [{{{patch}}}]")
    assert [path.removeprefix("configPatches[0].") for path in found] == expected


@pytest.mark.parametrize(
    ("apply_to", "filter_", "expected"),
    [
        ("NETWORK_FILTER", "name: a", []),
        ("NETWORK_FILTER", "{}", ["name"]),
        ("NETWORK_FILTER", "name: a, subFilter: {name: b}", ["subFilter"]),
        ("HTTP_FILTER", "name: a, subFilter: {name: b}", ["name"]),
        ("HTTP_FILTER", f"name: {MANAGER}, subFilter: {{}}", ["subFilter.name"]),
        ("HTTP_FILTER", f"name: {MANAGER}, subFilter: {{name: b}}", []),
    ],
)
def test_filters(apply_to, filter_, expected):
    inner = filter_ if filter_ == "{}" else f"{{{filter_}}}"
    match = f"match: {{listener: {{filterChain: {{filter: {inner}}}}}}}"
    found = paths("EnvoyFilter", f"configPatches: [{{applyTo: {apply_to}, {match}, {REMOVE}}}]")
    prefix = "configPatches[0].match.listener.filterChain.filter."
    assert [path.removeprefix(prefix) for path in found] == expected


def test_a_filter_of_a_whole_listener_has_no_effect():
    match = "match: {listener: {filterChain: {filter: {name: a}}}}"
    assert warnings("EnvoyFilter", f"configPatches: [{{applyTo: LISTENER, {match}, {REMOVE}}}]") == [
        "configPatches[0].match.listener.filterChain.filter"
    ]

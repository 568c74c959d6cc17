from pilot.resources.envoy_filter import FilterMatch, SubFilterMatch
from tests.pilot.faults import paths, spec


def test_every_field_decodes():
    made = spec(
        "EnvoyFilter",
        """
        workloadSelector: {labels: {app: a}}
        priority: 10
        configPatches:
          - applyTo: HTTP_FILTER
            match:
              context: SIDECAR_INBOUND
              proxy: {proxyVersion: '^1.*', metadata: {a: b}}
              listener:
                portNumber: 80
                portName: http
                listenerFilter: l
                name: n
                filterChain:
                  name: c
                  sni: s
                  transportProtocol: tls
                  applicationProtocols: h2
                  destinationPort: 80
                  filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: router}}
            patch: {operation: INSERT_BEFORE, filterClass: AUTHN, value: {name: a, typed_config: {"@type": b}}}
          - applyTo: VIRTUAL_HOST
            match:
              routeConfiguration:
                portNumber: 80
                portName: http
                gateway: ns/gw
                name: r
                vhost: {name: v, domainName: d, route: {name: r, action: REDIRECT}}
            patch: {operation: MERGE, value: {}}
          - applyTo: CLUSTER
            match: {cluster: {portNumber: 80, service: s, subset: v1, name: n}}
            patch: {operation: REMOVE}
          - applyTo: CLUSTER
            match: {context: WAYPOINT, waypoint: {portNumber: 80, filter: {name: f}, route: {name: r}}}
            patch: {operation: MERGE_AND_REPLACE_LIST, value: {}}
        """,
    )
    chain = made.config_patches[0].match.listener.filter_chain
    assert chain.filter == FilterMatch(
        name="envoy.filters.network.http_connection_manager", sub_filter=SubFilterMatch(name="router")
    )
    assert made.config_patches[0].patch.value == {"name": "a", "typed_config": {"@type": "b"}}
    assert made.config_patches[1].match.route_configuration.vhost.route.action == "REDIRECT"
    assert made.config_patches[2].match.cluster.subset == "v1"
    assert made.config_patches[3].match.waypoint.port_number == 80


def test_its_schema():
    spec = "configPatches: [{applyTo: FILTERS, match: {listener: {port: 1}}, patch: {operation: INSERT, value: []}}]"
    assert paths("EnvoyFilter", spec) == [
        "configPatches[0].applyTo",
        "configPatches[0].match.listener.port",
        "configPatches[0].patch.operation",
        "configPatches[0].patch.value",
    ]

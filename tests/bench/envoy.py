"""Envoy with filters comparable to ours: RBAC, router, request id, access log in a file, stats, timeout, retries.

Configurations are written as JSON, which Envoy reads like YAML.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.bench.certificates import Certificates
from tests.bench.load import Target
from tests.bench.process import Program, free_port
from tests.bench.subject import Subject

_TYPES = "type.googleapis.com/envoy."
_HCM = _TYPES + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
# Istio's default format, which ours writes too.
_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" '
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "
    '"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" '
    "%UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)


def gateway(binary: str, folder: Path, app_port: int, *, http2: bool = False, grpc: bool = False) -> Subject:
    """An edge proxy in plaintext before the app."""
    port = free_port()
    app = _cluster("app", app_port)
    if http2:
        app["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _TYPES + "extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    config = {
        "static_resources": {
            "listeners": [_listener(port, _manager(folder / "envoy-gateway.access.log", "gateway", "app"))],
            "clusters": [app],
        }
    }
    program = _start(binary, "envoy-gateway", config, folder)
    program.accepts(port)
    return Subject("Envoy", Target(port, "app.bench.test", http2=http2, grpc=grpc), (program,), (program,))


def sidecars(binary: str, folder: Path, app_port: int, certificates: Certificates) -> Subject:
    """client side -> mTLS -> server side -> app; both proxies are measured."""
    outbound, inbound = free_port(), free_port()
    server = _listener(inbound, _manager(folder / "envoy-inbound.access.log", "inbound", "app"))
    server["filter_chains"][0]["transport_socket"] = _tls(
        "transport_sockets.tls.v3.DownstreamTlsContext",
        certificates,
        "server",
        {"require_client_certificate": True},
    )
    client = _cluster("app", inbound)
    client["transport_socket"] = _tls(
        "transport_sockets.tls.v3.UpstreamTlsContext",
        certificates,
        "client",
        {"sni": "outbound_.8080_._.app.default.svc.cluster.local"},
        match=certificates.server_id,
    )
    near = {
        "static_resources": {
            "listeners": [_listener(outbound, _manager(folder / "envoy-outbound.access.log", "outbound", "app"))],
            "clusters": [client],
        }
    }
    far = {"static_resources": {"listeners": [server], "clusters": [_cluster("app", app_port)]}}
    programs = (_start(binary, "envoy-inbound", far, folder), _start(binary, "envoy-outbound", near, folder))
    programs[0].accepts(inbound)
    programs[1].accepts(outbound)
    target = Target(outbound, "app:8080", proxy=True)
    return Subject("Envoy", target, programs, programs, inbound=inbound, certificates=certificates)


def relay(binary: str, folder: Path, app_port: int, sink_port: int) -> Subject:
    """Opaque bytes in plaintext: a TCP proxy before the app, another before the sink."""
    ports = {"app": (free_port(), app_port), "sink": (free_port(), sink_port)}
    config = {
        "static_resources": {
            "listeners": [
                _raw_listener(near, _tcp_proxy(folder / "envoy-relay.access.log", name))
                for name, (near, _) in ports.items()
            ],
            "clusters": [_cluster(name, far) for name, (_, far) in ports.items()],
        }
    }
    program = _start(binary, "envoy-relay", config, folder)
    program.accepts(ports["app"][0])
    return Subject("Envoy", Target(ports["app"][0], "app"), (program,), (program,), ports["sink"][0])


def _start(binary: str, name: str, config: dict[str, Any], folder: Path) -> Program:
    config["admin"] = {"address": _address(free_port())}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    return Program(
        name,
        [binary, "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"],
        folder,
    )


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _listener(port: int, manager: dict[str, Any]) -> dict[str, Any]:
    return _raw_listener(port, {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager})


def _raw_listener(port: int, network_filter: dict[str, Any]) -> dict[str, Any]:
    return {"name": f"listener-{port}", "address": _address(port), "filter_chains": [{"filters": [network_filter]}]}


def _tcp_proxy(log: Path, cluster: str) -> dict[str, Any]:
    typed = {
        "@type": _TYPES + "extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": cluster,
        "cluster": cluster,
        "access_log": _access_log(log),
    }
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": typed}


def _access_log(log: Path) -> list[dict[str, Any]]:
    typed = {
        "@type": _TYPES + "extensions.access_loggers.file.v3.FileAccessLog",
        "path": str(log),
        "log_format": {"text_format_source": {"inline_string": _FORMAT}},
    }
    return [{"name": "envoy.access_loggers.file", "typed_config": typed}]


def _manager(log: Path, name: str, cluster: str) -> dict[str, Any]:
    return {
        "@type": _HCM,
        "stat_prefix": name,
        "use_remote_address": name == "gateway",
        "generate_request_id": True,
        "stream_idle_timeout": "300s",
        "access_log": _access_log(log),
        "route_config": {
            "name": name,
            "virtual_hosts": [{"name": "app", "domains": ["*"], "routes": [_route(cluster)]}],
        },
        "http_filters": [
            *([] if name == "outbound" else [_rbac()]),
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _TYPES + "extensions.filters.http.router.v3.Router"},
            },
        ],
    }


def _rbac() -> dict[str, Any]:
    """What Istio makes of `ours.policy()`: one rule of a path prefix, one of a header."""
    path = {"url_path": {"path": {"prefix": "/admin/"}}}
    header = {"header": {"name": "x-blocked", "string_match": {"exact": "yes"}}}
    policies = {
        "ns[default]-policy[app]-rule[0]": {"permissions": [path], "principals": [{"any": True}]},
        "ns[default]-policy[app]-rule[1]": {"permissions": [{"any": True}], "principals": [header]},
    }
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": _TYPES + "extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": policies},
        },
    }


def _route(cluster: str) -> dict[str, Any]:
    retry = {"retry_on": "connect-failure,refused-stream,unavailable,cancelled", "num_retries": 2}
    return {
        "name": "default",
        "match": {"prefix": "/"},
        "route": {"cluster": cluster, "timeout": "15s", "retry_policy": retry},
    }


def _cluster(name: str, port: int) -> dict[str, Any]:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }


def _tls(kind: str, certificates: Certificates, role: str, extra: dict[str, Any], *, match: str = "") -> dict[str, Any]:
    validation: dict[str, Any] = {"trusted_ca": {"filename": str(certificates.root)}}
    if match:
        validation["match_typed_subject_alt_names"] = [{"san_type": "URI", "matcher": {"exact": match}}]
    chain, key = certificates.pair(role)
    common = {
        "tls_certificates": [{"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}],
        "validation_context": validation,
    }
    typed = {"@type": _TYPES + "extensions." + kind, "common_tls_context": common, **extra}
    return {"name": "envoy.transport_sockets.tls", "typed_config": typed}

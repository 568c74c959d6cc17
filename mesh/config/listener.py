"""Listeners and their filter chains: where bytes come in and how a connection is to be read."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from mesh.config.policy import AuthzPolicy

ProxyProtocolIn = Literal["off", "accept", "require"]
"""Whether connections begin with a PROXY header: never, if they like, or always."""
TlsVersion: TypeAlias = Literal["TLSv1.2", "TLSv1.3"]


class DownstreamTls(Struct, frozen=True, omit_defaults=True):
    """Terminate TLS.

    `mode` istio_mutual: the workload's own certificate, a client certificate of the mesh required. The others show
    the certificates of the secrets `certificates` (one for each type of key) and ask for none, need one, or take
    one; that must lead to the roots of the secret `trust`, and where names or fingerprints are given, hold one of
    them. `alpn` is in order of preference; empty for mesh mTLS: the mesh's own.
    """

    mode: Literal["istio_mutual", "simple", "mutual", "optional_mutual"] = "istio_mutual"
    certificates: tuple[str, ...] = ()
    trust: str = ""
    trust_domains: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ()
    min_version: TlsVersion = "TLSv1.2"
    max_version: TlsVersion = "TLSv1.3"
    ciphers: tuple[str, ...] = ()
    """OpenSSL's names, for TLS 1.2 and before; empty: OpenSSL's own choice."""
    subject_alt_names: tuple[str, ...] = ()
    certificate_spki: tuple[str, ...] = ()
    """SHA-256 of the public key (SubjectPublicKeyInfo), lower-case hex."""
    certificate_hash: tuple[str, ...] = ()
    """SHA-256 of the certificate, lower-case hex."""

    def secrets(self) -> tuple[str, ...]:
        """Names of the secrets that it takes."""
        return (*self.certificates, self.trust) if self.trust else self.certificates


class HttpChain(Struct, frozen=True, omit_defaults=True):
    """Read the connection as HTTP.

    `route_config` names the RouteConfig to use. An explicit HTTP proxy listener leaves it empty and sets
    `route_by_port`: the RouteConfig is then the one named like the port of the request's authority
    ("9080"; 80 when none is written), and a port without one falls to `unknown_host`.
    """

    route_config: str = ""
    route_by_port: bool = False
    authority: str = ""
    """What every request is taken to be addressed to, whatever it says: on a listener that stands for a service."""
    unknown_host: Literal["reject", "allow_any", "registry_only"] = "reject"
    """What an unknown host gets: 404 (gateways), PassthroughCluster, or 502 (Istio outboundTrafficPolicy)."""
    server_name: str = ""
    """Value of the response's `server` header when the proxy sets it (inbound and gateways: istio-envoy)."""
    use_remote_address: bool = False
    """Gateways: append the peer to x-forwarded-for and overwrite x-forwarded-proto."""
    idle_timeout: float = 3600.0
    path_normalization: Literal["none", "base", "merge_slashes", "decode_and_merge_slashes"] = "base"
    """Istio's MeshConfig pathNormalization: how paths are brought into one form before policy and routing."""


class TcpChain(Struct, frozen=True, omit_defaults=True):
    """Relay the connection as opaque bytes to one of the weighted clusters, chosen per connection."""

    clusters: tuple[tuple[str, int], ...] = ()
    idle_timeout: float = 3600.0
    stat_prefix: str = ""


class FilterChain(Struct, frozen=True, omit_defaults=True):
    """One way to serve a connection. The first chain that fits wins; none fits: closed, flag NR.

    `transport`: `mtls` a ClientHello that offers a mesh ALPN, `tls` any ClientHello, `raw` anything else,
    `any` whatever comes, without looking. `application`: `http` bytes that begin an HTTP/1 request or are the
    HTTP/2 preface, `tcp` all others, `any` without looking; where TLS is terminated, its decrypted bytes.
    `policies` are asked for each request, or once for an opaque connection; `destination_port` is the port
    that they speak of (the app's own), 0 for the listener's.
    """

    name: str
    transport: Literal["any", "raw", "mtls", "tls"] = "any"
    server_names: tuple[str, ...] = ()
    tls: DownstreamTls | None = None
    http: HttpChain | None = None
    tcp: TcpChain | None = None
    policies: tuple[AuthzPolicy, ...] = ()
    destination_port: int = 0
    application: Literal["any", "http", "tcp"] = "any"


class Listener(Struct, frozen=True, omit_defaults=True):
    """A bound address. `port` 0 asks for a free one; the admin port tells which it became.

    `service` ("mysql.default.svc.cluster.local:3306") marks an outbound loopback listener that stands
    for a service port; the agent publishes those to its app as MESH_UPSTREAMS. `detection_timeout`: seconds
    that a choice among the chains waits for the client's bytes; a client that is silent for longer is taken
    for one that waits for the server to speak first, raw and opaque. 0 closes it instead, after a minute.
    `proxy_protocol` is about the header before all else, TLS included; it tells the client's address.
    """

    name: str
    direction: Literal["inbound", "outbound", "gateway"]
    address: str = "127.0.0.1"
    port: int = 0
    chains: tuple[FilterChain, ...] = ()
    service: str = ""
    detection_timeout: float = 0.0
    proxy_protocol: ProxyProtocolIn = "off"

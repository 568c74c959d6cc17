"""Istio's Gateway (networking.istio.io); the Gateway API's kind of that name is not served yet."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from pilot.resources.fields import UInt32

_OneOrTwo = Meta(min_length=1, max_length=2)
"""One of RSA, one of ECDSA."""
TlsProtocol = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]


class Port(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A port of a server. `protocol` is as written: compare without regard to case."""

    number: UInt32
    protocol: str
    name: str
    target_port: UInt32 = 0


class TlsCertificate(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Certificate files."""

    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""


class ServerTlsSettings(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """TLS of a server."""

    https_redirect: bool = False
    mode: Literal["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"] = (
        "PASSTHROUGH"
    )
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    credential_names: Annotated[tuple[str, ...], _OneOrTwo] = ()
    ca_cert_credential_name: str = ""
    tls_certificates: Annotated[tuple[TlsCertificate, ...], _OneOrTwo] = ()
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: TlsProtocol = "TLS_AUTO"
    max_protocol_version: TlsProtocol = "TLS_AUTO"
    cipher_suites: tuple[str, ...] = ()
    insecure_skip_verify: bool | None = None


class Server(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One listening port and the hosts served there; a host may be `ns/name`."""

    port: Port
    hosts: tuple[str, ...]
    bind: str = ""
    tls: ServerTlsSettings | None = None
    default_endpoint: str = ""
    name: str = ""


class Gateway(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of a Gateway; an empty selector means every gateway workload."""

    servers: tuple[Server, ...] = ()
    selector: dict[str, str] = {}

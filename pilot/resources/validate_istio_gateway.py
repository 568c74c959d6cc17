"""Rules of Istio's Gateway beyond its schema: ports, hosts, and which TLS settings go together."""

from __future__ import annotations

from pilot.resources.istio_gateway import Gateway, Port, Server, ServerTlsSettings, TlsCertificate
from pilot.resources.meta import ObjectMeta
from pilot.resources.names import domain_fault, is_ip, label_fault, partial_wildcard_fault, port_fault
from pilot.resources.report import Report
from pilot.resources.rules import check_unix_address, tell
from pilot.resources.yaml import Path

HTTP = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB")
TLS = ("HTTPS", "TLS")
PROTOCOLS = (*HTTP, *TLS, "TCP", "MONGO", "REDIS", "MYSQL")
CIPHERS = frozenset(
    {
        *(
            f"ECDHE-{key}-AES{size}-GCM-SHA{hash_}"
            for key in ("ECDSA", "RSA")
            for size, hash_ in ((128, 256), (256, 384))
        ),
        *(f"ECDHE-{key}-CHACHA20-POLY1305" for key in ("ECDSA", "RSA")),
        *(f"ECDHE-{key}-AES{size}-SHA" for key in ("ECDSA", "RSA") for size in (128, 256)),
        *("AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA", "DES-CBC3-SHA"),
    }
)


def validate(spec: Gateway, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule."""
    if "." in meta.name:
        report.style(("metadata", "name"), f"{meta.name} has dots, which a Gateway's name may not", "write it without")
    if not spec.servers:
        report(("spec", "servers"), "a gateway needs a server", "add one")
    names: set[str] = set()
    for index, server in enumerate(spec.servers):
        path: Path = ("spec", "servers", index)
        _check_server(server, path, report)
        if server.port.name in names:
            report((*path, "port", "name"), f"port name {server.port.name} is taken", "give each port its own name")
        names.add(server.port.name)


def _check_server(server: Server, path: Path, report: Report) -> None:
    if not server.hosts:
        report((*path, "hosts"), "a server needs a host", 'name them, or write ["*"]')
    for index, host in enumerate(server.hosts):
        check_server_host(host, (*path, "hosts", index), report)
    _check_port(server.port, (*path, "port"), report, unix=server.bind.startswith("unix://"))
    if server.bind.startswith("unix://"):
        check_unix_address(server.bind, (*path, "bind"), report)
    elif server.bind and not is_ip(server.bind):
        report((*path, "bind"), f"{server.bind} is not an address", "write an IP address or unix:///path")
    if server.default_endpoint:
        report.warn((*path, "defaultEndpoint"), "has no effect", "remove it")
    _check_server_tls(server, path, report)


def _check_server_tls(server: Server, path: Path, report: Report) -> None:
    protocol, tls = server.port.protocol.upper(), server.tls
    if tls is None:
        if protocol in TLS:
            report((*path, "tls"), f"a server of protocol {protocol} needs TLS settings", "add tls")
        return
    check_server_tls(tls, (*path, "tls"), report)
    if protocol in HTTP:
        _check_plain_tls(tls, protocol, (*path, "tls"), report)
    elif protocol not in TLS and protocol in PROTOCOLS:
        report((*path, "tls"), f"a server of protocol {protocol} takes no TLS settings", "write protocol TLS")
    elif tls.https_redirect:
        report.warn((*path, "tls", "httpsRedirect"), "acts on plain HTTP servers only", "move it there")


def _check_plain_tls(tls: ServerTlsSettings, protocol: str, path: Path, report: Report) -> None:
    """Istio refuses what would terminate TLS; other settings have no effect."""
    files = tls.ca_certificates or tls.private_key or tls.server_certificate
    refused = tls.mode not in ("PASSTHROUGH", "AUTO_PASSTHROUGH") or files
    if refused or tls != ServerTlsSettings(https_redirect=tls.https_redirect):
        tell_it = report if refused else report.warn
        tell_it(path, f"plain {protocol} takes httpsRedirect only", "remove the rest, or write HTTPS")


def check_server_host(host: str, path: Path, report: Report) -> None:
    """`[namespace/]host`; a host may be `*` or start with a wildcard, and short names are refused."""
    namespace, slash, name = host.rpartition("/")
    if slash and namespace not in ("*", ".") and label_fault(namespace):
        report(path, f'"{namespace}" is not a namespace', "write namespace/host, ./host or */host")
    if name == "*" or (is_ip(name) and "." in name):
        return
    if not tell(report, path, domain_fault(name, wildcard=True)):
        if "." not in name:
            report(path, f"{name} is a short name", "write the full host name")
        tell(report, path, partial_wildcard_fault(name))


def _check_port(port: Port, path: Path, report: Report, *, unix: bool) -> None:
    if port.protocol.upper() not in PROTOCOLS:
        what = f'"{port.protocol}" is not a protocol of a gateway' if port.protocol else "names no protocol"
        report((*path, "protocol"), what, "write one of " + ", ".join(PROTOCOLS))
    if not port.name:
        report((*path, "name"), "is empty", "name the port")
    if unix:
        if port.number:
            report((*path, "number"), "a unix socket has no port number", "write 0")
    else:
        tell(report, (*path, "number"), port_fault(port.number))
    if port.target_port:
        report.warn((*path, "targetPort"), "has no effect", "the Service of the gateway says the target port")


def check_server_tls(tls: ServerTlsSettings, path: Path, report: Report) -> None:
    """Which settings of a server go together, whatever its protocol."""
    _check_ciphers(tls, path, report)
    _check_credentials(tls, path, report)
    if tls.mode == "ISTIO_MUTUAL":
        _check_istio_mutual(tls, path, report)
    elif tls.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH"):
        if _sources(tls) or tls.ca_certificates or tls.ca_crl:
            report.warn(path, f"mode {tls.mode} uses no certificates", "remove them, or write another mode")
    else:
        _check_certificates(tls, path, report)
    if "TLS_AUTO" != tls.max_protocol_version < tls.min_protocol_version != "TLS_AUTO":
        report((*path, "minProtocolVersion"), "is over maxProtocolVersion", "swap them")


def _sources(tls: ServerTlsSettings) -> list[str]:
    sources = {
        "credentialName": tls.credential_name,
        "credentialNames": tls.credential_names,
        "serverCertificate": tls.server_certificate and tls.private_key,
        "tlsCertificates": tls.tls_certificates,
    }
    return [name for name, value in sources.items() if value]


def _check_credentials(tls: ServerTlsSettings, path: Path, report: Report) -> None:
    """One source of certificates, whatever the mode; a revocation list goes with client certificates from files."""
    sources = _sources(tls)
    for name in sources[1:]:
        report((*path, name), f"cannot stand beside {sources[0]}", "keep one source of certificates")
    if tls.ca_crl and tls.mode == "SIMPLE" and not (tls.credential_name or tls.credential_names):
        report((*path, "caCrl"), "SIMPLE asks for no client certificates", "remove it, or write MUTUAL")


def _check_istio_mutual(tls: ServerTlsSettings, path: Path, report: Report) -> None:
    unused = {
        "serverCertificate": tls.server_certificate,
        "privateKey": tls.private_key,
        "caCertificates": tls.ca_certificates,
        "credentialName": tls.credential_name,
        "credentialNames": tls.credential_names,
        "tlsCertificates": tls.tls_certificates,
    }
    for name, value in unused.items():
        if value:
            report((*path, name), "cannot stand beside mode ISTIO_MUTUAL, which uses the mesh's", "remove it")
    for name, value in (("caCrl", tls.ca_crl), ("caCertCredentialName", tls.ca_cert_credential_name)):
        if value:
            report.warn((*path, name), "has no effect with mode ISTIO_MUTUAL, which uses the mesh's", "remove it")


def _check_certificates(tls: ServerTlsSettings, path: Path, report: Report) -> None:
    mutual = tls.mode in ("MUTUAL", "OPTIONAL_MUTUAL")
    if tls.credential_name or tls.credential_names:
        return
    if mutual and not tls.ca_certificates and not tls.ca_cert_credential_name:
        report((*path, "caCertificates"), f"is required for mode {tls.mode}", "add the clients' CA, or credentialName")
    if tls.tls_certificates:
        for index, certificate in enumerate(tls.tls_certificates):
            _check_pair(certificate, tls.mode, (*path, "tlsCertificates", index), report)
    else:
        _check_pair(tls, tls.mode, path, report)


def _check_pair(pair: TlsCertificate | ServerTlsSettings, mode: str, path: Path, report: Report) -> None:
    for name, value in (("serverCertificate", pair.server_certificate), ("privateKey", pair.private_key)):
        if not value:
            report((*path, name), f"is required for mode {mode}", "add it, or credentialName")


def _check_ciphers(tls: ServerTlsSettings, path: Path, report: Report) -> None:
    for index, cipher in enumerate(tls.cipher_suites):
        here = (*path, "cipherSuites", index)
        if cipher not in CIPHERS:
            report.warn(here, f"unknown cipher suite {cipher} is passed over", "remove it")
        elif cipher in tls.cipher_suites[:index]:
            report.warn(here, f"cipher suite {cipher} is given twice", "remove one")

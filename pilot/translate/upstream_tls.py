"""tls of a traffic policy, or auto mTLS without one -> encryption towards a cluster."""

from __future__ import annotations

from typing import Literal

from mesh import config
from pilot.resources.destination_rule import ClientTlsSettings
from pilot.resources.object import Object
from pilot.store.services import Service
from pilot.translate.secrets import certificate_files, certificate_secret, trust_files, trust_secret
from pilot.translate.visibility import View


def translate_upstream_tls(
    view: View,
    service: Service,
    port: int,
    subset: str,
    settings: ClientTlsSettings | None,
    *,
    is_http: bool,
    written: tuple[Object, str] | None,
) -> config.UpstreamTls:
    """`written` is the DestinationRule and the path of the policy that holds the settings."""
    if settings is None:
        if service.external or not view.settings.enable_auto_mtls:
            return config.UpstreamTls("disable")
        return config.UpstreamTls("auto", _mesh_sni(service.host, port, subset), _identities(view, service))
    if settings.mode == "DISABLE":
        return config.UpstreamTls("disable")
    if settings.mode == "ISTIO_MUTUAL":
        return config.UpstreamTls(
            "istio_mutual",
            settings.sni or _mesh_sni(service.host, port, subset),
            settings.subject_alt_names or _identities(view, service),
        )
    return _originated(view, service, settings, is_http=is_http, written=written)


def _originated(
    view: View,
    service: Service,
    settings: ClientTlsSettings,
    *,
    is_http: bool,
    written: tuple[Object, str] | None,
) -> config.UpstreamTls:
    """SIMPLE and MUTUAL. Without `sni`, HTTP asks for the service's host, and unless other names are given the
    certificate must be for it (Istio's auto SNI and SAN validation, by the service rather than by each request)."""
    mode: Literal["simple", "mutual"] = "simple" if settings.mode == "SIMPLE" else "mutual"
    names = settings.subject_alt_names or service.subject_alt_names
    skip = bool(settings.insecure_skip_verify)
    host = "" if service.host.startswith("*") else service.host
    automatic = is_http and not settings.sni
    if automatic and not host and written is not None:
        remedy = "write tls.sni, in a subset or port of its own for each name"
        view.report(
            *_at(written, "sni"), f"{service.host} is many hosts, so no name can be verified; requests get 503", remedy
        )
    certificate, trust = _secrets(view, settings, mode, written)
    return config.UpstreamTls(
        mode,
        sni=settings.sni or (host if is_http else ""),
        subject_alt_names=() if skip else names,
        certificate=certificate,
        trust=trust,
        verify_host=automatic and not names and not skip,
        skip_verify=skip,
    )


def _secrets(view: View, settings: ClientTlsSettings, mode: str, written: tuple[Object, str] | None) -> tuple[str, str]:
    """Names of the secrets with the own certificate and with the roots; "" for none and for the system's."""
    if settings.credential_name and written is not None:
        return _from_credential(view, settings.credential_name, mode, *_at(written, "credentialName"))
    certificate = certificate_files(view, settings.client_certificate, settings.private_key) if mode == "mutual" else ""
    trust = trust_files(view, settings.ca_certificates, settings.ca_crl) if settings.ca_certificates else ""
    return certificate, trust


def _from_credential(view: View, credential: str, mode: str, obj: Object, path: str) -> tuple[str, str]:
    if not view.proxy.is_gateway:
        view.report(
            obj,
            path,
            "Secrets are given to gateways only; sidecars refuse connections to this destination",
            "name files: clientCertificate, privateKey, caCertificates",
        )
        missing = f"kubernetes://{view.namespace}/{credential}"
        return (missing if mode == "mutual" else ""), f"{missing}-cacert"
    certificate = certificate_secret(view, obj, path, credential) if mode == "mutual" else ""
    return certificate, trust_secret(view, obj, path, credential)


def _at(written: tuple[Object, str], field: str) -> tuple[Object, str]:
    return written[0], f"{written[1]}.tls.{field}"


def _mesh_sni(host: str, port: int, subset: str) -> str:
    return f"outbound_.{port}_.{subset}_.{host}"


def _identities(view: View, service: Service) -> tuple[str, ...]:
    """SPIFFE ids of which the peer must hold one; none where not all are known: any identity of the mesh will do."""
    domains = (view.settings.trust_domain, *view.settings.trust_domain_aliases)
    accounts = view.world.index.accounts.get((service.namespace, service.host), ())
    if any(not account for _, account in accounts):
        return ()
    ids = [f"spiffe://{domain}/ns/{namespace}/sa/{account}" for domain in domains for namespace, account in accounts]
    return (*ids, *service.subject_alt_names) if ids else ()

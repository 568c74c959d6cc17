"""The certificates in use, as the admin port shows them: the workload's own, the mesh's roots, those of secrets.

Read through the ssl module, so that looking at them does not load a cryptography library.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator

from msgspec import Struct

from agent.credentials import Material
from agent.identity import Identity
from mesh import config
from mesh.identity.der import first_certificate, read_fields


class ShownCertificate(Struct, frozen=True):
    """One certificate; times are seconds since the epoch, `serial` is upper-case hex."""

    serial: str
    uris: tuple[str, ...]
    not_before: float
    not_after: float
    is_authority: bool
    secret: str = ""
    """Name of the secret that holds it; "" for the workload's own."""


def shown_certificates(identity: Identity) -> tuple[ShownCertificate, ...]:
    """The leaf first, then the roots."""
    leaf = ShownCertificate(
        serial=read_fields(first_certificate(identity.certificate.chain_pem.decode("ascii"))).serial,
        uris=(identity.spiffe_id.uri,),
        not_before=identity.not_before,
        not_after=identity.not_after,
        is_authority=False,
    )
    roots = []
    for root in identity.client_context.get_ca_certs():
        before, after = root.get("notBefore"), root.get("notAfter")
        serial = root.get("serialNumber")
        roots.append(
            ShownCertificate(
                serial=str(serial),
                uris=(),
                not_before=ssl.cert_time_to_seconds(str(before)),
                not_after=ssl.cert_time_to_seconds(str(after)),
                is_authority=True,
            )
        )
    return (leaf, *roots)


def shown_secrets(secrets: Iterable[tuple[config.Secret, Material | None]]) -> Iterator[ShownCertificate]:
    """The leaf or the first root of each secret that can be used."""
    for secret, material in secrets:
        for pem, is_authority in ((material.certificate, False), (material.roots, True)) if material else ():
            if pem:
                fields = read_fields(first_certificate(pem.decode("ascii")))
                yield ShownCertificate(
                    fields.serial, (), fields.not_before, fields.not_after, is_authority, secret.name
                )

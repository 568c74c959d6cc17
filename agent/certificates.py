"""The certificates in use, as the admin port shows them: the workload's own and the mesh's roots.

Read through the ssl module, so that looking at them does not load a cryptography library.
"""

from __future__ import annotations

import ssl

from msgspec import Struct

from agent.identity import Identity


class ShownCertificate(Struct, frozen=True):
    """One certificate; times are seconds since the epoch, `serial` is upper-case hex."""

    serial: str
    uris: tuple[str, ...]
    not_before: float
    not_after: float
    is_authority: bool


def shown_certificates(identity: Identity) -> tuple[ShownCertificate, ...]:
    """The leaf first, then the roots."""
    leaf = ShownCertificate(
        serial=_serial(identity.certificate.chain_pem),
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


def _serial(chain_pem: bytes) -> str:
    """Serial number of the first certificate of a chain (X.690: the second element of TBSCertificate)."""
    end = b"-----END CERTIFICATE-----"
    der = ssl.PEM_cert_to_DER_cert((chain_pem[: chain_pem.index(end)] + end).decode("ascii"))
    inner = _content(der, 0)[0]
    start, _ = _content(der, inner)
    at = start
    if der[at] == 0xA0:  # explicit version
        version, length = _content(der, at)
        at = version + length
    number, length = _content(der, at)
    return der[number : number + length].lstrip(b"\0").hex().upper()


def _content(der: bytes, at: int) -> tuple[int, int]:
    """(start, size) of the content of the element at `at`."""
    size = der[at + 1]
    if size < 0x80:
        return at + 2, size
    count = size & 0x7F
    return at + 2 + count, int.from_bytes(der[at + 2 : at + 2 + count], "big")

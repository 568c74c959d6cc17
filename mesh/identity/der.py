"""The few fields of an X.509 certificate that the ssl module does not tell, read from its DER (RFC 5280 4.1).

For certificates that OpenSSL has taken: nothing is verified here.
"""

from __future__ import annotations

import ssl
from typing import Final

from msgspec import Struct

_END: Final = "-----END CERTIFICATE-----"
_UTC_TIME: Final = 0x17


class CertificateFields(Struct, frozen=True):
    """`serial` is upper-case hex; times are seconds since the epoch; `public_key` is the SubjectPublicKeyInfo."""

    serial: str
    not_before: float
    not_after: float
    public_key: bytes


def first_certificate(pem: str) -> bytes:
    """DER of the first certificate of a chain. Raises ValueError."""
    start = pem.index("-----BEGIN CERTIFICATE-----")
    return ssl.PEM_cert_to_DER_cert(pem[start : pem.index(_END, start) + len(_END)])


def read_fields(der: bytes) -> CertificateFields:
    """Raises ValueError for what is no certificate."""
    try:
        return _read(der)
    except IndexError as exc:
        raise ValueError("the certificate is cut short") from exc


def _read(der: bytes) -> CertificateFields:
    at = _inside(der, _inside(der, 0))  # Certificate, TBSCertificate
    if der[at] == 0xA0:  # the explicit version, absent in version 1
        at = _after(der, at)
    serial = _content(der, at).lstrip(b"\0").hex().upper()
    at = _after(der, at)
    for _ in ("signature", "issuer"):
        at = _after(der, at)
    start = _inside(der, at)
    not_before, not_after = _time(der, start), _time(der, _after(der, start))
    at = _after(der, at)
    at = _after(der, at)  # the subject
    return CertificateFields(serial, not_before, not_after, der[at : _after(der, at)])


def _inside(der: bytes, at: int) -> int:
    """Where the content of the element at `at` begins."""
    first = der[at + 1]
    return at + 2 + (first & 0x7F if first & 0x80 else 0)


def _after(der: bytes, at: int) -> int:
    first = der[at + 1]
    start = _inside(der, at)
    return start + (int.from_bytes(der[at + 2 : start], "big") if first & 0x80 else first)


def _content(der: bytes, at: int) -> bytes:
    return der[_inside(der, at) : _after(der, at)]


def _time(der: bytes, at: int) -> float:
    text = _content(der, at).decode("ascii")
    if der[at] == _UTC_TIME:  # two digits of the year: 50..99 are 19xx (RFC 5280 4.1.2.5.1)
        text = ("19" if text[:2] >= "50" else "20") + text
    year, month, day, hour, minute, second = text[:4], text[4:6], text[6:8], text[8:10], text[10:12], text[12:14]
    name = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[int(month) - 1]
    return float(ssl.cert_time_to_seconds(f"{name} {int(day):2} {hour}:{minute}:{second} {year} GMT"))

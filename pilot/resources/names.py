"""What may be written as a name: DNS labels and domains, labels, ports, headers, addresses.

Each function returns None for a good value, else (what is wrong, what to write instead).
"""

from __future__ import annotations

import ipaddress
import re
from typing import TypeAlias

NameFault: TypeAlias = tuple[str, str] | None

_LABEL = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?\Z")
_FIRST_LABEL = re.compile(r"(?:\*|(?:\*|\*-)?[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?)\Z")
_OBJECT_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?\Z")
_OBJECT_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?\Z")
OWN_SNI = "outbound_.PORT_.SUBSET_.HOST"
"""The form of the names by which a mesh's own clients tell a gateway where they want to go."""
_OWN_SNI = re.compile(r"outbound_[^_]*[0-9][^_]*_[^_]*_[^_]*[a-zA-Z]")
_TAG_PART = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9_.]*[a-zA-Z0-9])?\Z")
_HEADER = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+\Z")
_STRICT_HEADER = re.compile(r"[-A-Za-z0-9]+\Z")
_PORT_NAME = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?\Z")


def name_fault(name: str, *, label: bool = False) -> NameFault:
    """metadata.name, or with `label` a namespace."""
    limit, pattern = (63, _OBJECT_LABEL) if label else (253, _OBJECT_NAME)
    if len(name) > limit or not pattern.match(name):
        return f'"{name}" is not a valid name', "use lower-case letters, digits and -, at most " + str(limit)
    return None


def label_fault(text: str) -> NameFault:
    """A DNS-1123 label: a subset, a namespace."""
    if len(text) > 63 or not _LABEL.match(text):
        return f'"{text}" is not a DNS label', "use letters, digits and - (not at the ends), at most 63"
    return None


def domain_fault(domain: str, *, wildcard: bool = False, sni: bool = False) -> NameFault:
    """A host name; `wildcard` allows `*` as (the start of) the first label, `sni` names of Istio's own SNI form."""
    if not domain:
        return "an empty host name", "write a host name"
    if len(domain) > 255:
        return "a host name longer than 255 characters", "shorten it"
    if sni and domain.startswith("outbound_"):
        return None if _OWN_SNI.match(domain) else (f'"{domain}" is not a name of the mesh', "write " + OWN_SNI)
    top = domain.rpartition(".")[2]
    if top.isascii() and top.isdigit() and not (wildcard and top == domain):
        return f'"{domain}" ends in a number, which no host name does', "write a host name"
    labels = domain.removesuffix(".").split(".")
    for index, label in enumerate(labels):
        pattern = _FIRST_LABEL if wildcard and index == 0 else _LABEL
        if len(label) > 63 or not pattern.match(label):
            remedy = "use letters, digits and - between the dots"
            if "*" in label:
                remedy = "a wildcard may only be the first label, as in *.example.com" if wildcard else "name one host"
            return f'"{domain}" is not a host name: bad label "{label}"', remedy
    return None


def partial_wildcard_fault(host: str) -> NameFault:
    """A wildcard that is not a whole label: some kinds take `*.example.com` but not `*-a.example.com`."""
    if "*" in host and host != "*" and not host.startswith("*."):
        return f"{host} is a partial wildcard", "write *.example.com"
    return None


def strict_header_fault(name: str) -> NameFault:
    """A header's name where letters, digits and - are all that is taken."""
    return None if _STRICT_HEADER.match(name) else (f'"{name}" is not a header name', "use letters, digits and -")


def is_ip(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def subnet_fault(text: str) -> NameFault:
    """An address or a CIDR block."""
    address, slash, length = text.partition("/")
    good = is_ip(address)
    if good and slash:
        good = length.isascii() and length.isdigit() and int(length) <= (128 if ":" in address else 32)
    return None if good else (f'"{text}" is not an address or CIDR block', "write for example 10.0.0.0/8")


def port_fault(number: int) -> NameFault:
    """A port number."""
    return None if 1 <= number <= 65535 else (f"port {number} is out of range", "write a port from 1 to 65535")


def port_name_fault(name: str) -> NameFault:
    """A port's name in an Istio object."""
    if len(name) <= 63 and _PORT_NAME.match(name):
        return None
    return f'"{name}" is not a port name', "use letters, digits and -, at most 63"


def label_key_fault(key: str) -> NameFault:
    """A label's key, with or without prefix."""
    prefix, slash, name = key.rpartition("/")
    if slash and domain_fault(prefix):
        return f'"{prefix}" is not a label prefix', "write a domain before the /"
    if len(name) > 63 or not _TAG_PART.match(name):
        return f'"{key}" is not a label key', "use letters, digits, - _ and ., at most 63"
    return None


def label_value_fault(value: str) -> NameFault:
    """A label's value; empty is one."""
    if value and (len(value) > 63 or not _TAG_PART.match(value)):
        return f'"{value}" is not a label value', "use letters, digits, - _ and ., at most 63"
    return None


def header_fault(name: str) -> NameFault:
    """A header's name."""
    if not name:
        return "an empty header name", "write the header's name"
    if not _HEADER.match(name):
        return f'"{name}" is not a header name', "use letters, digits and -"
    return None


def header_value_fault(value: str) -> NameFault:
    """A header value with %OPERATORS%; a literal per cent sign is %%."""
    if any(ord(char) < 32 and char != "\t" for char in value):
        return "a control character in a header value", "remove it"
    position = 0
    while (position := value.find("%", position)) >= 0:
        if value.startswith("%%", position):
            position += 2
            continue
        end = _operator_end(value, position + 1)
        if end is None:
            return f'"{value}" has an operator that does not end', "close it with %, or write %% for a per cent sign"
        position = end
    return None


def _operator_end(value: str, start: int) -> int | None:
    match = re.compile(r"[A-Za-z0-9_]+(?=[%(:])").match(value, start)
    if match is None:
        return None
    position = match.end()
    if value[position] == "(":
        closing = re.compile(r"\)(?::\d+)?%").search(value, position)
        return closing.end() if closing else None
    closing = re.compile(r"(?::\d+)?%").match(value, position)
    return closing.end() if closing else None

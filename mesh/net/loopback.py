"""Whether a request to a loopback port was meant for it, or caused by a web page that the operator looks at."""

from __future__ import annotations

import ipaddress
import re

from mesh.net.http import Request


def foreign(request: Request) -> str:
    """Why the request is refused, "" when it is not.

    Only loopback names may stand in Host, so that a rebound DNS name reaches nothing, and in Origin.
    """
    host = request.headers.get("host", "")
    if host and not _is_loopback(host):
        return f"the Host {host!r} is not loopback; ask 127.0.0.1, [::1] or localhost"
    origin = request.headers.get("origin", "")
    if origin and not _is_loopback(origin.partition("://")[2]):
        return f"requests from the web page {origin!r} are refused"
    return ""


def _is_loopback(authority: str) -> bool:
    match = re.fullmatch(r"\[([0-9a-fA-F:.]+)\](?::\d*)?|([^:\[\]]+)(?::\d*)?", authority)
    if match is None:
        return False
    host = (match[1] or match[2]).lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

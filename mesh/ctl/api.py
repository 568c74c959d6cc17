"""Short calls to the pilot's API and to agents' admin ports, by the standard library's client.

Every failure is a MeshError that says who did not answer and what to do. Proxies of the environment are not used:
these doors are local.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from mesh.ctl.current import PilotAddress
from mesh.errors import MeshError

_TIMEOUT = 10.0
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class PilotApi:
    """The pilot's door for operators."""

    def __init__(self, address: PilotAddress) -> None:
        self._address = address

    def get(self, path: str, **query: str) -> Any:
        """The JSON at `path`; empty query values are left out."""
        return json.loads(self._call("GET", path, query, None, _TIMEOUT))

    def post(self, path: str, body: bytes, *, wait: float | None = None, **query: str) -> Any:
        """Send `body`, return the JSON answer; with `wait` the pilot answers when agents have acknowledged, or
        after that many seconds."""
        if wait is not None:
            query["wait"] = f"{wait:g}"
        return json.loads(self._call("POST", path, query, body, _TIMEOUT + (wait or 0)))

    def _call(self, method: str, path: str, query: Mapping[str, str], body: bytes | None, timeout: float) -> bytes:
        words = urllib.parse.urlencode({key: value for key, value in query.items() if value})
        url = f"{self._address.url}{path}" + (f"?{words}" if words else "")
        headers = {"authorization": f"Bearer {self._address.token}", "content-type": "application/yaml"}
        return fetch(url, method, body, headers, timeout=timeout, whom="the pilot")


def fetch(
    url: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout: float = _TIMEOUT,
    whom: str = "",
) -> bytes:
    """The body of a 2xx answer. Raises MeshError otherwise."""
    request = urllib.request.Request(url, body, dict(headers or {}), method=method)
    whom = f"{whom} at {url}" if whom else url
    try:
        with _opener.open(request, timeout=timeout) as response:
            data: bytes = response.read()
            return data
    except urllib.error.HTTPError as exc:
        with exc:
            raise MeshError(_refusal(whom, exc.code, exc.read())) from None
    except (OSError, ValueError) as exc:
        reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
        raise MeshError(f"{whom} does not answer: {reason}; is it running?") from exc


def _refusal(whom: str, status: int, body: bytes) -> str:
    text = body.decode("utf-8", "replace").strip()
    if status in (401, 403):
        return f"{whom} refuses the token: {text}; give --token-file of this very pilot"
    try:
        told = json.loads(text)
    except ValueError:
        return f"{whom} answers {status}: {text}"
    if not isinstance(told, dict):
        return f"{whom} answers {status}: {text}"
    if errors := told.get("errors"):
        return "\n".join(str(error.get("text", error)) if isinstance(error, dict) else str(error) for error in errors)
    return str(told.get("error", text))

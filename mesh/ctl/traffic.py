"""What an agent counted, read from its /stats/prometheus: requests by destination, version and status."""

from __future__ import annotations

import re
from typing import NamedTuple

from mesh.ctl import api

_LINE = re.compile(r"istio_requests_total\{(?P<labels>.*)\} (?P<value>[-+.eE0-9]+)")
_LABEL = re.compile(r'([a-z_0-9]+)="((?:[^"\\]|\\.)*)"')


class Count(NamedTuple):
    """Requests that went to one version of one service and ended with one status."""

    service: str
    version: str
    code: str
    requests: int


def parse_counts(text: str, reporter: str) -> list[Count]:
    """The istio_requests_total of one reporter (source or destination) in a Prometheus exposition."""
    counts = []
    for found in _LINE.finditer(text):
        labels = dict(_LABEL.findall(found["labels"]))
        if labels.get("reporter") == reporter:
            service = labels.get("destination_service_name", "").partition(".")[0]
            version, code = labels.get("destination_version", ""), labels.get("response_code", "")
            counts.append(Count(service, version, code, int(float(found["value"]))))
    return counts


def counts(admin: str, reporter: str = "source") -> list[Count]:
    """The counts of the agent whose admin URL this is. Raises MeshError."""
    text = api.fetch(f"{admin}/stats/prometheus", timeout=3.0, whom="the agent").decode()
    return parse_counts(text, reporter)


def by_version(found: list[Count], service: str, *, errors: bool = False) -> dict[str, int]:
    """Requests to `service` by version; with `errors` only those that ended with 5xx or without an answer."""
    totals: dict[str, int] = {}
    for count in found:
        if count.service == service and count.version and (not errors or count.code.startswith(("5", "0"))):
            totals[count.version] = totals.get(count.version, 0) + count.requests
    return dict(sorted(totals.items()))

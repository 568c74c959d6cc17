"""The admin port's `/stats`: one `name{labels}: value` a line, or JSON, filtered as Envoy does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from mesh.errors import MeshError
from mesh.net.http import Response
from mesh.telemetry.families import SampledFamily
from mesh.telemetry.metrics import Sample, number

FORMATS = ("text", "json", "prometheus")


def stats_format(query: Mapping[str, str]) -> str:
    """One of FORMATS. Raises MeshError."""
    form = query.get("format", FORMATS[0])
    if form not in FORMATS:
        raise MeshError(f"{form!r} is no format; write one of {', '.join(FORMATS)}")
    return form


def stats_page(
    families: Iterable[SampledFamily], query: Mapping[str, str], compile_full: Callable[[str], Callable[[bytes], bool]]
) -> Response:
    """As text or JSON; `?filter=RE` is searched in the names, `usedonly` leaves out zeros.

    Raises MeshError for a format that is none, and what `compile_full` raises for the pattern.
    """
    form = stats_format(query)
    pattern = query.get("filter", "")
    wanted = compile_full(f".*(?:{pattern}).*") if pattern else lambda name: True
    used_only = "usedonly" in query
    samples = [
        (name, sample.value)
        for family in families
        for sample in family.samples()
        if not (used_only and sample.value == 0) and wanted((name := _name(sample)).encode("utf-8", "replace"))
    ]
    if form == "json":
        told = {"stats": [{"name": name, "value": value} for name, value in samples]}
        return Response(200, msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n", "application/json")
    text = "".join(f"{name}: {number(value)}\n" for name, value in samples)
    return Response(200, text.encode("utf-8", "replace"))


def _name(sample: Sample) -> str:
    return f"{sample.name}{{{sample.labels}}}" if sample.labels else sample.name

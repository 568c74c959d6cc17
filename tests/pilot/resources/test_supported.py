"""No field is ignored in silence: each is read by what comes after decoding, or its being not served is told."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pilot.resources import destination_rule, istio_gateway
from pilot.resources.kinds import ISTIO_GROUPS, KINDS, Kind
from pilot.resources.supported import COMPANIONS, NO_EFFECT, REFUSED, is_reported, rows, structs
from tests.pilot.faults import paths, warnings

ROOT = Path(__file__).resolve().parents[3]
SERVED = [kind for kind in KINDS if kind.group in ISTIO_GROUPS and kind.spec is not None and not kind.instead]
BY_NAME = {kind.name: kind for kind in KINDS}


def reads() -> dict[str, set[str]]:
    """Module of models -> names of attributes that modules which import it read: by `.name`, getattr or a table."""
    found: dict[str, set[str]] = defaultdict(set)
    sources = [*(ROOT / "pilot").rglob("*.py"), *(ROOT / "mesh" / "ctl").rglob("*.py")]
    for file in sources:
        # What decodes and checks reads everything; the methods of meta.py stand for their callers.
        if file.parent.name == "resources" and file.name != "meta.py":
            continue
        imported, read = _imports_and_reads(ast.parse(file.read_text()))
        for module in imported:
            found[module] |= read
    return found


def _imports_and_reads(tree: ast.AST) -> tuple[set[str], set[str]]:
    imported: set[str] = set()
    read: set[str] = set()
    opposites = False
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                imported |= {module, *(f"{module}.{name.name}" for name in names)}
            case ast.Attribute(attr=attr, ctx=ast.Load()):
                read.add(attr)
            case ast.Constant(value=str(text)):
                read.add(text)
                opposites = opposites or text == "not_"
    return imported, read | {f"not_{name}" for name in read} if opposites else read


def unread(kind: Kind) -> Iterator[str]:
    """Paths of fields that nobody reads and nobody reports."""
    known = reads()
    silent = {row.path for row in rows(kind) if row.state in ("refused", "no effect")}

    def walk(model: type[msgspec.Struct], path: str) -> Iterator[str]:
        for field in msgspec.structs.fields(model):
            here = f"{path}.{field.encode_name}" if path else field.encode_name
            told = is_reported(kind.name, here) or here in silent or (kind.name, field.encode_name) in NO_EFFECT
            if not told and field.name not in known[model.__module__]:
                yield here
            for inner in structs(field.type):
                yield from walk(inner, here)

    assert kind.spec is not None
    yield from walk(kind.spec, "")


@pytest.mark.parametrize("kind", SERVED, ids=lambda kind: kind.name)
def test_every_field_is_served_or_reported(kind):
    silent = list(unread(kind))
    assert not silent, f"serve these fields, or say in not_served.py what happens instead: {silent}"


def test_a_field_that_nobody_reads_is_found():
    class Spec(msgspec.Struct, rename="camel"):
        never_looked_at: int = 0

    assert list(unread(Kind("Invented", "networking.istio.io", ("v1",), Spec))) == ["neverLookedAt"]


def test_states():
    by_path = {row.path: row for row in rows(BY_NAME["DestinationRule"])}
    assert (by_path["host"].state, by_path["host"].since) == ("served", "0.1")
    assert by_path["trafficPolicy.outlierDetection.consecutiveErrors"].state == "no effect"
    assert by_path["subsets.trafficPolicy.*"].note == "trafficPolicy"
    tunnel = Kind("DestinationRule", "networking.istio.io", ("v1",), destination_rule.DestinationRule, instead="why")
    assert {(row.state, row.note) for row in rows(tunnel)} == {("reported", "why")}
    gateway = {row.path: row for row in rows(BY_NAME["Gateway"])}
    assert gateway["servers.tls.mode"].state == "partly"
    assert gateway["servers.tls.mode"].note.startswith("AUTO_PASSTHROUGH: ")
    assert rows(BY_NAME["HTTPRoute"]) == []


def test_the_tables_name_fields_that_exist():
    for name, path in [*REFUSED, *COMPANIONS]:
        model = BY_NAME[name].spec
        for part in path.split("."):
            fields = {f.encode_name: f.type for f in msgspec.structs.fields(model)}
            assert part in fields, (name, path)
            model = next(structs(fields[part]), None)
    models = {"DestinationRule": destination_rule.OutlierDetection, "Gateway": istio_gateway.Server}
    for name, field in NO_EFFECT:
        owners = (models[name], istio_gateway.Port)
        assert any(field in model.__struct_encode_fields__ for model in owners)


def test_what_is_refused_is_refused_and_what_has_no_effect_is_told():
    route = "hosts: [a]\nhttp: [{route: [{destination: {host: a}}], fault: %s}]"
    for fault in ("{delay: {exponentialDelay: 1s}}", "{abort: {http2Error: a}}"):
        assert paths("VirtualService", route % fault)
    assert warnings("DestinationRule", "host: a\ntrafficPolicy: {outlierDetection: {consecutiveErrors: 1}}")
    port = "{number: 1, name: a, protocol: TCP, targetPort: 2}"
    assert warnings("Gateway", f"servers: [{{hosts: ['*'], port: {port}, defaultEndpoint: a}}]") == [
        "servers[0].port.targetPort",
        "servers[0].defaultEndpoint",
    ]

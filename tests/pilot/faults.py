"""Short words for tests of validation: a spec in, the faults out."""

from __future__ import annotations

import textwrap

from pilot.resources.registry import Loaded, load

API = {
    "AuthorizationPolicy": "security.istio.io/v1",
    "EnvoyFilter": "networking.istio.io/v1alpha3",
    "PeerAuthentication": "security.istio.io/v1",
    "ProxyConfig": "networking.istio.io/v1beta1",
    "RequestAuthentication": "security.istio.io/v1",
    "Service": "v1",
    "Telemetry": "telemetry.istio.io/v1",
    "TrafficExtension": "extensions.istio.io/v1alpha1",
    "WasmPlugin": "extensions.istio.io/v1alpha1",
}


def loaded(kind: str, spec: str) -> Loaded:
    """One object named `it` of that kind, with this spec."""
    body = textwrap.indent(textwrap.dedent(spec), "  ")
    api = API.get(kind, "networking.istio.io/v1")
    return load(f"apiVersion: {api}\nkind: {kind}\nmetadata: {{name: it}}\nspec:\n{body}", "it.yaml")


def faults(kind: str, spec: str) -> list[str]:
    """`path: what` of each fault, in order of place."""
    return [f"{e.path.removeprefix('spec.')}: {e.what}" for e in loaded(kind, spec).errors]


def paths(kind: str, spec: str) -> list[str]:
    """The paths of the faults below `spec`, in order of the report."""
    return [e.path.removeprefix("spec.") for e in loaded(kind, spec).errors]


def warnings(kind: str, spec: str) -> list[str]:
    """The paths of the warnings below `spec` of a valid object."""
    found = loaded(kind, spec)
    assert not found.errors, [str(e) for e in found.errors]
    return [n.path.removeprefix("spec.") for n in found.notices if n.level == "warning"]


def spec(kind: str, text: str):
    """The decoded spec of a valid object."""
    found = loaded(kind, text)
    assert not found.errors, [str(e) for e in found.errors]
    return found.objects[0].spec

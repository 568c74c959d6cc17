"""WasmPlugin, and what it shares with TrafficExtension: read, checked, and never loaded."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from pilot.resources.fields import Int32, Text
from pilot.resources.meta import MatchLabels
from pilot.resources.target_ref import TargetRef

Phase = Literal["UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"]
PullPolicy = Literal["UNSPECIFIED_POLICY", "IfNotPresent", "Always"]
PluginType = Literal["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"]
FailStrategy = Literal["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"]
Sha256 = Annotated[str, Meta(pattern="^$|^[a-f0-9]{64}$")]
SecretName = Annotated[str, Meta(min_length=1, max_length=253)]
PluginName = Annotated[str, Meta(min_length=1, max_length=256)]


class EnvVar(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """An environment variable of the virtual machine."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    value: Annotated[str, Meta(max_length=2048)] | None = None
    value_from: Literal["INLINE", "HOST"] = "INLINE"


class VmConfig(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The virtual machine of a plugin."""

    env: Annotated[tuple[EnvVar, ...], Meta(max_length=256)] = ()


class MatchedPort(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A destination port."""

    number: Annotated[int, Meta(ge=1, le=65535)]


class TrafficSelector(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Which traffic passes the plugin: one of the ports, in one of the directions."""

    mode: Literal["UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"] = "UNDEFINED"
    ports: tuple[MatchedPort, ...] = ()


class WasmPlugin(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of a WasmPlugin."""

    url: Text
    selector: MatchLabels | None = None
    target_ref: TargetRef | None = None
    target_refs: tuple[TargetRef, ...] = ()
    sha256: Sha256 = ""
    image_pull_policy: PullPolicy = "UNSPECIFIED_POLICY"
    image_pull_secret: SecretName = ""
    verification_key: str = ""
    plugin_config: dict[str, Any] = {}
    plugin_name: PluginName = ""
    phase: Phase = "UNSPECIFIED_PHASE"
    priority: Int32 | None = None
    fail_strategy: FailStrategy = "FAIL_CLOSE"
    vm_config: VmConfig | None = None
    match: tuple[TrafficSelector, ...] = ()
    type: PluginType = "UNSPECIFIED_PLUGIN_TYPE"

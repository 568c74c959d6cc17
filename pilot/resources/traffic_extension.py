"""TrafficExtension: WebAssembly or Lua in the way of requests; read, checked, and never loaded."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from pilot.resources.fields import Int32, Text
from pilot.resources.meta import MatchLabels
from pilot.resources.target_ref import TargetRef
from pilot.resources.wasm_plugin import (
    FailStrategy,
    Phase,
    PluginName,
    PluginType,
    PullPolicy,
    SecretName,
    Sha256,
    TrafficSelector,
    VmConfig,
)


class WasmConfig(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A WebAssembly module and its settings."""

    url: Text
    sha256: Sha256 = ""
    image_pull_policy: PullPolicy = "UNSPECIFIED_POLICY"
    image_pull_secret: SecretName = ""
    verification_key: str = ""
    plugin_config: dict[str, Any] = {}
    plugin_name: PluginName = ""
    fail_strategy: FailStrategy = "FAIL_CLOSE"
    vm_config: VmConfig | None = None
    type: PluginType = "UNSPECIFIED_PLUGIN_TYPE"


class LuaConfig(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A Lua script."""

    inline_code: Annotated[str, Meta(min_length=1, max_length=65536)]


class TrafficExtension(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of a TrafficExtension; exactly one of `wasm` and `lua`."""

    selector: MatchLabels | None = None
    target_refs: tuple[TargetRef, ...] = ()
    phase: Phase = "UNSPECIFIED_PHASE"
    priority: Int32 | None = None
    match: tuple[TrafficSelector, ...] = ()
    wasm: WasmConfig | None = None
    lua: LuaConfig | None = None

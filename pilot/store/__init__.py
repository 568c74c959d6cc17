"""2. One immutable world per version."""

from pilot.store.change import Change, Key
from pilot.store.mesh_config import MeshSettings, decode_mesh_config
from pilot.store.world import Registration, World

__all__ = ["Change", "Key", "MeshSettings", "Registration", "World", "decode_mesh_config"]

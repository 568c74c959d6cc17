"""3. Pure functions from (World, Proxy) to a Snapshot."""

from pilot.translate.endpoints import translate_endpoints
from pilot.translate.proxy import Proxy, scope_key
from pilot.translate.translate import Translation, translate
from pilot.translate.visibility import Report

__all__ = ["Proxy", "Report", "Translation", "scope_key", "translate", "translate_endpoints"]

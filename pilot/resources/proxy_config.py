"""ProxyConfig: settings of the agents of a namespace, read when an agent starts."""

from typing import Annotated

from msgspec import Meta, Struct

from pilot.resources.fields import Count
from pilot.resources.meta import MatchLabels


class ProxyImage(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Which of the image's variants is injected."""

    image_type: str = ""


class ProxyConfig(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of a ProxyConfig; `concurrency` is the number of workers, 0 as many as there are cores."""

    selector: MatchLabels | None = None
    concurrency: Count | None = None
    environment_variables: dict[str, Annotated[str, Meta(max_length=2048)]] = {}
    image: ProxyImage | None = None

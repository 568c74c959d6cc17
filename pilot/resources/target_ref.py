"""What a policy is attached to, in place of the labels of its selector."""

from typing import Annotated

from msgspec import Meta, Struct

_GROUP = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_KIND = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"


class TargetRef(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """An object by group, kind and name; it is always of the policy's own namespace."""

    kind: Annotated[str, Meta(min_length=1, max_length=63, pattern=_KIND)]
    name: Annotated[str, Meta(min_length=1, max_length=253)]
    group: Annotated[str, Meta(max_length=253, pattern=_GROUP)] = ""
    namespace: str = ""

"""The field types that models are written with, beside the plain ones.

A model's annotation says what the cluster's schema says: type, range, length, pattern, enumeration. decode.py
reads them; rules that need more than one field belong to the kind's validation.
"""

from typing import Annotated, NewType

from msgspec import Meta

Duration = NewType("Duration", float)
"""Seconds; written as a Go duration (1h, 1m30s, 1.5s, 10ms)."""

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
UInt32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""An int32 that the schema wants to be 0 or more."""
Percentage = Annotated[float, Meta(ge=0, le=100)]
NonEmptyMap = Meta(min_length=1)
"""With Annotated: a map that has a member whenever it is given."""
Text = Annotated[str, Meta(min_length=1)]
"""A text that is not empty whenever it is given."""
UInt64 = Annotated[int, Meta(ge=0, le=2**64 - 1)]

"""One MeshError out of the groups that nurseries put around it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh.ctl.groups import unwrapped
from mesh.errors import MeshError


def raising(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


def test_a_value_and_a_bare_error_pass_through() -> None:
    assert unwrapped(lambda: 7) == 7
    with pytest.raises(ValueError, match="mine"):
        unwrapped(raising(ValueError("mine")))


@pytest.mark.parametrize("others", [[], [ValueError("echo")]])
def test_the_first_mesh_error_of_nested_groups_is_raised_alone(others: list[Exception]) -> None:
    inner = ExceptionGroup("inner", [MeshError("first"), MeshError("second")])
    with pytest.raises(MeshError, match="first") as caught:
        unwrapped(raising(ExceptionGroup("outer", [*others, inner])))
    assert caught.value.__suppress_context__


def test_a_group_without_one_stays_a_group() -> None:
    with pytest.raises(ExceptionGroup, match="other"):
        unwrapped(raising(ExceptionGroup("other", [ValueError("bug")])))

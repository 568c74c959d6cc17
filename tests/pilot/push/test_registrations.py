"""Workloads that come, go, and are expected back; time is numbers."""

from pathlib import Path

import pytest

from mesh.feed.node import InboundPort
from pilot.push.registrations import Registrations, RegistrationsError
from tests.feed_rig import node

A, B = node("a"), node("b")


def test_new_changed_and_equal() -> None:
    registrations = Registrations()
    assert registrations.connect(A, "s1")
    assert not registrations.connect(A, "s2")
    assert registrations.connect(node("a", ports=(InboundPort(80, "127.0.0.1", 1),)), "s3")


def test_a_goodbye_removes_at_once() -> None:
    registrations = Registrations()
    registrations.connect(A, "s1")
    assert registrations.disconnect("a", "s1", 5.0, at_once=True) == A
    assert registrations.next_expiry is None
    assert registrations.disconnect("a", "s1", 5.0, at_once=True) is None


def test_a_break_has_a_grace() -> None:
    registrations = Registrations(grace=1.0)
    registrations.connect(A, "s1")
    assert registrations.disconnect("a", "s1", 5.0, at_once=False) is None
    assert registrations.next_expiry == 6.0
    assert registrations.expire(5.9) == []
    assert registrations.expire(6.0) == [A]
    assert registrations.expire(7.0) == []


def test_coming_back_within_the_grace_changes_nothing() -> None:
    registrations = Registrations(grace=1.0)
    registrations.connect(A, "s1")
    registrations.disconnect("a", "s1", 5.0, at_once=False)
    assert not registrations.connect(A, "s2")
    assert registrations.expire(99.0) == []


def test_the_end_of_an_older_session_does_not_touch_the_newer() -> None:
    registrations = Registrations()
    registrations.connect(A, "s1")
    registrations.connect(A, "s2")
    assert registrations.disconnect("a", "s1", 5.0, at_once=True) is None
    assert registrations.expire(99.0) == []


def test_restored_workloads_are_expected_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "workloads.json"
    before = Registrations(path)
    before.connect(B, "s1")
    before.connect(A, "s2")
    after = Registrations(path, expected_grace=15.0)
    assert after.restore(100.0) == [A, B]
    assert after.expected == ["a", "b"]
    assert not after.connect(A, "s1")
    assert after.expected == ["b"]
    assert after.expire(114.9) == []
    assert after.expire(115.0) == [B]
    assert Registrations(path).restore(0.0) == [A]


def test_nothing_to_restore(tmp_path: Path) -> None:
    assert Registrations().restore(0.0) == []
    assert Registrations(tmp_path / "none").restore(0.0) == []


def test_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "workloads.json"
    path.write_text("{")
    with pytest.raises(RegistrationsError, match="register again"):
        Registrations(path).restore(0.0)


def test_failure_to_save_is_told(tmp_path: Path) -> None:
    path = tmp_path / "workloads.json"
    path.mkdir()
    (path / "inside").touch()
    told: list[OSError] = []
    registrations = Registrations(path)
    registrations.on_save_error = told.append
    assert registrations.connect(A, "s1")
    assert len(told) == 1


def test_several_sessions_of_one_workload() -> None:
    registrations = Registrations(grace=1.0)
    assert registrations.connect(A, "s1")
    assert not registrations.connect(A, "s2")
    assert registrations.disconnect("a", "s1", 5.0, at_once=True) is None
    assert registrations.next_expiry is None
    assert registrations.disconnect("a", "s2", 5.0, at_once=True) == A

"""proxy-status and proxy-config against a real pilot and a real sidecar."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from mesh.ctl.status import time_left
from tests.mesh.ctl.small_mesh import SmallMesh, sidecar, small_mesh


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallMesh]:
    with small_mesh(tmp_path_factory.mktemp("pilot")) as running:
        yield running


@pytest.fixture(scope="module")
def admin(mesh: SmallMesh) -> Iterator[str]:
    with sidecar(mesh, "reviews", "v1") as ready:
        yield ready["admin"]


@pytest.fixture(autouse=True)
def _no_current_mesh(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))


def test_connected_agents_are_listed_with_their_state(mesh: SmallMesh, admin: str) -> None:
    listed = mesh.meshctl("proxy-status")
    assert listed.exit_code == 0
    head, row = listed.stdout.splitlines()
    assert head.split()[:3] == ["NAME", "ROLE", "CLUSTERS"]
    assert row.startswith("sidecar~reviews-v1-")
    assert row.split()[2] == "SYNCED"
    assert head.split()[6:] == ["APP", "EJECTED", "CERT", "WORKERS", "VERSION"]
    assert row.split()[6:8] == ["-", "0"]
    assert json.loads(mesh.meshctl("proxy-status", "-o", "json").stdout)[0]["service"] == "reviews"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(90061.0, "1d1h"), (86399.9, "23h59m"), (250.0, "4m10s"), (12.7, "12s"), (0.0, "expired"), (-5.0, "expired")],
)
def test_time_left_is_short(seconds: float, text: str) -> None:
    assert time_left(seconds) == text


@pytest.mark.parametrize(
    ("section", "wanted"),
    [
        ("listeners", "http_proxy"),
        ("routes", "outbound|9080||reviews.default.svc.cluster.local"),
        ("clusters", "DestinationRule/default/reviews"),
        ("endpoints", "outbound|9080|v1|reviews.default.svc.cluster.local"),
    ],
)
def test_what_one_agent_was_told(mesh: SmallMesh, admin: str, section: str, wanted: str) -> None:
    shown = mesh.meshctl("proxy-config", section, "reviews-v1")
    assert shown.exit_code == 0
    assert wanted in shown.stdout
    assert isinstance(json.loads(mesh.meshctl("proxy-config", section, "reviews", "-o", "json").stdout), list)


def test_what_the_agent_itself_has_seen_is_asked_at_its_admin_port(mesh: SmallMesh, admin: str) -> None:
    assert "  -  " in mesh.meshctl("proxy-config", "endpoints", "reviews").stdout
    endpoints = mesh.meshctl("proxy-config", "endpoints", "any", "--admin", admin).stdout
    assert "  ok  " in endpoints
    told = mesh.meshctl("proxy-config", "endpoints", "any", "--admin", admin, "-o", "json")
    assert {each["ejected"] for cluster in json.loads(told.stdout) for each in cluster.get("endpoints", [])} == {False}
    secrets = mesh.meshctl("proxy-config", "secrets", "any", "--admin", admin).stdout
    assert "spiffe://cluster.local/ns/default/sa/reviews" in secrets
    everything = mesh.meshctl("proxy-config", "all", "any", "--admin", admin).stdout
    assert [word in everything for word in ("LISTENERS\n", "ROUTES\n", "SECRETS\n")] == [True] * 3


def test_unclear_names_are_refused_with_the_names_that_there_are(mesh: SmallMesh, admin: str) -> None:
    unknown = mesh.meshctl("proxy-config", "routes", "nobody")
    assert unknown.exit_code == 2
    assert "connected are: sidecar~reviews-v1-" in unknown.output
    secrets = mesh.meshctl("proxy-config", "secrets", "reviews")
    assert secrets.exit_code == 2
    assert "give --admin URL" in secrets.output
    with sidecar(mesh, "reviews", "v2"):
        unclear = mesh.meshctl("proxy-config", "routes", "reviews")
        assert unclear.exit_code == 2
        assert "write more of the name" in unclear.output

"""Golden cases: YAML in, a snapshot out, and a handful of calls answered by the agent's own explain.

A case is a folder `<family>/<feature>/<case>/` with
  in.yaml        the objects
  proxy.yaml     node: the proxy's Node; optionally workloads (Nodes that are connected), mesh_config, dry_run,
                 match_all_gateways, and reports: what the translation must say
  snapshot.json  how it is served; rewritten with UPDATE_GOLDEN=1
  calls.yaml     that it is right, written by hand: `ask` (METHOD URL), optional headers, and `gives`: the cluster
                 with its share, `STATUS FLAG`, or `STATUS LOCATION`
"""

import os
from pathlib import Path

import msgspec
import pytest

from agent.explain import Explanation, explain_url
from mesh.config import Snapshot, encode
from mesh.feed.node import Node
from pilot.resources.registry import load
from pilot.resources.yaml import documents
from pilot.store import World, decode_mesh_config
from pilot.translate import Proxy, translate

HERE = Path(__file__).parent
CASES = sorted(path.parent.relative_to(HERE).as_posix() for path in HERE.glob("*/*/*/in.yaml"))


class Scene(msgspec.Struct):
    """What proxy.yaml holds."""

    node: Node
    workloads: list[Node] = []
    mesh_config: dict[str, object] = {}
    dry_run: bool = True
    match_all_gateways: bool = False
    reports: list[str] = []


class Asked(msgspec.Struct):
    """One entry of calls.yaml."""

    ask: str
    gives: str | list[str]
    headers: dict[str, str] = {}


def read(path, type_):
    (document,), errors = documents(path.read_text(), path.name)
    assert not errors
    return msgspec.convert(document.value, type_)


def translated(folder):
    scene = read(folder / "proxy.yaml", Scene)
    loaded = load((folder / "in.yaml").read_text(), "in.yaml")
    assert not loaded.errors, [str(error) for error in loaded.errors]
    world, _ = World(decode_mesh_config(scene.mesh_config), dry_run=scene.dry_run).apply(
        (obj.key, obj) for obj in loaded.objects
    )
    for node in scene.workloads:
        world, _ = world.with_workload(node)
    return scene, translate(world, Proxy(scene.node, match_all_gateways=scene.match_all_gateways))


def spoken(found: Explanation) -> str | list[str]:
    if found.location:
        return f"{found.status} {found.location}"
    if found.flag or found.direct is not None or not found.destinations:
        return " ".join(filter(None, (str(found.status or found.outcome), found.flag)))
    said = [
        place.cluster if place.share == 100 else f"{place.share:g} % {place.cluster}" for place in found.destinations
    ]
    return said[0] if len(said) == 1 else said


def pretty(snapshot: Snapshot) -> bytes:
    return msgspec.json.format(encode(snapshot), indent=1) + b"\n"


@pytest.mark.parametrize("case", CASES)
def test_the_snapshot_is_as_it_was(case):
    folder = HERE / case
    scene, translation = translated(folder)
    got = pretty(translation.snapshot)
    file = folder / "snapshot.json"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_bytes(got)
    assert got == file.read_bytes(), "the translation changed; look at it, then run make golden"
    assert [str(report) for report in translation.reports] == scene.reports


@pytest.mark.parametrize("case", CASES)
def test_the_agents_answers_are_right(case):
    folder = HERE / case
    scene, translation = translated(folder)
    for asked in read(folder / "calls.yaml", list[Asked]):
        method, url = asked.ask.split(" ")
        found = explain_url(translation.snapshot, method, url, list(asked.headers.items()), role=scene.node.role)
        assert spoken(found) == asked.gives, asked.ask


def test_there_are_cases():
    assert len(CASES) >= 12

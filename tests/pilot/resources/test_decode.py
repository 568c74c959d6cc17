from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from pilot.resources.decode import decode, describe, nearest
from pilot.resources.fields import Duration, NonEmptyMap, UInt32
from pilot.resources.report import Report


class Inner(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    id: str
    wait_for: Duration | None = None


class Outer(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    name: str
    count: UInt32 = 0
    ratio: float = 0.0
    open: bool = False
    mode: Literal["ON", "OFF"] = "ON"
    port: int | str | None = None
    inner: Inner | None = None
    items: tuple[Inner, ...] = ()
    labels: dict[str, str] = {}
    by_port: Annotated[dict[UInt32, Inner], NonEmptyMap] = {}
    rest: Any = None


class Tolerant(Struct, frozen=True, rename="camel"):
    mode: Literal["ON", "OFF"]
    number: UInt32
    inner: Inner
    items: tuple[Inner, ...]


def run(value, cls=Outer):
    report = Report()
    result = decode(cls, value, ("spec",), report)
    return result, [(".".join(map(str, f.path)), f.what, f.remedy) for f in report.faults]


def test_everything_in_order():
    result, faults = run(
        {
            "name": "n",
            "count": 3.0,
            "ratio": 1,
            "open": True,
            "mode": "OFF",
            "port": "http",
            "inner": {"id": "i", "waitFor": "1.5s"},
            "items": [{"id": "a"}, {"id": "b"}],
            "labels": {"a": "b"},
            "byPort": {"80": {"id": "x"}},
            "rest": [1, {}],
        }
    )
    assert faults == []
    assert result == Outer(
        name="n",
        count=3,
        ratio=1.0,
        open=True,
        mode="OFF",
        port="http",
        inner=Inner(id="i", wait_for=1.5),
        items=(Inner(id="a"), Inner(id="b")),
        labels={"a": "b"},
        by_port={80: Inner(id="x")},
        rest=[1, {}],
    )


def test_null_is_not_given():
    result, faults = run({"name": "n", "count": None, "inner": None, "items": None})
    assert faults == []
    assert result == Outer(name="n")


def test_all_faults_are_told_at_once_with_path_and_remedy():
    _, faults = run(
        {
            "count": -1,
            "ratio": "1",
            "open": "yes",
            "mode": "on",
            "port": True,
            "inner": {"ids": "x", "waitFor": 5},
            "items": {"id": "a"},
            "labels": {"a": 1, "b": True, "c": None},
            "byPort": {"x": {"id": "y"}},
            "coutn": 1,
        }
    )
    by_path = {path: (what, remedy) for path, what, remedy in faults}
    assert set(by_path) == {
        "spec.count",
        "spec.ratio",
        "spec.open",
        "spec.mode",
        "spec.port",
        "spec.inner.ids",
        "spec.inner.waitFor",
        "spec.inner.id",
        "spec.items",
        "spec.labels.a",
        "spec.labels.b",
        "spec.labels.c",
        "spec.byPort.x",
        "spec.coutn",
        "spec.name",
    }
    assert by_path["spec.coutn"] == ("unknown field", "did you mean count?")
    assert by_path["spec.mode"][1] == "did you mean ON?"
    assert by_path["spec.labels.a"][1] == 'write it in quotes: "1"'
    assert by_path["spec.labels.b"][1] == 'write it in quotes: "true"'
    assert by_path["spec.name"] == ("is required", "add it")
    assert all(remedy for _, remedy in by_path.values())


def test_a_number_in_quotes():
    _, faults = run({"name": "n", "count": "80"})
    assert faults == [("spec.count", 'must be a whole number, not the text "80"', "write 80 without quotes")]


def test_an_empty_map_where_one_member_is_due():
    _, faults = run({"name": "n", "byPort": {}})
    assert faults == [("spec.byPort", "is empty", "give it a value, or remove it")]


def test_not_a_mapping():
    result, faults = run(["x"])
    assert result == Outer(name="")
    assert [f[0] for f in faults] == ["spec", "spec.name"]


def test_required_fields_get_stand_ins_so_the_shape_is_right():
    result, faults = run({"other": 1}, Tolerant)
    assert result == Tolerant(mode="ON", number=0, inner=Inner(id=""), items=())
    assert [f[0] for f in faults] == ["spec.mode", "spec.number", "spec.inner", "spec.items"]


def test_fields_known_elsewhere_are_no_faults():
    report = Report()
    decode(Inner, {"id": "x", "kind": "y"}, (), report, known=("kind",))
    assert report.faults == []


def test_nearest():
    assert nearest("per_try_timeout", ["perTryTimeout", "attempts"]) == "did you mean perTryTimeout?"
    assert nearest("zzz", ["a", "b"]) == "use one of a, b"
    assert nearest("zzz", [f"word{n}" for n in range(20)]) == "remove it"
    assert nearest("zzz", []) == "remove it"


def test_describe():
    assert describe(None) == "nothing"
    assert describe("x" * 99) == 'the text "' + "x" * 37 + '..."'
    assert (describe([]), describe({})) == ("a list", "a mapping")
    assert (describe(True), describe(1.5)) == ("the truth value true", "the number 1.5")


class Sized(Struct, rename="camel", forbid_unknown_fields=True):
    """Lengths and forms that a schema asks for."""

    word: Annotated[str, Meta(min_length=1, max_length=3, pattern="^[a-z]*$")] = "a"
    items: Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(max_length=1)] = ()


def test_lengths_and_forms():
    assert run({"word": "abc", "items": ["a"]}, Sized)[1] == []
    assert run({"word": "abcd", "items": ["a", "b"]}, Sized)[1] == [
        ("spec.word", "has 4 characters, over the limit of 3", "shorten it"),
        ("spec.items", "has 2 members, over the limit of 1", "shorten it"),
    ]
    assert run({"word": "A", "items": [""]}, Sized)[1] == [
        ("spec.word", '"A" does not have the form that is wanted', "write what ^[a-z]*$ matches"),
        ("spec.items.0", "is empty", "give it a value, or remove it"),
    ]
    assert [f[0] for f in run({"word": 1, "items": "a"}, Sized)[1]] == ["spec.word", "spec.items"]

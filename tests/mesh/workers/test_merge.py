"""One answer of several."""

import json

from mesh.net.http import Response
from mesh.workers.merge import merge_answers, merge_values


def of(*values: object) -> list[tuple[int, Response]]:
    return [(k, Response(200, json.dumps(value).encode(), "application/json")) for k, value in enumerate(values)]


def text(*bodies: bytes) -> list[tuple[int, Response]]:
    return [(k, Response(200, body)) for k, body in enumerate(bodies)]


def test_lists_are_concatenated_and_say_whose() -> None:
    answer = merge_answers(of({"clusters": [{"name": "a"}]}, {"clusters": [{"name": "a"}, {"name": "b"}]}))
    assert json.loads(answer.body) == {
        "clusters": [{"worker": 0, "name": "a"}, {"worker": 1, "name": "a"}, {"worker": 1, "name": "b"}]
    }
    assert json.loads(merge_answers(of([1], ["x"])).body) == [{"worker": 0, "value": 1}, {"worker": 1, "value": "x"}]


def test_what_all_agree_on_is_told_once_and_what_not_by_each() -> None:
    merged = merge_values([(0, {"node": {"id": "a", "up": 1}}), (2, {"node": {"id": "a", "up": 2}, "extra": True})])
    assert merged == {
        "node": {"id": "a", "up": [{"worker": 0, "value": 1}, {"worker": 2, "value": 2}]},
        "extra": True,
    }


def test_text() -> None:
    assert merge_answers(text(b"OK\n", b"OK\n")).body == b"OK\n"
    assert merge_answers(text(b"a\n", b"b\n")).body == b"# worker 0\na\n# worker 1\nb\n"


def test_a_refusal_of_one_is_that_of_all_and_nobodys_answer_is_none() -> None:
    assert merge_answers([*text(b"OK\n"), (1, Response(400, b"no\n"))]).status == 400
    assert merge_answers([]).status == 503

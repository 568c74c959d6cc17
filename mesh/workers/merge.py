"""One answer of the admin port out of those of all workers.

JSON lists are concatenated, each object in them with the `worker` that it is of; other values stay where all agree and
become such a list where not. Text on which all agree is given once, else under a heading for each worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mesh.net.http import Response

Answers = Sequence[tuple[int, Response]]
"""(index of the worker, its answer), by index."""


def merge_answers(answers: Answers) -> Response:
    """The one answer; a refusal or a fault of one worker is that of all."""
    if not answers:
        return Response(503, b"no worker answers; see the log\n")
    for _, response in answers:
        if response.status >= 400:
            return response
    if all(response.content_type == "application/json" for _, response in answers):
        value = merge_values([(worker, msgspec.json.decode(response.body)) for worker, response in answers])
        body = msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
        return Response(200, body, "application/json")
    first = answers[0][1]
    if all(response.body == first.body for _, response in answers):
        return first
    text = b"".join(b"# worker %d\n%s" % (worker, response.body) for worker, response in answers)
    return Response(200, text, first.content_type)


def merge_values(values: Sequence[tuple[int, Any]]) -> Any:
    """One value of (worker, its value) pairs, of which there is at least one."""
    first = values[0][1]
    if all(isinstance(value, list) for _, value in values):
        return [_of(worker, item) for worker, items in values for item in items]
    if all(isinstance(value, dict) for _, value in values):
        keys = dict.fromkeys(key for _, value in values for key in value)
        return {key: merge_values([(worker, value[key]) for worker, value in values if key in value]) for key in keys}
    if all(value == first for _, value in values):
        return first
    return [_of(worker, value) for worker, value in values]


def _of(worker: int, item: Any) -> dict[str, Any]:
    return {"worker": worker, **item} if isinstance(item, dict) else {"worker": worker, "value": item}

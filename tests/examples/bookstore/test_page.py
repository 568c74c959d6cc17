"""The markup is tested through productpage; here stands what its services never send."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.examples.bookstore.shop import FOLDER


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, ModuleType]]:
    monkeypatch.syspath_prepend(str(FOLDER))
    import page
    import webapp

    yield page, webapp
    for name in ("page", "webapp"):
        sys.modules.pop(name)


def test_no_answer_in_time_is_said_so(modules: tuple[ModuleType, ModuleType]) -> None:
    page, webapp = modules
    silence = webapp.Answer(0, None, "no answer: timed out")
    html = page.page("", silence, silence).decode()
    assert "no answer in time: no answer: timed out" in html
    assert "reviews did not answer" in html


def test_markup_in_answers_is_shown_as_text(modules: tuple[ModuleType, ModuleType]) -> None:
    page, webapp = modules
    review = {"reviewer": "<i>", "text": "<script>", "rating": {"stars": 99, "color": "green"}}
    reviews = webapp.Answer(200, {"version": "v2", "reviews": [review]}, "")
    html = page.page("", webapp.Answer(200, {"title": "<b>"}, ""), reviews).decode()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "★★★★★</span>" in html

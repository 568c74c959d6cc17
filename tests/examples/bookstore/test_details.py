"""The facts about the book."""

from __future__ import annotations

from tests.examples.bookstore.shop import running


def test_details_of_a_book_by_number() -> None:
    with running("details") as details:
        found = details.get("/details/7").data
        assert isinstance(found, dict)
        assert (found["id"], found["author"]) == (7, "William Shakespeare")
        assert details.get("/details/seven").status == 400

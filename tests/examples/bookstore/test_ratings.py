"""Stars by reviewer."""

from __future__ import annotations

from tests.examples.bookstore.shop import running


def test_ratings_of_a_book_and_their_setting_from_outside() -> None:
    with running("ratings", RATINGS='{"Reviewer2": 1}') as ratings:
        assert ratings.get("/ratings/0").data == {"id": 0, "ratings": {"Reviewer1": 5, "Reviewer2": 1}}
        assert ratings.get("/ratings").status == 400

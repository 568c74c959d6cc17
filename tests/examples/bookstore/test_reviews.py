"""Three versions of reviews, alone and with ratings."""

from __future__ import annotations

import subprocess
import sys

from tests.examples.bookstore.shop import FOLDER, Shop, running


def ratings_shown(shop: Shop) -> list[object]:
    answer = shop.get("/reviews/0").data
    assert isinstance(answer, dict)
    return [review.get("rating") for review in answer["reviews"]]


def test_v1_asks_nobody_for_stars() -> None:
    with running("reviews", SERVICE_VERSION="v1", RATINGS_URL="http://127.0.0.1:1") as reviews:
        assert reviews.get("/reviews/0").status == 200
        assert ratings_shown(reviews) == [None, None]


def test_v2_shows_black_stars_and_v3_red_ones() -> None:
    with running("ratings") as ratings:
        for version, color in (("v2", "black"), ("v3", "red")):
            with running("reviews", version, RATINGS_URL=ratings.url) as reviews:
                assert ratings_shown(reviews) == [{"stars": 5, "color": color}, {"stars": 4, "color": color}]


def test_texts_are_shown_when_ratings_fails_or_is_away() -> None:
    with running("ratings") as ratings, running("reviews", "v2", RATINGS_URL=ratings.url) as reviews:
        ratings.ask("POST", "/break", "status=503")
        assert ratings_shown(reviews) == [{"error": "ratings are unavailable", "status": 503}] * 2
    with running("reviews", "v2", RATINGS_URL="http://127.0.0.1:1") as reviews:
        assert ratings_shown(reviews) == [{"error": "ratings are unavailable", "status": 0}] * 2


def test_a_book_is_asked_for_by_number() -> None:
    with running("reviews") as reviews:
        assert reviews.get("/reviews/x").status == 400


def test_an_unknown_version_is_refused_at_the_start() -> None:
    done = subprocess.run([sys.executable, FOLDER / "reviews.py", "v9"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "reviews has no version 'v9'; write one of v1, v2, v3" in done.stderr

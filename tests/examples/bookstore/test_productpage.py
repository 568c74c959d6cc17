"""The page a person sees, with real neighbours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.examples.bookstore.shop import Shop, running


class Street(NamedTuple):
    page: Shop
    details: Shop
    reviews: Shop
    ratings: Shop


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with running("ratings") as ratings, running("details") as details:
        with running("reviews", "v3", RATINGS_URL=ratings.url) as reviews:
            urls = {"DETAILS_URL": details.url, "REVIEWS_URL": reviews.url, "RATINGS_URL": ratings.url}
            with running("productpage", **urls) as page:
                yield Street(page, details, reviews, ratings)


def test_the_page_shows_details_reviews_stars_and_who_answered(street: Street) -> None:
    shown = street.page.get("/productpage")
    assert (shown.status, shown.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<h1>The Comedy of Errors</h1>" in shown.text
    assert "William Shakespeare" in shown.text
    assert "class='stars red' title='4 of 5'>★★★★☆" in shown.text
    assert "Answered by reviews v3" in shown.text
    assert street.page.get("/static/style.css").headers["content-type"] == "text/css; charset=utf-8"
    assert street.page.get("/").headers["location"] == "/productpage"


@pytest.mark.parametrize("broken", ["details", "reviews"])
def test_a_service_that_fails_costs_its_panel_and_not_the_page(street: Street, broken: str) -> None:
    shop: Shop = getattr(street, broken)
    shop.ask("POST", "/break", "status=503")
    shown = street.page.get("/productpage")
    shop.ask("POST", "/heal")
    assert shown.status == 200
    assert f"Sorry, product {broken} are currently unavailable." in shown.text
    assert "status 503" in shown.text


def test_missing_stars_are_explained(street: Street) -> None:
    street.ratings.ask("POST", "/break")
    shown = street.page.get("/productpage").text
    street.ratings.ask("POST", "/heal")
    assert "ratings are currently unavailable (status 500)" in shown


def test_signing_in_sets_the_name_and_signing_out_forgets_it(street: Street) -> None:
    signed_in = street.page.ask("POST", "/login", "username=jason")
    assert (signed_in.status, signed_in.headers["location"]) == (302, "/productpage")
    cookie = re.match(r"user=jason", signed_in.headers["set-cookie"])
    assert cookie
    assert "<b>jason</b>" in street.page.get("/productpage", cookie=cookie[0]).text
    assert "<b>jason</b>" in street.page.get("/productpage", end_user="jason").text
    assert "Max-Age=0" in street.page.get("/logout").headers["set-cookie"]
    assert street.page.ask("POST", "/login", "username=").status == 400


def test_a_name_cannot_smuggle_markup(street: Street) -> None:
    shown = street.page.get("/productpage", cookie="user=%3Cscript%3E%0d%0ax: y").text
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_the_interface_for_programs(street: Street) -> None:
    listing = street.page.get("/api/v1/products").data
    assert isinstance(listing, list)
    assert listing[0]["id"] == 0
    assert street.page.get("/api/v1/products/0").data == street.details.get("/details/0").data
    assert street.page.get("/api/v1/products/0/reviews").data == street.reviews.get("/reviews/0").data
    assert street.page.get("/api/v1/products/0/ratings").data == street.ratings.get("/ratings/0").data
    assert street.page.get("/api/v1/products/1").status == 404
    street.ratings.ask("POST", "/break", "status=418")
    failed = street.page.get("/api/v1/products/0/ratings")
    street.ratings.ask("POST", "/heal")
    assert failed.status == 418

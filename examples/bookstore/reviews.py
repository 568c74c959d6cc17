"""Reviews: what readers say of a book. v1 shows no stars, v2 black ones and v3 red ones.

The version comes from $SERVICE_VERSION or the first argument. v2 and v3 ask ratings for the stars; when
ratings fails, the texts are still shown and the failure stands where the stars would be.
"""

from __future__ import annotations

import os
import sys

import webapp

# Longer than the page's own patience, as in Istio's Bookinfo: a slow ratings service shows up as the
# page giving up on reviews, which is the lesson of the published 7 s delay.
_RATINGS_TIMEOUT = 10.0
_COLORS = {"v1": "", "v2": "black", "v3": "red"}
_TEXTS = (
    ("Reviewer1", "Two pairs of twins, one town, and nobody asks the obvious question. I laughed on every page."),
    ("Reviewer2", "Short, quick and merry. A fine first Shakespeare for readers who think they dislike him."),
)


class Reviews:
    """The service in one version."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._color = _COLORS[version]

    def reviews(self, request: webapp.Request) -> webapp.Reply:
        """GET /reviews/ID: texts, and the stars where this version shows them."""
        if len(request.arguments) != 1 or not request.arguments[0].isdigit():
            return webapp.to_json({"error": "ask for a number: /reviews/0"}, 400)
        reviews: list[dict[str, object]] = [{"reviewer": name, "text": text} for name, text in _TEXTS]
        if self._color:
            self._add_stars(request, reviews)
        return webapp.to_json({"id": request.arguments[0], "version": self._version, "reviews": reviews})

    def _add_stars(self, request: webapp.Request, reviews: list[dict[str, object]]) -> None:
        url = f"{webapp.neighbour('ratings')}/ratings/{request.arguments[0]}"
        answer = webapp.ask(url, request.forwarded(), _RATINGS_TIMEOUT)
        stars = answer.data.get("ratings", {}) if isinstance(answer.data, dict) else None
        for review in reviews:
            if stars is None:
                review["rating"] = {"error": "ratings are unavailable", "status": answer.status}
            else:
                review["rating"] = {"stars": stars.get(review["reviewer"], 0), "color": self._color}


def main() -> None:
    """Serve the version that was asked for."""
    version = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SERVICE_VERSION", "v1")
    if version not in _COLORS:
        sys.exit(f"reviews has no version {version!r}; write one of {', '.join(_COLORS)}")
    webapp.run(webapp.Site("reviews", version, {("GET", "/reviews"): Reviews(version).reviews}))


if __name__ == "__main__":
    main()

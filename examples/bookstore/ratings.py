"""Ratings: how many stars each reviewer gave. One version, kept in memory."""

from __future__ import annotations

import json
import os

import webapp

_stars = {"Reviewer1": 5, "Reviewer2": 4}


def ratings(request: webapp.Request) -> webapp.Reply:
    """GET /ratings/ID: stars by reviewer."""
    if len(request.arguments) != 1 or not request.arguments[0].isdigit():
        return webapp.to_json({"error": "ask for a number: /ratings/0"}, 400)
    return webapp.to_json({"id": int(request.arguments[0]), "ratings": _stars})


if __name__ == "__main__":
    if os.environ.get("RATINGS"):
        _stars.update(json.loads(os.environ["RATINGS"]))
    webapp.run(webapp.Site("ratings", os.environ.get("SERVICE_VERSION", "v1"), {("GET", "/ratings"): ratings}))

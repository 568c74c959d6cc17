"""Details: the facts about a book. One version."""

from __future__ import annotations

import os

import webapp

_BOOK = {
    "title": "The Comedy of Errors",
    "author": "William Shakespeare",
    "year": 1595,
    "type": "paperback",
    "pages": 200,
    "publisher": "Loopback Press",
    "language": "English",
    "ISBN-10": "1234567890",
    "ISBN-13": "123-1234567890",
}


def details(request: webapp.Request) -> webapp.Reply:
    """GET /details/ID: the book as JSON."""
    if len(request.arguments) != 1 or not request.arguments[0].isdigit():
        return webapp.to_json({"error": "ask for a number: /details/0"}, 400)
    return webapp.to_json({"id": int(request.arguments[0]), **_BOOK})


if __name__ == "__main__":
    webapp.run(webapp.Site("details", os.environ.get("SERVICE_VERSION", "v1"), {("GET", "/details"): details}))

"""The product page's HTML. Only turns answers into markup; whom to ask is productpage.py's business."""

from __future__ import annotations

from html import escape

import webapp

_LAYOUT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/static/style.css">
</head>
<body>
<header><a class="shop" href="/productpage">The Loopback Bookstore</a>{account}</header>
<main>{content}</main>
<footer>Answered by {answered}</footer>
</body>
</html>
"""


def page(user: str, details: webapp.Answer, reviews: webapp.Answer) -> bytes:
    """The whole page for one visitor; `user` empty is a guest."""
    title = "The Comedy of Errors"
    if isinstance(details.data, dict):
        title = str(details.data.get("title", title))
    content = (
        f"<h1>{escape(title)}</h1><p class=summary>A merchant of Syracuse, his lost twin sons, their lost twin "
        "servants, and one long day in Ephesus on which every door opens to the wrong man.</p>"
        f"<div class=columns>{_details(details)}{_reviews(reviews)}</div>"
    )
    return _LAYOUT.format(
        title=escape(title), account=_account(user), content=content, answered=escape(_answered(reviews))
    ).encode()


def _account(user: str) -> str:
    if user:
        return f"<form action=/logout><b>{escape(user)}</b><button>Sign out</button></form>"
    return (
        "<form method=post action=/login><input name=username placeholder='Name, such as jason' required maxlength=40>"
        "<button>Sign in</button></form>"
    )


def _answered(reviews: webapp.Answer) -> str:
    version = reviews.data.get("version", "?") if isinstance(reviews.data, dict) else "nobody"
    return f"reviews {version}" if version != "nobody" else "productpage alone: reviews did not answer"


def _unavailable(what: str, answer: webapp.Answer) -> str:
    status = f"status {answer.status}" if answer.status else "no answer in time"
    return (
        f"<section class='panel failed'><h2>{what.capitalize()}</h2>"
        f"<p>Sorry, product {what} are currently unavailable.</p>"
        f"<p class=reason>{status}: {escape(answer.error[:160])}</p></section>"
    )


def _details(answer: webapp.Answer) -> str:
    if not isinstance(answer.data, dict):
        return _unavailable("details", answer)
    rows = "".join(
        f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>"
        for name, value in answer.data.items()
        if name not in ("id", "title")
    )
    return f"<section class=panel><h2>Details</h2><table>{rows}</table></section>"


def _reviews(answer: webapp.Answer) -> str:
    if not isinstance(answer.data, dict):
        return _unavailable("reviews", answer)
    version = escape(str(answer.data.get("version", "?")))
    quotes = "".join(
        f"<blockquote><p>{escape(str(review.get('text', '')))}</p>"
        f"<cite>{escape(str(review.get('reviewer', '')))}</cite> {_stars(review.get('rating'))}</blockquote>"
        for review in answer.data.get("reviews", [])
    )
    return f"<section class=panel><h2>Reviews <span class='tag {version}'>{version}</span></h2>{quotes}</section>"


def _stars(rating: object) -> str:
    if not isinstance(rating, dict):
        return ""
    if "error" in rating:
        return (
            f"<span class=reason>ratings are currently unavailable (status {escape(str(rating.get('status')))})</span>"
        )
    count = max(0, min(5, int(rating.get("stars", 0))))
    color = "red" if rating.get("color") == "red" else "black"
    return f"<span class='stars {color}' title='{count} of 5'>{'★' * count}{'☆' * (5 - count)}</span>"

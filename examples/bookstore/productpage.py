"""The product page: asks details and reviews for what they know and shows it to a person.

Also serves the same as JSON under /api/v1/products, and remembers who signed in with a cookie; the name
travels to the other services in the header `end-user`.
"""

from __future__ import annotations

import os
import threading
import urllib.parse
from pathlib import Path

import page
import webapp

# How long a visitor waits for one service before the page is shown without it.
_PATIENCE = 3.0
_STYLE = (Path(__file__).parent / "static" / "style.css").read_bytes()
_PRODUCTS = [{"id": 0, "title": "The Comedy of Errors", "author": "William Shakespeare"}]


def _user(request: webapp.Request) -> str:
    return request.cookies.get("user") or request.headers.get("end-user", "")


def _ask(service: str, request: webapp.Request) -> webapp.Answer:
    headers = request.forwarded()
    if user := _user(request):
        headers["end-user"] = "".join(letter for letter in user if letter.isprintable() and ord(letter) < 127)
    return webapp.ask(f"{webapp.neighbour(service)}/{service}/0", headers, _PATIENCE)


def front(_: webapp.Request) -> webapp.Reply:
    """GET /: the page is one click, or one redirect, away."""
    return webapp.Reply(b"", 302, "text/plain", (("location", "/productpage"),))


def show(request: webapp.Request) -> webapp.Reply:
    """GET /productpage. A service that fails costs its panel, not the page."""
    found: list[webapp.Answer] = []
    beside = threading.Thread(target=lambda: found.append(_ask("details", request)))
    beside.start()
    reviews = _ask("reviews", request)
    beside.join()
    return webapp.Reply(page.page(_user(request), found[0], reviews), 200, "text/html; charset=utf-8")


def style(_: webapp.Request) -> webapp.Reply:
    """GET /static/style.css."""
    return webapp.Reply(_STYLE, 200, "text/css; charset=utf-8", (("cache-control", "max-age=60"),))


def login(request: webapp.Request) -> webapp.Reply:
    """POST /login with a form field `username`: any name is let in; this is a toy."""
    name = urllib.parse.quote(request.form.get("username", "").strip()[:40])
    if not name:
        return webapp.to_json({"error": "send a form with a username"}, 400)
    cookie = ("set-cookie", f"user={name}; Path=/; HttpOnly; SameSite=Lax")
    return webapp.Reply(b"", 302, "text/plain", (("location", "/productpage"), cookie))


def logout(_: webapp.Request) -> webapp.Reply:
    """GET /logout."""
    cookie = ("set-cookie", "user=; Path=/; Max-Age=0")
    return webapp.Reply(b"", 302, "text/plain", (("location", "/productpage"), cookie))


def products(request: webapp.Request) -> webapp.Reply:
    """GET /api/v1/products, /api/v1/products/0, and .../0/reviews and .../0/ratings behind it."""
    match request.arguments:
        case ():
            return webapp.to_json(_PRODUCTS)
        case ("0",):
            return _relayed("details", request)
        case ("0", "reviews" | "ratings" as service):
            return _relayed(service, request)
    return webapp.to_json({"error": f"no {request.path}; the only product is /api/v1/products/0"}, 404)


def _relayed(service: str, request: webapp.Request) -> webapp.Reply:
    answer = _ask(service, request)
    if answer.status == 200:
        return webapp.to_json(answer.data)
    what = {"error": f"product {service} are currently unavailable", "status": answer.status, "reason": answer.error}
    return webapp.to_json(what, answer.status or 504)


ROUTES = {
    ("GET", "/"): front,
    ("GET", "/productpage"): show,
    ("GET", "/static/style.css"): style,
    ("POST", "/login"): login,
    ("GET", "/logout"): logout,
    ("GET", "/api/v1/products"): products,
}

if __name__ == "__main__":
    webapp.run(webapp.Site("productpage", os.environ.get("SERVICE_VERSION", "v1"), ROUTES))

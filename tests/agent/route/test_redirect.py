"""The Location of redirects."""

from __future__ import annotations

from typing import Any

import pytest

from agent.codec.headers import Headers
from agent.codec.message import RequestHead
from agent.route.redirect import Redirect
from mesh import config


def location(
    redirect: config.Redirect,
    path: bytes = b"/foo/baz?q=1",
    authority: bytes = b"h.com",
    scheme: bytes = b"http",
    **match: Any,
) -> bytes:
    matched = config.StringMatch("prefix", "/foo") if not match else match["matched"]
    head = RequestHead(b"GET", path, Headers(), scheme=scheme, authority=authority)
    return Redirect(redirect, matched).location(head, 8080)


@pytest.mark.parametrize(
    ("redirect", "authority", "scheme", "expected"),
    [
        (config.Redirect(path="/new"), b"h.com:8080", b"http", b"http://h.com:8080/new?q=1"),
        (config.Redirect(path="/new?z"), b"h.com", b"http", b"http://h.com/new?z"),
        (config.Redirect(prefix="/bar"), b"h.com", b"http", b"http://h.com/bar/baz?q=1"),
        (config.Redirect(prefix="/"), b"h.com", b"http", b"http://h.com//baz?q=1"),
        (config.Redirect(authority="n.com"), b"h.com:81", b"http", b"http://n.com/foo/baz?q=1"),
        (config.Redirect(scheme="https"), b"h.com", b"http", b"https://h.com/foo/baz?q=1"),
        (config.Redirect(scheme="https"), b"h.com:80", b"http", b"https://h.com/foo/baz?q=1"),
        (config.Redirect(scheme="https"), b"h.com:8080", b"http", b"https://h.com:8080/foo/baz?q=1"),
        (config.Redirect(scheme="http"), b"h.com:443", b"https", b"http://h.com/foo/baz?q=1"),
        (config.Redirect(port=8443), b"h.com:80", b"http", b"http://h.com:8443/foo/baz?q=1"),
        (config.Redirect(port=80), b"h.com:99", b"http", b"http://h.com/foo/baz?q=1"),
        (config.Redirect(port=443, scheme="https"), b"h.com", b"http", b"https://h.com/foo/baz?q=1"),
        (config.Redirect(port=80, scheme="https"), b"h.com", b"http", b"https://h.com:80/foo/baz?q=1"),
        (config.Redirect(port_from="protocol", scheme="https"), b"h.com:80", b"http", b"https://h.com/foo/baz?q=1"),
        (config.Redirect(port_from="request"), b"h.com", b"http", b"http://h.com:8080/foo/baz?q=1"),
        (config.Redirect(authority="n.com:1", port=2), b"h.com", b"http", b"http://n.com:2/foo/baz?q=1"),
    ],
)
def test_locations(redirect: config.Redirect, authority: bytes, scheme: bytes, expected: bytes) -> None:
    assert location(redirect, authority=authority, scheme=scheme) == expected


def test_the_query_stays_outside_the_replaced_path() -> None:
    exact = config.StringMatch("exact", "/foo")
    assert location(config.Redirect(prefix="/bar"), path=b"/foo?q", matched=exact) == b"http://h.com/bar?q"

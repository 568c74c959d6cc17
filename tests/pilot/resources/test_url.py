import pytest

from pilot.resources.url import scheme_of


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("https://a.com/keys", "https"),
        ("HTTP://a", "http"),
        ("oci://registry:5000/a:latest", "oci"),
        ("file:///opt/a.wasm", "file"),
        ("http://[::1]:80/?a=b#c", "http"),
        ("localhost:5000/a", "localhost"),
        ("https://user:secret@a.com", "https"),
    ],
)
def test_schemes(text, scheme):
    assert scheme_of(text) == scheme


@pytest.mark.parametrize(
    "text", ["", "a.com", "/path", "https:", "http://a b", "http://a\nb", "http://a/%zz", "http://a:port", "1a://b"]
)
def test_what_is_no_url(text):
    assert scheme_of(text) is None

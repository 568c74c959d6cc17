import pytest

from pilot.resources.duration import is_whole_milliseconds, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5.0),
        ("1.5s", 1.5),
        ("10ms", 0.01),
        ("1h1m1s", 3661.0),
        (".5s", 0.5),
        ("0", 0.0),
        ("0s", 0.0),
        ("-2s", -2.0),
    ],
)
def test_go_notation(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "1d", "5 s", "1s ", "1,5s", "9999999999h", "1e3s", "\u0661s"])
def test_what_is_no_duration(text):
    assert parse_duration(text) is None


def test_whole_milliseconds():
    assert is_whole_milliseconds(0.001)
    assert is_whole_milliseconds(1.234)
    assert is_whole_milliseconds(86400.001)
    assert not is_whole_milliseconds(0.0015)
    assert not is_whole_milliseconds(1.0000001)

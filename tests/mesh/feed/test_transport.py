"""How a feed session ends."""

from mesh.feed.transport import FeedClosed


def test_a_break_is_not_clean() -> None:
    assert not FeedClosed("reset").clean
    assert FeedClosed("bye", clean=True).clean
    assert str(FeedClosed("reset")) == "reset"

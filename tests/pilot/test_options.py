"""A pilot's settings."""

from pathlib import Path

from pilot.options import Address, Options


def test_addresses_as_text() -> None:
    assert str(Address("127.0.0.1", 80)) == "127.0.0.1:80"
    assert str(Address("::1", 80)) == "[::1]:80"


def test_ports_are_free_ones_on_loopback_unless_told() -> None:
    options = Options((Path("x"),), Path("y"))
    assert {str(each) for each in (options.listen, options.dashboard, options.metrics)} == {"127.0.0.1:0"}
    assert (options.quiet, options.longest) == (0.1, 10.0)

"""The pilot's own certificate over time."""

from pathlib import Path

import trio
import trio.testing

from pilot.ca.authority import load_or_create
from pilot.ca.serving import ServingCertificate
from tests.feed_rig import FakeLog

NOW = 1_700_000_000.0
DAY = 86400.0


async def test_renewed_at_half_of_its_life(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    def wall() -> float:
        return NOW + trio.current_time()

    authority = load_or_create(tmp_path, trust_domain="cluster.local", now=NOW)
    certificate = ServingCertificate(authority, ("localhost",), wall=wall, log=FakeLog())
    first = certificate.context
    life = certificate.not_after - NOW
    with trio.move_on_after(life / 2 - DAY):
        await certificate.keep()
    assert certificate.context is first
    with trio.move_on_after(2 * DAY):
        await certificate.keep()
    assert certificate.context is not first
    assert certificate.renewals == 1
    assert certificate.not_after > NOW + life

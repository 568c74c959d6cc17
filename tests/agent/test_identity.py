"""The first certificate and its renewals, on a mock clock."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from agent import identity as identities
from agent.identity import Identity, IdentityKeeper, make_key_in_child, renewal_time
from mesh.feed.message import SignRequest, SignResponse
from mesh.feed.transport import FeedClosed
from mesh.identity.keymaker import KeyAndCsr
from mesh.identity.pki import make_csr, make_key
from mesh.identity.spiffe import make
from mesh.telemetry.metrics import Registry
from pilot.ca.authority import load_or_create
from pilot.ca.signing import sign
from tests.feed_rig import NOW, FakeLog


class FakeSigner:
    """Signs as the pilot does; or fails as told."""

    def __init__(self, state_dir: Path) -> None:
        self.authority = load_or_create(state_dir, trust_domain="cluster.local", now=NOW)
        self.asked: list[float] = []
        self.troubles: list[Callable[[], SignResponse] | None] = []

    async def sign(self, csr_pem: bytes, ttl: float) -> SignResponse:
        self.asked.append(trio.current_time())
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble is not None:
            return trouble()
        request = SignRequest(1, csr_pem.decode(), ttl)
        now = NOW + trio.current_time()
        return sign(self.authority, request, namespace="default", service_account="a", now=now)


async def key_here() -> KeyAndCsr:
    key = make_key()
    return KeyAndCsr(key, make_csr(key))


def closed() -> SignResponse:
    raise FeedClosed("broke")


class Rig:
    def __init__(self, tmp_path: Path, *, ttl: float = 0.0) -> None:
        self.signer = FakeSigner(tmp_path)
        self.got: list[Identity] = []
        self.log = FakeLog()
        self.registry = Registry()
        self.keeper = IdentityKeeper(
            self.signer,
            self.got.append,
            log=self.log,
            rng=random.Random(3),
            wall=lambda: NOW + trio.current_time(),
            registry=self.registry,
            ttl=ttl,
            make_key=key_here,
        )


async def test_first_certificate_then_at_half_of_each_life(tmp_path: Path, autojump_clock: MockClock) -> None:
    rig = Rig(tmp_path)
    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        assert rig.keeper.certificate() is None
        first = await nursery.start(rig.keeper.run)
        assert first.spiffe_id == make("cluster.local", "default", "a")
        assert rig.keeper.certificate() is first.certificate
        assert "trioweave_agent_certificate_expiry_seconds 86" in rig.registry.exposition().decode()
        await trio.sleep(2.4 * 43200)
        nursery.cancel_scope.cancel()
    assert len(rig.got) == 3
    for number, when in enumerate(rig.signer.asked):
        assert abs(when - begin - number * 43200) <= number * 0.011 * 86520
    assert rig.got[0].client_context is not rig.got[1].client_context


async def test_a_life_shorter_than_the_back_dating_is_halved_too(tmp_path: Path, autojump_clock: MockClock) -> None:
    rig = Rig(tmp_path, ttl=10.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.keeper.run)
        await trio.sleep(52)
        nursery.cancel_scope.cancel()
    assert len(rig.got) == 11


async def test_a_clock_beyond_the_certificates_end_does_not_spin(tmp_path: Path, autojump_clock: MockClock) -> None:
    rig = Rig(tmp_path, ttl=1.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.keeper.run)
        await trio.sleep(4.5)
        nursery.cancel_scope.cancel()
    assert len(rig.got) == 5


async def test_trouble_is_told_and_tried_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    rig = Rig(tmp_path)
    rig.signer.troubles = [
        closed,
        lambda: SignResponse(1, error="not today"),
        lambda: SignResponse(1, chain_pem="nonsense", roots_pem="nonsense", spiffe_id="spiffe://a/ns/b/sa/c"),
        lambda: SignResponse(1, spiffe_id="nobody"),
    ]
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.keeper.run)
        nursery.cancel_scope.cancel()
    reasons = [fields["reason"] for event, fields in rig.log.lines if "try again" in event]
    assert [any(word in reason for reason in reasons) for word in ("broke", "not today", "cannot be used")] == [
        True
    ] * 3
    assert len(rig.signer.asked) == 5
    assert 'trioweave_agent_certificate_events_total{event="failed"} 4' in rig.registry.exposition().decode()


async def test_no_answer_and_no_key_have_deadlines(tmp_path: Path, autojump_clock: MockClock) -> None:
    rig = Rig(tmp_path)

    class FakeDeaf:
        async def sign(self, csr_pem: bytes, ttl: float) -> SignResponse:
            await trio.sleep_forever()

    rig.keeper._signer = FakeDeaf()
    with trio.move_on_after(12):
        await rig.keeper.run()
    assert "within 10 s" in rig.keeper.last_error

    async def never() -> KeyAndCsr:
        await trio.sleep_forever()

    rig.keeper._make_key = never
    with trio.move_on_after(32):
        await rig.keeper.run()
    assert "key maker took over 30 s" in rig.keeper.last_error


async def test_the_key_is_made_in_a_child() -> None:
    with trio.fail_after(30):
        made = await make_key_in_child()
    assert b"PRIVATE KEY" in made.key_pem


async def test_a_child_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities.keymaker, "command", lambda: ["/nonexistent"])
    with pytest.raises(identities.IdentityError, match="no key"):
        await make_key_in_child()


def test_renewals_spread_out() -> None:
    times = {renewal_time(0.0, 100.0, random.Random(seed)) for seed in range(50)}
    assert len(times) > 40
    assert all(49.0 <= when <= 51.0 for when in times)

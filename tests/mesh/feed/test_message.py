"""The feed's messages as JSON."""

import msgspec
import pytest

from mesh.feed import message
from mesh.feed.message import (
    Ack,
    EndpointsPush,
    FeedError,
    Goodbye,
    Hello,
    Nack,
    Push,
    Refusal,
    Rejected,
    Removal,
    Report,
    RequestStatistics,
    SignRequest,
    SignResponse,
    Upsert,
    Welcome,
    decode_to_agent,
    decode_to_pilot,
    encode,
)
from mesh.feed.node import Node

NODE = Node("sidecar~a.default", "sidecar", labels={"app": "a"})


@pytest.mark.parametrize(
    "sent",
    [
        Hello(NODE, known={"cluster": {"a": "1"}}),
        Ack(3),
        Nack(3, (Rejected("route", "9080", "no such cluster"),)),
        SignRequest(1, "csr"),
        Report(health="unhealthy", requests=(RequestStatistics("a", "b", 3, 1, 0.5),), certificate_expiry=9.0),
        Goodbye("drained"),
    ],
)
def test_to_pilot_round_trip(sent: message.ToPilot) -> None:
    assert decode_to_pilot(encode(sent)) == sent


@pytest.mark.parametrize(
    "sent",
    [
        Welcome("s1"),
        EndpointsPush(2, removals=(Removal("endpoints", "a"),)),
        SignResponse(1, "chain", "roots", "spiffe://x/ns/a/sa/b", 1.0, 2.0),
        Refusal("no", "do this"),
    ],
)
def test_to_agent_round_trip(sent: message.ToAgent) -> None:
    assert decode_to_agent(encode(sent)) == sent


def test_resources_travel_as_they_are() -> None:
    push = Push(1, (Upsert("cluster", "a", "h", msgspec.Raw(b'{"name":"a"}')),), full=True)
    got = decode_to_agent(encode(push))
    assert isinstance(got, Push)
    assert bytes(got.upserts[0].resource) == b'{"name":"a"}'
    assert got.full


@pytest.mark.parametrize("data", [b"", b"nonsense", b'{"type":"push"}', b'{"type":"unheard"}', b"[]", b"\xff"])
def test_nonsense_is_a_feed_error(data: bytes) -> None:
    with pytest.raises(FeedError, match="message of an agent"):
        decode_to_pilot(data)
    with pytest.raises(FeedError, match="message of a pilot"):
        decode_to_agent(data)


def test_roles_do_not_mix() -> None:
    with pytest.raises(FeedError):
        decode_to_pilot(encode(Welcome("s")))


def test_later_versions_may_add_fields() -> None:
    assert decode_to_pilot(b'{"type":"ack","nonce":1,"since_later":true}') == Ack(1)

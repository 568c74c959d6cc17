"""Replays a corpus of attacks on HTTP/1 against both codecs in-process, as far as a codec alone can be judged.

The corpus is not part of this repository: it is looked for in the folder that MESH_CORPUS names, else in ../shared
beside the repository, and every test here is skipped without it.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.codec import http1_client, http1_server
from agent.codec.h1_client import ClientConnection
from agent.codec.headers import Headers
from agent.codec.message import End, Limits, ProtocolError, RequestHead, ResponseHead

LIMITS = Limits(underscores="reject")

# Refused by the exchange, not by the framing.
EXCHANGE_REFUSES = {"hop-max-forwards"}
# Fields that the exchange removes; a codec gives them on.
EXCHANGE_REMOVES = {"keep-alive", "proxy-connection", "upgrade", "te", "x-forwarded-proto", "http2-settings"}


def corpus(name: str) -> list[dict[str, Any]]:
    root = Path(os.environ.get("MESH_CORPUS") or Path(__file__).parents[3] / "shared")
    file = root / "reliability" / name
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


REQUESTS = corpus("http1_cases.jsonl")
RESPONSES = corpus("http1_response_cases.jsonl")
needs_corpus = pytest.mark.skipif(not REQUESTS or not RESPONSES, reason="the corpus is not beside the repository")


def decode(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text[2:])) if text.startswith("z:") else base64.b64decode(text)


def segments(case: dict[str, Any], whole: str) -> list[bytes]:
    return [decode(text) for text in case["segments_b64"]] if "segments_b64" in case else [decode(case[whole])]


def pieces(data: list[bytes], cut: str) -> Iterator[bytes]:
    for segment in data:
        if cut == "whole" or len(segment) > 20_000:
            yield segment
        else:
            for index in range(len(segment)):
                yield segment[index : index + 1]


class Seen:
    """A request as the codec gave it out, and as it would reach the upstream."""

    def __init__(self, head: RequestHead) -> None:
        self.head = head
        self.body = b""
        self.complete = False

    def framing(self) -> str:
        return {0: "none", -1: "chunked"}.get(self.head.content_length, "cl")


class Outcome:
    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.error: ProtocolError | None = None
        self.closed = False


def serve(case: dict[str, Any], engine: str, cut: str) -> Outcome:
    """Feed the case to a server codec that answers every request with 200."""
    outcome = Outcome()
    codec = http1_server(LIMITS, engine)
    answered = True

    def drain() -> None:
        nonlocal answered
        while True:
            event = codec.next_event()
            if event is None:
                return
            if isinstance(event, RequestHead):
                outcome.requests.append(Seen(event))
                answered = False
            elif isinstance(event, bytes):
                outcome.requests[-1].body += event
            else:
                outcome.requests[-1].complete = True
                codec.send_head(ResponseHead(200, Headers(), content_length=2))
                codec.send_data(b"ok")
                codec.send_end()
                answered = True
                if not codec.start_next():
                    outcome.closed = True
                    return

    try:
        for piece in pieces(segments(case, "raw_b64"), cut):
            codec.receive_data(piece)
            if not outcome.closed:
                drain()
        if case.get("half_close"):
            codec.receive_data(b"")
            if not outcome.closed:
                drain()
    except ProtocolError as error:
        outcome.error = error
        outcome.closed = True
        if answered:
            refusal = codec.send_head(ResponseHead(error.status, Headers(), content_length=0))
            assert b"connection: close\r\n" in refusal
    return outcome


def status_fits(status: int, wanted: Any) -> bool:
    return any(
        status // 100 == 4 if want == "4xx" else status == want
        for want in (wanted if isinstance(wanted, list) else [wanted])
    )


def forwarded(outcome: Outcome, wanted: dict[str, Any]) -> bool:
    low, high = wanted.get("n", [1, 1])
    complete = [seen for seen in outcome.requests if seen.complete]
    if not low <= len(complete) <= high or (outcome.error and len(complete) < low):
        return False
    if wanted.get("end") == "closed" and not outcome.closed:
        return False
    return all(check_fits(complete[check["i"]], check) for check in wanted.get("checks", []) if "i" in check)


def check_fits(seen: Seen, check: dict[str, Any]) -> bool:
    head = seen.head
    fields: dict[str, list[str]] = {}
    for name, value in head.headers.items:
        fields.setdefault(name.lower().decode(), []).append(value.decode("latin-1"))
    return (
        head.method.decode() in check.get("method", [head.method.decode()])
        and head.path.decode("latin-1") in check.get("target", [head.path.decode("latin-1")])
        and all(fields.get(name) == values for name, values in check.get("hdr", {}).items())
        and not any(name in fields for name in check.get("no_hdr", []) if name not in EXCHANGE_REMOVES)
        and seen.body.decode("latin-1") == check.get("body", seen.body.decode("latin-1"))
        and len(seen.body) == check.get("body_len", len(seen.body))
        and seen.framing() in check.get("framing", [seen.framing()])
    )


def accepted(outcome: Outcome, wanted: dict[str, Any]) -> bool:
    if wanted["do"] == "reject":
        return outcome.error is not None and status_fits(outcome.error.status, wanted["status"])
    if wanted["do"] == "forward":
        return forwarded(outcome, wanted)
    # Waiting for more is what a codec does when it neither gives out an end nor refuses.
    return wanted["do"] == "wait" and outcome.error is None


def upstream_bytes(seen: Seen) -> bytes:
    codec = http1_client(LIMITS)
    out = codec.send_head(seen.head)
    return out + (codec.send_data(seen.body) if seen.body else b"") + codec.send_end()


@needs_corpus
@pytest.mark.parametrize("cut", ["whole", "bytes"])
@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case["id"])
def test_request(case: dict[str, Any], engine: str, cut: str) -> None:
    outcome = serve(case, engine, cut)
    for seen in outcome.requests:
        assert "SMUGGLED" not in seen.head.path.decode("latin-1") or case.get("allow_marker")
        if seen.complete:
            again = http1_server(LIMITS, "reference")
            again.receive_data(upstream_bytes(seen))
            head = again.next_event()
            assert isinstance(head, RequestHead)
            assert (head.method, head.path, head.authority) == (seen.head.method, seen.head.path, seen.head.authority)
    if "policy" in case["needs"]:
        pytest.skip("the answer depends on the policy of the exchange")
    if case["id"] in EXCHANGE_REFUSES:
        pytest.skip("well formed; the exchange refuses it")
    assert any(accepted(outcome, wanted) for wanted in case["accept"]), (
        outcome.error and outcome.error.reason,
        [(seen.head.method, seen.head.target, seen.body[:50]) for seen in outcome.requests],
        case["accept"],
    )


def ask(
    case: dict[str, Any], engine: str, cut: str
) -> tuple[ClientConnection, ResponseHead | None, bytes, ProtocolError | None, bool]:
    request = RequestHead(b"GET", b"/", Headers([(b"Host", b"mesh.test")]))
    if "request_b64" in case:
        server = http1_server(LIMITS, engine)
        server.receive_data(decode(case["request_b64"]))
        asked = server.next_event()
        assert isinstance(asked, RequestHead)
        request = asked
    codec = http1_client(LIMITS, engine)
    codec.send_head(request)
    if not request.content_length:
        codec.send_end()
    head: ResponseHead | None = None
    body, ended = b"", False
    try:
        for piece in [
            *pieces(segments(case, "response_b64"), cut),
            *([b""] if case["after"] in ("close", "rst") else []),
        ]:
            codec.receive_data(piece)
            while (event := codec.next_event()) is not None:
                if isinstance(event, bytes):
                    body += event
                elif isinstance(event, End):
                    ended = True
                elif event.status >= 200 or event.status == 101:
                    head = event
    except ProtocolError as error:
        return codec, head, body, error, ended
    return codec, head, body, None, ended


@needs_corpus
@pytest.mark.parametrize("cut", ["whole", "bytes"])
@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("case", RESPONSES, ids=lambda case: case["id"])
def test_response(case: dict[str, Any], engine: str, cut: str) -> None:
    codec, head, body, error, ended = ask(case, engine, cut)
    assert error is None or error.status == 502
    for poison in case.get("must_not_reach_client", []):
        assert poison.encode() not in body
    if case["after"] == "stall":
        assert not ended
        return
    if case["reuse"] is False and case["after"] == "keep":
        assert not codec.reusable
    fits = False
    for wanted in case["accept"]:
        if wanted["do"] == "error":
            fits |= error is not None and head is None
        elif wanted["do"] == "truncate":
            fits |= error is not None and head is not None
        elif head is not None and error is None and ended:
            fields: dict[str, list[str]] = {}
            for name, value in head.headers.items:
                fields.setdefault(name.lower().decode(), []).append(value.decode("latin-1"))
            fits |= (
                head.status in wanted["status"]
                and body.decode("latin-1") == wanted.get("body", body.decode("latin-1"))
                and all(fields.get(name) == values for name, values in wanted.get("hdr", {}).items())
            )
    if case["id"] == "r-t-rst-after" and not segments(case, "response_b64")[-1]:
        assert body == b"hello"
    assert fits, (error and error.reason, head and head.status, body, ended)

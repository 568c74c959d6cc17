"""Hostile HTTP/1 streams for both engines. Invariants, checked on every stream:

1. Both engines give the same events and the same refusal (status and reason).
2. So they do however the stream is cut into pieces.
3. A request that was given out encodes into bytes that read back as the same request.
4. A chunked body that was given out is the body that h11 and llhttp read.

`python -m tests.fuzz.http1 --seconds 60 [--seed N]` runs until the time is over; exit 1 and the stream if one broke.
"""

from __future__ import annotations

import argparse
import sys
import time
from random import Random

import h11
import httptools

from agent.codec import http1_client, http1_server
from agent.codec.headers import Headers
from agent.codec.message import CHUNKED, End, Limits, ProtocolError, RequestHead, ResponseHead
from tests.attributes import attributes

ENGINES = ("fast", "reference")
TRACE = list[tuple[object, ...]]

LINES = [
    b"GET / HTTP/1.1",
    b"POST /a?b=c HTTP/1.1",
    b"HEAD /h HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"FOO.BAR /x HTTP/1.1",
    b"CONNECT a.example:443 HTTP/1.1",
    b"CONNECT / HTTP/1.1",
    b"GET http://b.example/p?q HTTP/1.1",
    b"OPTIONS http://b HTTP/1.1",
    b"GET https://[::1]:8/ HTTP/1.0",
    b"GET / HTTP/1.0",
    b"GET / HTTP/2.0",
    b"PRI * HTTP/2.0",
    b"GET /",
    b"GET  / HTTP/1.1",
    b"GET /#f HTTP/1.1",
    b"GET /\xc3\xa9 HTTP/1.1",
    b"GET x HTTP/1.1",
    b"G(T / HTTP/1.1",
    b"",
    b"GET / http/1.1",
    b"DESCRIBE / HTTP/1.1",
    b"SOURCE / HTTP/1.1",
    b"GET http://u@b/ HTTP/1.1",
    b'GET /a"<>\\^`{|} HTTP/1.1',
    b"M-SEARCH http:///x HTTP/1.1",
]
STATUS_LINES = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 200",
    b"HTTP/1.1 200 ",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 x",
    b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 103 Early",
    b"HTTP/1.1 101 Switching",
    b"HTTP/1.1 099 x",
    b"HTTP/1.1 600 x",
    b"HTTP/2.0 200 OK",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.1 20 OK",
    b"HTTP/1.1 2000 OK",
    b"ICY 200 OK",
    b"HTTP/1.1 404 N\xff\tx",
    b"",
]
FIELDS = [
    b"Host: a.example",
    b"Host: a.example:80",
    b"host:b",
    b"Host: u@b",
    b"Host: a,b",
    b"Host:",
    b"Host: [::1]:0",
    b"Host: a:99999",
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"content-length:5 ",
    b"Content-Length: 05",
    b"Content-Length: +5",
    b"Content-Length: 5, 5",
    b"Content-Length:",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: 5\t5",
    b"Content-Length: 0x5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: Chunked",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, identity",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding:",
    b"Transfer-Encoding : chunked",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: Upgrade, close",
    b"Connection: upgrade",
    b"Upgrade: websocket",
    b"Upgrade: h2c, x",
    b"Expect: 100-continue",
    b"Expect: x",
    b"X-A: 1",
    b"X_B: 2",
    b"X-A:  two  \t",
    b"X-A: \xff\xfe",
    b"X-A:",
    b"Cookie: a=b",
    b"Cookie: c=d",
    b" folded",
    b"\tfolded",
    b"no colon",
    b": empty",
    b"X A: 1",
    b"X(A: 1",
    b"X\xffA: 1",
    b"X-A: a\tb",
    b"Proxy-Connection: close",
    b"Trailer: x",
    b"X-Long: " + b"l" * 300,
    b"|~!#$%&'*+-.^`: t",
]
BODIES = [
    b"hello",
    b"",
    b"hellox",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"0\r\n\r\n",
    b'5;a="b"\r\nhello\r\n00\r\n\r\n',
    b"1\r\nh\r\n4 ;x\r\nello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nX-T: 2\r\n\r\n",
    b"5\r\nhello\r\n0\r\nbad\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"-1\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"5;\n\r\nhello\r\n0\r\n\r\n",
    b"fffffffffffffffff\r\n",
    b"ffffffffffffffff\r\n",
    b"5\r\r\nhello",
    b"5\r\nhello\r\n0\r\n X: 1\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX : 1\r\n\r\n",
]
SPECKS = [
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\x0b",
    b"\x7f",
    b" ",
    b"\t",
    b":",
    b"\x80",
    b"\r\r",
    b"\n\n",
    b",",
    b"0",
    b";",
    b"#",
    b"@",
    b"_",
]


def hostile_stream(random: Random, lines: list[bytes], first: bytes) -> bytes:
    """A few messages from the lists above, usually not far from well-formed ones."""
    messages: list[bytes] = []
    for _ in range(random.choice((1, 1, 2, 3))):
        fields = [random.choice(FIELDS) for _ in range(random.choice((0, 1, 1, 2, 3, 6)))]
        if random.random() < 0.8:
            fields.insert(0, b"Host: mesh.test")
        line = first if random.random() < 0.5 else random.choice(lines)
        messages.append(
            b"\r\n".join([line, *fields, b"", b""]) + (random.choice(BODIES) if random.random() < 0.6 else b"")
        )
    stream = (b"\r\n" * random.choice((0, 0, 0, 0, 1, 2, 6))) + b"".join(messages)
    for _ in range(random.choice((0, 0, 0, 1, 1, 2))):
        place = random.randrange(len(stream) + 1)
        stream = stream[:place] + random.choice(SPECKS) + stream[place + random.choice((0, 0, 1)) :]
    return stream


def hostile_limits(random: Random) -> Limits:
    return Limits(random.choice((400, 61440)), random.choice((4, 100)), random.choice(("allow", "reject", "drop")))


def cut(random: Random, data: bytes) -> list[bytes]:
    places = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((1, 2, 5, 20))))
    return [piece for low, high in zip([0, *places], [*places, len(data)], strict=True) if (piece := data[low:high])]


def _record(trace: TRACE, event: RequestHead | ResponseHead | bytes | End) -> None:
    if isinstance(event, bytes):
        if trace and trace[-1][0] == "data":
            event = bytes(trace.pop()[1]) + event  # type: ignore[call-overload]
        trace.append(("data", event))
    elif isinstance(event, End):
        trace.append(("end", event.trailers and tuple(event.trailers.items)))
    else:
        trace.append(
            (
                "head",
                *attributes(event, but=("headers",)),
                tuple(event.headers.items),
                tuple(sorted(event.headers.index.items())),
            )
        )


def serve(engine: str, limits: Limits, pieces: list[bytes]) -> tuple[TRACE, list[tuple[RequestHead, bytes]]]:
    """What a server codec says to the stream, and the requests that it gave out complete."""
    codec = http1_server(limits, engine)
    trace: TRACE = []
    complete: list[tuple[RequestHead, bytes]] = []
    serving = True
    try:
        for piece in [*pieces, b""]:
            codec.receive_data(piece)
            while serving and (event := codec.next_event()) is not None:
                _record(trace, event)
                if isinstance(event, RequestHead):
                    head, body = event, b""
                elif isinstance(event, bytes):
                    body += event
                else:
                    complete.append((head, body))
                    codec.send_head(ResponseHead(200, Headers(), content_length=0))
                    codec.send_end()
                    serving = codec.start_next()
    except ProtocolError as error:
        trace.append(("error", error.status, error.reason))
        assert codec.must_close
    trace.append(("counts", tuple(sorted(codec.counts.items()))))
    return trace, complete


def read_response(engine: str, limits: Limits, pieces: list[bytes], request: RequestHead) -> TRACE:
    """What a client codec says to the stream."""
    codec = http1_client(limits, engine)
    codec.send_head(request)
    codec.send_end()
    trace: TRACE = []
    try:
        for piece in [*pieces, b""]:
            codec.receive_data(piece)
            while (event := codec.next_event()) is not None:
                _record(trace, event)
    except ProtocolError as error:
        trace.append(("error", error.status, error.reason))
    assert not trace or trace[-1][0] != "error" or trace[-1][1] == 502
    assert not codec.reusable
    return trace


def check_requests(random: Random) -> bytes:
    """Invariants 1 to 4 on one stream of requests; returns it."""
    stream = hostile_stream(random, LINES, b"POST / HTTP/1.1")
    limits = hostile_limits(random)
    traces = []
    for engine in ENGINES:
        whole, complete = serve(engine, limits, [stream])
        traces.append(whole)
        traces.append(serve(engine, limits, cut(random, stream))[0])
        traces.append(serve(engine, limits, [bytes([byte]) for byte in stream])[0])
    assert all(trace == traces[0] for trace in traces), (stream, traces)
    assert all(item != ("error", 400, "bad_head") for item in traces[0]), (stream, "the gate finds no fault")
    for head, body in complete:
        # Without Host, which HTTP/1.0 allows, there is no authority to send; the exchange decides on one.
        if not head.authority:
            head.authority = b"a"
        check_round_trip(stream, head, body)
    return stream


def check_round_trip(stream: bytes, head: RequestHead, body: bytes) -> None:
    client = http1_client(Limits())
    encoded = client.send_head(head) + client.send_data(body) + client.send_end()
    events, complete = serve("reference", Limits(), [encoded])
    assert len(complete) == 1, (stream, encoded, events)
    again, same_body = complete[0]
    assert (again.method, again.path, again.authority, same_body) == (head.method, head.path, head.authority, body), (
        stream,
        encoded,
    )


def check_responses(random: Random) -> bytes:
    """Invariants 1 and 2 on one stream of responses; returns it."""
    stream = hostile_stream(random, STATUS_LINES, b"HTTP/1.1 200 OK")
    limits = hostile_limits(random)
    method = random.choice((b"GET", b"HEAD", b"CONNECT", b"POST"))
    request = RequestHead(method, b"/", Headers(), authority=b"a:1", upgrade=random.choice((None, b"websocket")))
    traces = []
    for engine in ENGINES:
        traces.append(read_response(engine, limits, [stream], request))
        traces.append(read_response(engine, limits, cut(random, stream), request))
        traces.append(read_response(engine, limits, [bytes([byte]) for byte in stream], request))
    assert all(trace == traces[0] for trace in traces), (stream, method, traces)
    return stream


def check_chunked(random: Random) -> bytes:
    """Invariant 4 on one chunked body; returns it."""
    chunks: list[bytes] = []
    for _ in range(random.choice((0, 1, 3))):
        data = bytes(random.choices(b"a0\r\n;", k=random.choice((1, 2, 5, 17))))
        extension = random.choice((b"", b"", b";a", b";a=b", b';a="b;c"'))
        chunks.append(b"%x%b\r\n%b\r\n" % (len(data), extension, data))
    body = b"".join(chunks) + b"0\r\n" + random.choice((b"", b"X-T: 1\r\n", b"X-T:\r\nY-T: 2\r\n")) + b"\r\n"
    if random.random() < 0.6:
        place = random.randrange(len(body))
        body = body[:place] + random.choice(SPECKS) + body[place + random.choice((0, 1)) :]
    stream = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    trace, complete = serve("fast", Limits(), cut(random, stream))
    if complete:
        head, data = complete[0]
        assert head.content_length == CHUNKED
        assert data == _h11_body(stream), (stream, trace)
        assert data == _llhttp_body(stream), (stream, trace)
    return stream


def _h11_body(stream: bytes) -> bytes:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(stream)
    connection.next_event()
    data = b""
    while isinstance(event := connection.next_event(), h11.Data):
        data += event.data
    return data


def _llhttp_body(stream: bytes) -> bytes | None:
    pieces: list[bytes] = []

    class Body:
        def on_body(self, data: bytes) -> None:
            pieces.append(data)

        def on_message_complete(self) -> None:
            raise StopIteration

    try:
        httptools.HttpRequestParser(Body()).feed_data(stream)
    except httptools.HttpParserCallbackError:
        return b"".join(pieces)
    except httptools.HttpParserError:
        return None
    return b"".join(pieces)


def main() -> int:
    parser = argparse.ArgumentParser(description="Feed both HTTP/1 codecs hostile streams.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="repeat a run")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else Random().randrange(1 << 32)
    random = Random(seed)
    until = time.monotonic() + options.seconds
    streams = 0
    try:
        while time.monotonic() < until:
            for check in (check_requests, check_responses, check_chunked):
                check(random)
                streams += 1
    except AssertionError as broken:
        print(f"seed {seed}, stream {streams}: {broken}", file=sys.stderr)
        return 1
    print(f"{streams} streams, seed {seed}: both engines agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())

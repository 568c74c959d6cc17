import pytest

from agent.codec.chunked import ChunkedReader
from agent.codec.message import Limits, ProtocolError


def read(body: bytes, cut: str, limits: Limits | None = None) -> tuple[bytes, bytes, ChunkedReader]:
    reader = ChunkedReader(limits or Limits(), {})
    data, buffer = b"", b""
    for piece in [body] if cut == "whole" else [body[at : at + 1] for at in range(len(body))]:
        if reader.done:
            buffer += piece
            continue
        out, buffer = reader.read(buffer + piece)
        data += out
        if reader.error is not None:
            raise reader.error
    return data, buffer, reader


cuts = pytest.mark.parametrize("cut", ["whole", "bytes"])


@cuts
@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhello\r\n0\r\n\r\n",
        b"2\r\nhe\r\n3\r\nllo\r\n000\r\n\r\n",
        b'5;a;b=c;d="e;\\"f"\r\nhello\r\n0;x\r\n\r\n',
        b"0000000000000005\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_data_and_what_follows_are_told_apart(body: bytes, cut: str) -> None:
    data, rest, reader = read(body + b"GET", cut)
    assert (data, rest, reader.done, reader.trailers) == (b"hello", b"GET", True, None)


@cuts
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        *[
            (size + b"\r\nhello\r\n0\r\n\r\n", "bad_chunk_line")
            for size in (
                b"0x5",
                b"+5",
                b"-5",
                b"0_5",
                b"g",
                b"",
                b";",
                b"5 ",
                b"\t5",
                b"5;",
                b'5;a="\x01"',
                b"5 ;a",
                b"0" * 17,
            )
        ],
        (b"5\nhello\r\n0\r\n\r\n", "bad_chunk_line"),
        (b"5;a\nb\r\nhello\r\n", "bad_chunk_line"),
        (b"5\r\r\nhello\r\n", "bad_chunk_line"),
        (b"5\r\nhelloX\r\n", "bad_chunk_end"),
        (b"5\r\nhello\rX", "bad_chunk_end"),
        (b"5\r\nhello\n0\r\n\r\n", "bad_chunk_end"),
        (b"ffffffffffffffff\r\n", "chunk_too_large"),
        (b"5;" + b"a" * 5000, "chunk_line_too_long"),
        (b"1;%b\r\nx\r\n" % (b"a" * 4000) * 5, "chunk_extensions_too_large"),
        (b"0\r\nXXGET / HTTP/1.1\r\n\r\n", "bad_field_line"),
        (b"0\r\nX: 1\r\n y\r\n\r\n", "obs_fold"),
        (b"0\r\nX: 1\nY: 2\r\n\r\n", "bare_lf"),
        (b"0\r\nX: " + b"a" * 500, "trailers_too_large"),
        (b"0\r\n" + b"X:\r\n" * 6 + b"\r\n", "too_many_fields"),
    ],
)
def test_faults(body: bytes, reason: str, cut: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(body, cut, Limits(max_head_bytes=300, max_fields=5))
    assert caught.value.reason == reason


@cuts
def test_trailers_that_frame_or_route_are_dropped_and_counted(cut: str) -> None:
    body = b"0\r\nX-T: 1\r\nContent-Length: 9\r\nHost: a\r\nX-Forwarded-Client-Cert: b\r\nX_U: 2\r\n\r\n"
    counts: dict[str, int] = {}
    reader = ChunkedReader(Limits(underscores="drop"), counts)
    buffer = b""
    for piece in [body] if cut == "whole" else [body[at : at + 1] for at in range(len(body))]:
        _, buffer = reader.read(buffer + piece)
    assert reader.done
    assert reader.trailers is not None
    assert reader.trailers.items == [(b"X-T", b"1")]
    assert counts == {"trailer_field_dropped": 3, "underscore_field_dropped": 1}


def test_data_in_front_of_a_fault_is_given_out_first() -> None:
    reader = ChunkedReader(Limits(), {})
    assert reader.read(b"5\r\nhello\r\nzz\r\n") == (b"hello", b"")
    assert reader.error is not None
    assert reader.error.reason == "bad_chunk_line"

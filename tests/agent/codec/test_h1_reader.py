import pytest

from agent.codec import http1_server
from agent.codec.message import END, End, Limits, ProtocolError, RequestHead

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_a_head_a_body_and_an_end(engine: str) -> None:
    codec = http1_server(Limits(), engine)
    codec.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel")
    assert isinstance(codec.next_event(), RequestHead)
    assert codec.next_event() == b"hel"
    assert codec.next_event() is None
    codec.receive_data(b"lo" + GET)
    assert codec.next_event() == b"lo"
    assert codec.next_event() is END
    assert codec.next_event() is None
    assert codec.buffered == len(GET)


def test_chunks_that_have_arrived_come_as_one_piece_with_their_trailers_at_the_end() -> None:
    codec = http1_server(Limits())
    codec.receive_data(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\nX: 1\r\n\r\n"
    )
    assert isinstance(codec.next_event(), RequestHead)
    assert codec.next_event() == b"ab"
    end = codec.next_event()
    assert isinstance(end, End)
    assert end.trailers is not None
    assert end.trailers.items == [(b"X", b"1")]


def test_a_few_empty_lines_in_front_are_read_past() -> None:
    codec = http1_server(Limits())
    codec.receive_data(b"\r\n\r")
    assert codec.next_event() is None
    codec.receive_data(b"\n" + GET)
    assert isinstance(codec.next_event(), RequestHead)
    codec = http1_server(Limits())
    codec.receive_data(b"\r\n" * 20 + GET)
    with pytest.raises(ProtocolError):
        codec.next_event()


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"GET / HTTP/1.1\r\nX-", "eof_in_head"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel", "eof_in_body"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", "eof_in_body"),
    ],
)
def test_an_early_end_is_a_fault_and_stays_one(start: bytes, reason: str) -> None:
    codec = http1_server(Limits())
    codec.receive_data(start)
    codec.receive_data(b"")
    errors = []
    for _ in range(5):
        try:
            codec.next_event()
        except ProtocolError as error:
            errors.append(error.reason)
    assert len(errors) >= 3
    assert set(errors) == {reason}


def test_data_in_front_of_a_bad_chunk_is_given_out_first() -> None:
    codec = http1_server(Limits())
    codec.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")
    codec.next_event()
    assert codec.next_event() == b"hello"
    with pytest.raises(ProtocolError):
        codec.next_event()


def test_garbage_is_refused_before_its_head_ends() -> None:
    codec = http1_server(Limits())
    codec.receive_data(b"GET /\r\n")
    with pytest.raises(ProtocolError) as caught:
        codec.next_event()
    assert caught.value.reason == "http_0_9"

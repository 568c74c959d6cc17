from agent.codec.headers import Headers
from agent.codec.message import END, End, Limits, ProtocolError, RequestHead, ResponseHead


def test_a_request_head_takes_its_path_from_the_target() -> None:
    head = RequestHead(b"GET", b"/a?b", Headers())
    assert (head.path, head.version, head.keep_alive, head.content_length) == (b"/a?b", b"1.1", True, 0)


def test_a_response_head_leaves_its_length_to_the_codec() -> None:
    assert ResponseHead(200, Headers()).content_length is None


def test_ends_and_errors_carry_what_they_are_given() -> None:
    trailers = Headers([(b"A", b"1")])
    assert End(trailers).trailers is trailers
    assert END.trailers is None
    error = ProtocolError(431, "head_too_large")
    assert (error.status, error.reason, str(error)) == (431, "head_too_large", "head_too_large")


def test_limits_default_to_those_of_envoy() -> None:
    limits = Limits()
    assert (limits.max_head_bytes, limits.max_fields, limits.underscores) == (61440, 100, "allow")

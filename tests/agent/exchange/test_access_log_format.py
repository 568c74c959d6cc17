from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.exchange.access_log_format import DEFAULT_FORMAT, AccessLog, escape
from agent.exchange.record import Record
from mesh.errors import ConfigError

WALL = 1_700_000_000.512
LINE = (
    '[2023-11-14T22:13:20.500Z] "GET /products?id=1 HTTP/1.1" 200 - via_upstream - "-" 120 4500 12 11 "10.0.0.9" '
    '"curl/8.1" "0f1e" "productpage:9080" "127.0.0.1:34567" outbound|9080|v1|productpage.default.svc.cluster.local '
    "127.0.0.1:40000 127.0.0.1:15001 127.0.0.1:50000 - default\n"
)


def exchange(**fields: object) -> Record:
    record = Record(100.0)
    record.end = 100.012
    record.method, record.path, record.authority = b"GET", b"/products?id=1", b"productpage:9080"
    record.response_code, record.details, record.upstream_service_time = 200, "via_upstream", 11
    record.bytes_received, record.bytes_sent = 120, 4500
    record.forwarded_for, record.user_agent, record.request_id = b"10.0.0.9", b"curl/8.1", b"0f1e"
    record.upstream_host, record.upstream_local = "127.0.0.1:34567", "127.0.0.1:40000"
    record.downstream_local, record.downstream_remote = "127.0.0.1:15001", "127.0.0.1:50000"
    record.cluster, record.route = "outbound|9080|v1|productpage.default.svc.cluster.local", "default"
    record.attempts = 2
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def text(format: str, record: Record) -> str:
    return AccessLog.compile(format)(record, WALL).decode()


def test_the_default_line_is_istios() -> None:
    log = AccessLog.compile()
    assert log(exchange(), WALL).decode() == LINE
    assert log.not_served == ()


def test_an_exchange_that_got_nowhere_is_a_line_of_dashes() -> None:
    assert AccessLog.compile("")(Record(1.0), WALL).decode() == (
        '[2023-11-14T22:13:20.512Z] "- - HTTP/1.1" 0 - - - "-" 0 0 0 - "-" "-" "-" "-" "-" - - - - - -\n'
    )


@given(st.binary(max_size=40), st.text(max_size=20), st.binary(max_size=20))
def test_whatever_clients_write_one_exchange_is_one_line(path: bytes, server_name: str, agent: bytes) -> None:
    record = exchange(path=path, server_name=server_name.encode("utf-8", "replace").decode(), user_agent=agent)
    line = AccessLog.compile()(record, WALL)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert line.isascii()
    assert line.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"') == DEFAULT_FORMAT.count('"')
    # the quick form of the default line and the one for any format agree
    assert AccessLog.compile(DEFAULT_FORMAT.replace("%START_TIME%", "%START_TIME():99%"))(record, WALL) == line


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b'a"b\\c', r"a\"b\\c"),
        (b"a\r\nb\tc\x00\x7f", r"a\r\nb\tc\x00\x7f"),
        ("é".encode(), r"\xc3\xa9"),
        ("é", r"\xc3\xa9"),
        (b"\xff", r"\xff"),
        ("", "-"),
        (b"", "-"),
        (None, "-"),
        (0, "0"),
    ],
)
def test_escapes(value: str | int | bytes | None, written: str) -> None:
    assert escape(value) == written


def test_flags_are_joined_by_commas() -> None:
    assert " 503 UF,URX upstream_reset " in text(
        "", exchange(response_code=503, flags=("UF", "URX"), details="upstream_reset")
    )


@pytest.mark.parametrize(
    ("format", "line"),
    [
        ("%REQ(:METHOD)% %REQ(:PATH):4%", "GET /pro"),
        ("%REQ(X-REQUEST-ID?USER-AGENT)%", "0f1e"),
        ("%REQ(x-missing?user-agent)%", "curl/8.1"),
        ("%RESPONSE_CODE:1% 100%%", "200 100%"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT% %BYTES_SENT%", "2 4500"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "127.0.0.1 127.0.0.1"),
        ("%START_TIME(%Y/%m/%d %H:%M:%S.%3f)%", "2023/11/14 22:13:20.500"),
        ("%START_TIME(%s.%6f %f)%", "1700000000.500000 500000000"),
        ("%GRPC_STATUS% %GRPC_STATUS_NUMBER%", "- -"),
        ("%RESP(:STATUS)%", "200"),
        ("no operators", "no operators"),
        ("%UPSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_URI_SAN%", "- -"),
    ],
)
def test_custom_formats(format: str, line: str) -> None:
    assert text(format, exchange()) == line + "\n"


@pytest.mark.parametrize(("status", "line"), [("14", "Unavailable 14"), ("0", "OK 0"), ("x", "x x"), ("99", "99 99")])
def test_grpc_status_has_a_name_and_a_number(status: str, line: str) -> None:
    assert text("%GRPC_STATUS% %GRPC_STATUS_NUMBER%", exchange(grpc_status=status)) == line + "\n"


def test_a_fallback_header_is_taken_when_the_first_is_absent() -> None:
    assert text("%REQ(X-REQUEST-ID?USER-AGENT)%", exchange(request_id=b"")) == "curl/8.1\n"


def test_operators_that_cannot_be_answered_are_dashes_and_told_once() -> None:
    log = AccessLog.compile("%REQ(COOKIE)% %TRAILER(X)% %DOWNSTREAM_TLS_VERSION% %REQ(COOKIE)% %DYNAMIC_METADATA(a:b)%")
    assert log.not_served == ("%REQ(COOKIE)%", "%TRAILER(X)%", "%DOWNSTREAM_TLS_VERSION%", "%DYNAMIC_METADATA(a:b)%")
    assert log(exchange(), WALL) == b"- - - - -\n"


@pytest.mark.parametrize("format", ["%NONSENSE%", "%REQS(A)%"])
def test_an_unknown_operator_is_an_error(format: str) -> None:
    with pytest.raises(ConfigError, match="is no operator of Envoy's access log"):
        AccessLog.compile(format)


@pytest.mark.parametrize("format", ["100% sure", "%start_time%", "%REQ(A%"])
def test_a_lone_percent_sign_is_an_error(format: str) -> None:
    with pytest.raises(ConfigError, match="percent sign that begins no operator"):
        AccessLog.compile(format)


def test_json_has_istios_keys_numbers_and_nulls() -> None:
    line = AccessLog.compile(encoding="JSON")(exchange(path=b'/"\r\n\xff', user_agent=b""), WALL)
    assert line.count(b"\n") == 1
    entry = json.loads(line)
    assert list(entry)[:5] == ["start_time", "method", "path", "protocol", "response_code"]
    assert len(entry) == 24
    assert entry["start_time"] == "2023-11-14T22:13:20.500Z"
    assert entry["path"] == '/"\r\n\\xff'
    assert (entry["response_code"], entry["duration"], entry["upstream_service_time"]) == (200, 12, 11)
    assert entry["user_agent"] is None
    assert entry["response_flags"] == "-"


def test_a_json_format_is_an_object_of_format_strings() -> None:
    log = AccessLog.compile('{"code": "%RESPONSE_CODE%", "what": "%REQ(:METHOD)% to %REQUESTED_SERVER_NAME%"}', "JSON")
    assert json.loads(log(exchange(), WALL)) == {"code": 200, "what": "GET to -"}


@pytest.mark.parametrize("format", ["%PROTOCOL%", "[1]", '{"a": {"b": "c"}}'])
def test_a_json_format_of_another_shape_is_an_error(format: str) -> None:
    with pytest.raises(ConfigError, match="not a JSON object of strings"):
        AccessLog.compile(format, "JSON")


def test_an_unknown_encoding_is_an_error() -> None:
    with pytest.raises(ConfigError, match="write TEXT or JSON"):
        AccessLog.compile(None, "XML")


def test_the_second_is_formatted_anew_when_it_changes() -> None:
    log = AccessLog.compile("%START_TIME%")
    times = [log(Record(0.0), wall).decode().strip() for wall in (1.0, 1.9994, 1.9996, 61.0)]
    assert [each[14:] for each in times] == ["00:01.000Z", "00:01.999Z", "00:02.000Z", "01:01.000Z"]

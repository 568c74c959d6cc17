from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mesh.errors import ConfigError
from mesh.telemetry import log
from mesh.telemetry.metrics import Registry


class FakeWall:
    def __init__(self) -> None:
        self.now = 1_700_000_000.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Iterator[FakeWall]:
    clock = FakeWall()
    yield clock
    log.setup()


def start(wall: FakeWall, encoding: log.Encoding, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    log.setup(level=level, encoding=encoding, stream=stream, wall=wall)
    return stream


def test_a_text_line_tells_time_level_component_event_and_fields(wall: FakeWall) -> None:
    out = start(wall, "text")
    log.get_logger("feed").info("connected to pilot", url="ws://127.0.0.1:1/", tries=3)
    assert out.getvalue() == "2023-11-14T22:13:20.250Z info feed: connected to pilot url=ws://127.0.0.1:1/ tries=3\n"


def test_nothing_that_is_logged_makes_a_second_line(wall: FakeWall) -> None:
    out = start(wall, "text")
    log.get_logger("http").info("bad\nrequest", path=b'/a"\r\nfake: line\xff', empty="", note="a b", lone="\ud800")
    assert out.getvalue().count("\n") == 1
    assert r"path=" in out.getvalue()
    assert 'note="a b"' in out.getvalue()
    assert 'empty=""' in out.getvalue()


def test_json_lines_hold_types_and_turn_the_rest_into_text(wall: FakeWall) -> None:
    out = start(wall, "json")
    log.get_logger("pool").bind(cluster="a").error("gone", count=2, host=b"\xffx", cause=ValueError("no"), ok=True)
    assert json.loads(out.getvalue()) == {
        "timestamp": "2023-11-14T22:13:20.250Z",
        "level": "error",
        "component": "pool",
        "event": "gone",
        "cluster": "a",
        "count": 2,
        "host": "\\xffx",
        "cause": "no",
        "ok": True,
    }


def test_the_console_is_drawn_by_structlog(wall: FakeWall) -> None:
    out = start(wall, "console")
    log.get_logger("ctl").info("started", port=80)
    assert "started" in out.getvalue()
    assert "port=80" in out.getvalue()


def test_levels_filter_and_can_be_changed_for_one_component(wall: FakeWall) -> None:
    out = start(wall, "text", level="warning")
    feed, http = log.get_logger("feed"), log.get_logger("http")
    feed.info("hidden")
    assert not feed.is_enabled("info")
    log.set_level("debug", "feed")
    feed.debug("seen")
    http.info("hidden")
    assert log.levels() == {"": "warning", "feed": "debug"}
    log.set_level("off")
    feed.error("hidden")
    assert [line.split(" ")[-1] for line in out.getvalue().splitlines()] == ["seen"]
    assert log.levels() == {"": "off"}


def test_an_unknown_level_names_the_known_ones(wall: FakeWall) -> None:
    with pytest.raises(ConfigError, match="'loud' is no log level; write one of debug, info"):
        log.setup(level="loud")


def test_a_repeated_warning_is_held_back_and_its_number_told(wall: FakeWall) -> None:
    out = start(wall, "json")
    logger = log.get_logger("feed")
    for attempt in range(5):
        logger.warning("pilot refuses", attempt=attempt)
    logger.warning("something else")
    wall.now += log.REPEAT_WINDOW
    logger.warning("pilot refuses", attempt=9)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["event"], line.get("suppressed")) for line in lines] == [
        ("pilot refuses", None),
        ("something else", None),
        ("pilot refuses", 4),
    ]


def test_the_memory_of_repeats_is_bounded_and_never_loses_a_line(wall: FakeWall) -> None:
    out = start(wall, "text")
    logger = log.get_logger("a")
    for n in range(1500):
        logger.warning(f"event {n}")
    wall.now += log.REPEAT_WINDOW
    logger.warning("event 0")
    logger.warning("another")
    assert len(out.getvalue().splitlines()) == 1502


def test_an_exception_is_logged_with_its_traceback(wall: FakeWall) -> None:
    out = start(wall, "json")
    try:
        raise RuntimeError("boom")
    except RuntimeError as exc:
        caught = exc
        log.get_logger("task").exception("crashed")
    log.get_logger("task").exception("crashed later", caught)
    log.get_logger("task").exception("nothing to show")
    first, second, third = (json.loads(line) for line in out.getvalue().splitlines())
    assert "RuntimeError: boom" in first["exception"]
    assert "RuntimeError: boom" in second["exception"]
    assert "exception" not in third


def test_lines_are_counted_by_level_even_when_they_are_held_back(wall: FakeWall) -> None:
    registry = Registry()
    log.setup(stream=io.StringIO(), wall=wall, registry=registry)
    log.get_logger("a").warning("w")
    log.get_logger("a").warning("w")
    assert b'trioweave_log_lines_total{level="warning"} 2' in registry.exposition()


def test_a_closed_stderr_does_not_stop_the_program(wall: FakeWall) -> None:
    stream = io.StringIO()
    log.setup(stream=stream, wall=wall)
    stream.close()
    log.get_logger("a").info("nobody hears")


def test_the_default_stream_is_stderr(wall: FakeWall, capsys: pytest.CaptureFixture[str]) -> None:
    log.setup(wall=wall)
    log.get_logger("a").info("hello")
    assert capsys.readouterr().err.endswith("a: hello\n")


def test_importing_the_logger_loads_neither_structlog_nor_asyncio() -> None:
    code = "import sys, mesh.telemetry.log; sys.exit('structlog' in sys.modules or 'asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0

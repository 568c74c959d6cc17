"""Log lines of the three programs: a component, an event, and key=value pairs, on stderr.

The loggers have structlog's calling style (`log.warning("push refused", node=…)`, `bind`), and structlog draws the
lines that a person reads in a terminal. It is imported for that alone: it pulls asyncio and rich, 6 MB and 100 ms,
which a sidecar has no room for. JSON and plain text are written here.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO, TypeAlias

import msgspec

from mesh.errors import ConfigError

if TYPE_CHECKING:
    from mesh.telemetry.metrics import Counter, Family, Registry

Level: TypeAlias = Literal["debug", "info", "warning", "error", "off"]
Encoding: TypeAlias = Literal["text", "json", "console"]

LEVELS: Final[dict[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "off": 100}
REPEAT_WINDOW: Final = 10.0
"""Seconds in which one warning (component and event) is written once; the next line tells how many were held back."""
_MAX_REPEATS = 1000


class Logging:
    """Where lines go and which are written; one per program, changed by `setup` and by the admin port."""

    def __init__(self) -> None:
        self.threshold = LEVELS["info"]
        self.thresholds: dict[str, int] = {}
        self.stream: TextIO | None = None
        self.render: Callable[[dict[str, Any]], str] = render_text
        self.wall: Callable[[], float] = time.time  # noqa: TID251 - the default; tests and simulations give their own
        self.lines: Family[Counter] | None = None
        self.fields: dict[str, Any] = {}
        self._repeats: dict[tuple[str, str], tuple[float, int]] = {}

    def is_enabled(self, component: str, level: int) -> bool:
        return level >= (self.thresholds.get(component, self.threshold) if self.thresholds else self.threshold)

    def held_back(self, component: str, event: str, now: float) -> int | None:
        """How many equal warnings were suppressed since the last one written; None: suppress this one too."""
        key = (component, event)
        until, count = self._repeats.get(key, (0.0, 0))
        if now < until:
            self._repeats[key] = (until, count + 1)
            return None
        if len(self._repeats) >= _MAX_REPEATS and key not in self._repeats:
            self._repeats = {k: v for k, v in self._repeats.items() if v[0] > now}
        if len(self._repeats) < _MAX_REPEATS:
            self._repeats[key] = (now + REPEAT_WINDOW, 0)
        return count

    def write(self, level: str, component: str, event: str, fields: dict[str, Any]) -> None:
        now = self.wall()
        if self.lines is not None:
            self.lines.child((("level", level),)).inc()
        if level == "warning":
            suppressed = self.held_back(component, event, now)
            if suppressed is None:
                return
            if suppressed:
                fields["suppressed"] = suppressed
        stream = self.stream or sys.stderr
        line = self.render(
            {"timestamp": timestamp(now), "level": level, "component": component, "event": event} | self.fields | fields
        )
        try:
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):
            return  # nobody reads stderr any more; there is nowhere left to say so but the counter


class Logger:
    """Writes for one component, with fields that every line repeats. Levels below the threshold cost a comparison."""

    __slots__ = ("_fields", "component")

    def __init__(self, component: str, fields: dict[str, Any] | None = None) -> None:
        self.component = component
        self._fields = fields or {}

    def bind(self, **fields: Any) -> Logger:
        """A logger that adds these fields to every line."""
        return Logger(self.component, {**self._fields, **fields})

    def is_enabled(self, level: Level) -> bool:
        """Ask before computing fields that cost something."""
        return _logging.is_enabled(self.component, LEVELS[level])

    def debug(self, event: str, /, **fields: Any) -> None:
        if _logging.is_enabled(self.component, 10):
            _logging.write("debug", self.component, event, {**self._fields, **fields})

    def info(self, event: str, /, **fields: Any) -> None:
        if _logging.is_enabled(self.component, 20):
            _logging.write("info", self.component, event, {**self._fields, **fields})

    def warning(self, event: str, /, **fields: Any) -> None:
        """Equal events within REPEAT_WINDOW are written once; keep what varies in the fields."""
        if _logging.is_enabled(self.component, 30):
            _logging.write("warning", self.component, event, {**self._fields, **fields})

    def error(self, event: str, /, **fields: Any) -> None:
        if _logging.is_enabled(self.component, 40):
            _logging.write("error", self.component, event, {**self._fields, **fields})

    def exception(self, event: str, /, exc: BaseException | None = None, **fields: Any) -> None:
        """An error with the traceback of `exc`, or of the exception being handled."""
        found = exc or sys.exc_info()[1]
        if found is not None:
            fields["exception"] = "".join(traceback.format_exception(found)).rstrip()
        self.error(event, **fields)


def get_logger(component: str) -> Logger:
    """The component's logger; cheap, and good before `setup` as well."""
    return Logger(component)


def setup(
    *,
    level: str = "info",
    encoding: Encoding = "text",
    stream: TextIO | None = None,
    wall: Callable[[], float] | None = None,
    registry: Registry | None = None,
    fields: dict[str, Any] | None = None,
) -> None:
    """Say once, at start, how to log. `console` is coloured, for people; `text` and `json` are for files.

    Every line has `fields`. `stream` None is the current sys.stderr. Raises ConfigError for an unknown level.
    """
    _logging.threshold = _level(level)
    _logging.thresholds = {}
    _logging.stream = stream
    _logging.fields = fields or {}
    _logging.render = {"text": render_text, "json": render_json, "console": _render_console}[encoding]
    if wall is not None:
        _logging.wall = wall
    _logging.lines = registry.counter("trioweave_log_lines_total", "Log lines by level.") if registry else None
    _logging._repeats.clear()


def set_level(level: str, component: str = "") -> None:
    """Change the level while running: of one component, or of all. Raises ConfigError for an unknown level."""
    if component:
        _logging.thresholds[component] = _level(level)
    else:
        _logging.threshold = _level(level)
        _logging.thresholds = {}


def levels() -> dict[str, str]:
    """The level in force, and those of components that differ (`""` is the rest)."""
    names = {value: name for name, value in LEVELS.items()}
    return {"": names[_logging.threshold], **{name: names[value] for name, value in _logging.thresholds.items()}}


def _level(name: str) -> int:
    known = LEVELS.get(name.lower())
    if known is None:
        raise ConfigError(f"{name!r} is no log level", path="level", remedy=f"write one of {', '.join(LEVELS)}")
    return known


def timestamp(wall: float) -> str:
    """ISO-8601 UTC with milliseconds."""
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall))
    return f"{seconds}.{int(wall % 1 * 1000):03d}Z"


def render_json(entry: dict[str, Any]) -> str:
    """One JSON object; values that JSON lacks, and bytes, become text."""
    plain = {key: _readable(value) if isinstance(value, (bytes, str)) else value for key, value in entry.items()}
    return msgspec.json.encode(plain, enc_hook=str).decode()


def render_text(entry: dict[str, Any]) -> str:
    """`2026-01-02T03:04:05.678Z info feed: connected pilot=…`, values quoted where they need it; never two lines."""
    fields = dict(entry)
    head = (
        f"{fields.pop('timestamp')} {fields.pop('level')} {fields.pop('component')}: {_word(fields.pop('event'), ' ')}"
    )
    return " ".join([head, *(f"{key}={_word(value)}" for key, value in fields.items())])


def _word(value: Any, allowed: str = "") -> str:
    text = _readable(value)
    plain = text.isprintable() and text and not (set(text) & set(' "=\\') - set(allowed))
    return text if plain else msgspec.json.encode(text).decode()


def _readable(value: Any) -> str:
    data = value if isinstance(value, bytes) else str(value).encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")


def _render_console(entry: dict[str, Any]) -> str:
    return _console()(None, entry["level"], dict(entry))


_logging = Logging()
_renderer: Callable[[object, str, dict[str, Any]], str] | None = None


def _console() -> Callable[[object, str, dict[str, Any]], str]:
    global _renderer
    if _renderer is None:
        from structlog.dev import ConsoleRenderer

        stream = _logging.stream or sys.stderr
        _renderer = ConsoleRenderer(colors=stream.isatty(), pad_event_to=0)
    return _renderer

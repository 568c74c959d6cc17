"""What both ends of the feed write their log lines to; structlog's loggers fit, and so does a test's list."""

from __future__ import annotations

from typing import Any, Protocol


class Log(Protocol):
    """An event in a few fixed words, and its particulars by name."""

    def info(self, event: str, /, **fields: Any) -> Any: ...

    def warning(self, event: str, /, **fields: Any) -> Any: ...

    def error(self, event: str, /, **fields: Any) -> Any: ...

"""RE2 as a checker of users' regular expressions; the only door to re2 in the pilot, opened on first use."""

from __future__ import annotations

from functools import lru_cache

MAX_LENGTH = 1024


@lru_cache(maxsize=4096)
def regex_fault(pattern: str) -> tuple[str, str] | None:
    """(what is wrong, remedy), or None for a pattern that RE2 takes and that is not over 1024 bytes."""
    if len(pattern.encode()) > MAX_LENGTH:
        return f"the regular expression is longer than {MAX_LENGTH} bytes", "shorten it or split the rule"
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as exc:
        reason = exc.args[0].decode() if isinstance(exc.args[0], bytes) else exc.args[0]
        return f"not a regular expression: {reason}", "write RE2 syntax (https://github.com/google/re2/wiki/Syntax)"
    return None

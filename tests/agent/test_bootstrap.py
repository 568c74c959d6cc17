"""`--set KEY=VALUE`: what is taken, and what the refusal of the rest says."""

from __future__ import annotations

from typing import Any

import pytest

from agent.bootstrap import Bootstrap, Settings
from mesh.errors import ConfigError
from mesh.feed.node import Node


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("drain_time", "2.5", 2.5),
        ("drain_time", "2.5s", 2.5),
        ("drain_time", "250ms", 0.25),
        ("max_connections", "12", 12),
        ("access_log_file", "mine", "mine"),
        ("access_log_file", "10s", "10s"),
        ("codec", "reference", "reference"),
        ("access_log_encoding", "JSON", "JSON"),
        ("stream_idle_timeout", "300s", 300.0),
        ("request_timeout", "1500ms", 1.5),
        ("merge_slashes", "true", True),
        ("normalize_path", "false", False),
        ("path_with_escaped_slashes_action", "unescape_and_redirect", "unescape_and_redirect"),
    ],
)
def test_values(key: str, text: str, expected: Any) -> None:
    assert getattr(Settings.parse({key: text}), key) == expected


def test_nothing_set_is_the_default() -> None:
    assert Settings.parse({}) == Settings()
    assert Bootstrap(Node("gateway~a", "gateway")).settings == Settings()


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("drain_tim", "1", "unknown setting drain_tim; did you mean drain_time?"),
        ("zzz", "1", "unknown setting zzz; see --help for the list"),
        ("codec", "quick", "'quick' is not a value of codec; one of auto, fast, reference"),
        ("max_connections", "many", "a value of type int"),
        ("merge_slashes", "maybe", "a value of type bool (true or false)"),
        (
            "path_with_escaped_slashes_action",
            "refuse",
            "one of keep, reject, unescape_and_redirect, unescape_and_forward",
        ),
        ("drain_time", "soon", "a value of type float"),
        ("drain_time", "-1", "'-1' is not a value of drain_time; 0 or more"),
        ("drain_time", "nan", "'nan' is not a value of drain_time; 0 or more"),
        ("max_connections", "-5", "'-5' is not a value of max_connections; 0 or more"),
    ],
)
def test_refusals(key: str, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.parse({key: text})
    assert expected in str(refused.value)
    assert str(refused.value).startswith(f"--set:0:0 {key}: ")

"""What a visitor of the demo reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mesh.ctl import tour


def test_the_tour_names_five_commands_with_real_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    text = tour.text("http://127.0.0.1:1/productpage", tmp_path / "my samples", 4711, 8081)
    assert "'my samples'/reviews-90-10.yaml" in text
    assert "http://127.0.0.1:8081/break" in text
    assert "http://127.0.0.1:8081/heal" in text
    assert "kill -9 4711" in text
    assert [f"  {number}. " in text for number in range(1, 6)] == [True] * 5


def test_every_sample_of_the_tour_exists() -> None:
    samples = Path(__file__).parents[3] / "examples" / "bookstore" / "samples"
    text = tour.text("http://page", samples, 1, 1)
    named = [word.rpartition("/")[2] for word in text.split() if word.endswith(".yaml")]
    assert len(named) == 4
    assert all((samples / name).is_file() for name in named)


def test_without_curl_python_posts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "urllib.request" in tour.post("http://127.0.0.1:1/break")
    assert tour.meshctl().endswith("meshctl")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert tour.post("http://127.0.0.1:1/break") == "curl -s -X POST http://127.0.0.1:1/break"


def test_the_status_line_shows_rates_and_failures() -> None:
    line = tour.status_line({"v1": 10, "v3": 4}, {"v1": 5}, {"v3": 2}, 2.0, pilot_is_alive=True)
    assert line == "reviews  v1 2.5/s  v3 2.0/s (2 failed)"
    assert tour.status_line({}, {}, {}, 2.0, pilot_is_alive=False) == "reviews  no request yet  (no pilot)"

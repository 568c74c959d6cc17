from __future__ import annotations

import pytest

from agent.exchange.record import Record


def test_a_new_record_knows_only_when_it_began() -> None:
    record = Record(12.5)
    assert (record.start, record.end) == (12.5, 12.5)
    assert record.response_code == 0
    assert record.flags == ()
    assert record.service is None
    assert record.destination is None
    assert record.upstream_service_time is None


def test_every_slot_is_filled_so_that_readers_need_no_guard() -> None:
    record = Record(0.0)
    assert all(hasattr(record, name) for name in Record.__slots__)


def test_a_misspelt_field_is_an_error() -> None:
    with pytest.raises(AttributeError):
        Record(0.0).respone_code = 200  # type: ignore[attr-defined]

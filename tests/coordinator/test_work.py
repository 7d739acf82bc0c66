"""Work for many devices at once."""

from __future__ import annotations

from coordinator import records as r
from coordinator.work import AT_ONCE, batches


def test_every_device_is_in_one_batch_and_none_is_too_large() -> None:
    fleet = [r.Device(f"d{number}", "", "", 0.0) for number in range(2 * AT_ONCE + 1)]
    found = list(batches(fleet))
    assert [len(batch) for batch in found] == [AT_ONCE, AT_ONCE, 1]
    assert [device for batch in found for device in batch] == fleet
    assert list(batches([])) == []

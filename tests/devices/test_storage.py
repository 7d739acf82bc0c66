from __future__ import annotations

from pathlib import Path

import pytest

from devices import storage
from devices.storage import StorageSpeed, free_bytes, measure_storage


def test_a_disk_is_timed_and_nothing_is_left_behind(tmp_path: Path) -> None:
    speed = measure_storage(tmp_path)
    assert speed.read_mbs is not None
    assert speed.write_mbs is not None
    assert min(speed.read_mbs, speed.write_mbs) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_nearly_full_disk_is_spared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "free_bytes", lambda _: 10 << 20)
    assert measure_storage(tmp_path) == StorageSpeed()


def test_a_folder_that_cannot_be_written_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(storage.tempfile, "TemporaryFile", refuse)
    assert measure_storage(tmp_path) == StorageSpeed()
    assert free_bytes(tmp_path / "a" / "b") is not None

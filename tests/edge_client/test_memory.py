from __future__ import annotations

from pathlib import Path

from edge_client.memory import peak_resident_bytes


def test_the_peak_of_this_process_is_known_on_linux() -> None:
    peak = peak_resident_bytes()
    assert peak is not None
    assert peak > 1 << 20


def test_an_unknown_peak_is_none(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name: x\nVmHWM:\n")
    assert peak_resident_bytes(tmp_path / "status") is None
    assert peak_resident_bytes(tmp_path / "gone") is None


def test_kibibytes_become_bytes(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmPeak:\t 9 kB\nVmHWM:\t  1024 kB\n")
    assert peak_resident_bytes(tmp_path / "status") == 1 << 20

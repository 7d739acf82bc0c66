from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edge_client.memory import give_back, keep_freed, peak_resident_bytes


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


FAULTS = """
import resource
import sys

import numpy as np

from edge_client.memory import keep_freed

if sys.argv[1] == "kept":
    assert keep_freed()
for _ in range(2):  # the second time all of it has been held before
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [np.ones(1 << 18, np.float32) for _ in range(20)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    """Page faults of taking 20 MiB that were held and freed before."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, mode], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


def test_memory_that_is_kept_is_taken_again_without_a_fault() -> None:
    assert faults("kept") < 500 < faults("plain")


def test_giving_back_is_always_possible() -> None:
    assert keep_freed() in {True, False}
    give_back()

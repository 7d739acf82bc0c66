"""The benchmark: bounded, and never a reason for a client not to start."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from devices.calibration import calibrate
from devices.probe_models import DEPTHS, PROBES, STEPS
from devices.profile import DeviceProfile
from edge_client import benchmark


def test_every_network_and_step_has_its_graph() -> None:
    graphs = benchmark.read_graphs()
    index = json.loads(graphs[benchmark.INDEX])
    assert {(entry["probe"], entry["depth"]) for entry in index} == {
        (name, depth) for name in PROBES for depth in DEPTHS
    }
    for name, depth, batch, models, bits in STEPS:
        assert f"{name}-{depth}-{batch}-{models}-{bits}.onnx" in graphs


def test_every_probe_runs_and_the_speed_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "EACH_S", 0.0)
    timings = tuple(benchmark.measure(1, benchmark.read_graphs()))
    assert len(timings) == 2 * len(PROBES) * len(DEPTHS) + len(STEPS)
    assert calibrate(DeviceProfile("", timings=timings)) is not None


def test_little_memory_means_no_benchmark() -> None:
    assert benchmark.run_benchmark(memory_mib=100) == ()


def test_what_was_measured_before_time_ran_out_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    line = b'{"work": "answer", "probe": "narrow-2", "depth": 2, "batch": 1, "ms": 2.0, '
    said = line + b'"rel_sigma": 0.1, "peak_mib": null}\n{"work": "tra'

    def late(*_: Any, **options: Any) -> None:
        raise subprocess.TimeoutExpired([], options["timeout"], output=said)

    monkeypatch.setattr(subprocess, "run", late)
    found = benchmark.run_benchmark(total_s=1.0)
    assert [timing.ms for timing in found] == [2.0]


def test_a_process_that_cannot_start_or_says_nonsense_gives_no_timings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError

    monkeypatch.setattr(subprocess, "run", broken)
    assert benchmark.run_benchmark() == ()
    nonsense = subprocess.CompletedProcess([], -9, stdout=b'{"ms": 1}\nnonsense\n[]\n')
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: nonsense)
    assert benchmark.run_benchmark() == ()

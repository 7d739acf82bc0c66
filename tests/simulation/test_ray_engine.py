"""Runs as processes: Ray warns and leaves threads, which the tests are to be free of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn")

ROOT = Path(__file__).parents[2]
EXPERIMENT = """\
name = "tiny"
methods = ["reefl-dyn", "fedavg-finetune"]

[data]
kind = "digits"
samples = 160
clients = 5

[model]
patch_size = 4
width = 16
heads = 2
depth = 2
exits = [1, 2]

[rounds]
total = 2
per_round = 3

[training]
relax_epochs = 1
finetune_epochs = 1
"""
WITHOUT_RAY = """\
import sys
from reefleet.cli import main
if "blocked" in sys.argv[1]:
    sys.modules["ray"] = None
code = main(sys.argv[2:])
assert "ray" not in sys.modules or sys.modules["ray"] is None
sys.exit(code)
"""


def ran(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def figures(out: Path) -> dict[str, Any]:
    """Every run's figures, without the time it took."""
    return {
        path.parent.name: {k: v for k, v in json.loads(path.read_bytes()).items() if k != "seconds"}
        for path in out.glob("tiny/*/result.json")
    }


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(EXPERIMENT)
    return path


def test_a_ray_cluster_comes_to_the_same_digits(experiment: Path, tmp_path: Path) -> None:
    start = ["simulate", str(experiment), "--quiet", "--out"]
    local = [sys.executable, "-c", WITHOUT_RAY, "free", *start, str(tmp_path / "local")]
    assert ran(local).returncode == 0
    shards = ["--engine", "ray", "--shards", "2"]
    over = ran([sys.executable, "-m", "reefleet", *start, str(tmp_path / "ray"), *shards])
    assert over.returncode == 0, over.stderr[-2000:]
    assert len(figures(tmp_path / "local")) == 2
    assert figures(tmp_path / "ray") == figures(tmp_path / "local")


def test_without_ray_the_extra_that_brings_it_is_named(experiment: Path, tmp_path: Path) -> None:
    start = ["simulate", str(experiment), "--quiet", "--out", str(tmp_path), "--engine", "ray"]
    told = ran([sys.executable, "-c", WITHOUT_RAY, "blocked", *start])
    assert told.returncode not in {0, 1}
    assert told.stderr.count("\n") == 1
    assert "reefleet[ray]" in told.stderr

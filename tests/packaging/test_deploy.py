"""The units and the dashboard under deploy/."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
BROKERS = "reefleet-broker"  # those units are about mosquitto
OWN_UNITS = [unit for unit in UNITS if not unit.stem.startswith(BROKERS)]
MOST_EXPOSURE = 2.0


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_exposes_little(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) < MOST_EXPOSURE


@pytest.mark.parametrize("unit", OWN_UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_command_that_there_is(unit: Path) -> None:
    from reefleet.cli import main

    start = re.search(r"^ExecStart=\S+/reefleet (\S+ \S+)", unit.read_text(), re.MULTILINE)
    assert start
    assert main([*start[1].split(), "--help"]) == 0


def test_the_dashboard_asks_only_for_figures_that_there_are() -> None:
    source = (DEPLOY.parent / "coordinator/metrics.py").read_text()
    known = {f"reefleet_{name}" for name in re.findall(r'_gauge\(\s*"(\w+)"', source)}
    known |= {"reefleet_devices", "reefleet_calls_refused_total"}
    known |= {f"reefleet_call_seconds_{part}" for part in ("count", "bucket")}
    board = json.loads((DEPLOY / "grafana.json").read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"reefleet_\w+", target["expr"])
    }
    assert asked <= known
    assert len(asked) > 8

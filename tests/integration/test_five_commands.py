"""The README's five commands make a fleet of two, which then gets a deployment and goes back."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reefleet.datasets.digits import digits
from tests.integration.running import ROOT, Program, until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.torch]

DEVICES = ("kitchen", "shed")
# The defaults, but for loopback, free ports, and as little work as shows that all of it is done.
QUICK = {
    "REEFLEET_COORDINATOR_LISTEN_HOST": "127.0.0.1",
    "REEFLEET_COORDINATOR_LISTEN_FLEET_PORT": "0",
    "REEFLEET_COORDINATOR_ROUNDS_TOTAL": "1",
    "REEFLEET_COORDINATOR_ROUNDS_POLL_MS": "50",
    "REEFLEET_COORDINATOR_BUDGET_MAX_MODELS": "1",
    "REEFLEET_COORDINATOR_BUDGET_MAX_BITS": "2",
    "REEFLEET_EDGE_BENCHMARK_S": "0",
    "REEFLEET_EDGE_IDLE_S": "0.1",
    "REEFLEET_EDGE_CALIBRATION_MEASURED_IMAGES": "20",
    "REEFLEET_EDGE_SELF_TEST_TOLERANCE": "1",  # so few samples say little
}


def commands() -> list[list[str]]:
    """What the README says, in its order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"Five commands.*?```\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return [shlex.split(line.removesuffix(" &")) for line in found[1].splitlines()]


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_packs(folder: Path) -> None:
    images, labels = digits()
    np.savez(folder / "public.npz", train_images=images[:120], train_labels=labels[:120])
    for index, name in enumerate(DEVICES):
        start = 200 + 100 * index
        parts = {}
        for part, count in (("train", 40), ("validation", 20), ("test", 40)):
            parts[f"{part}_images"] = images[start : start + count]
            parts[f"{part}_labels"] = labels[start : start + count]
            start += count
        np.savez(folder / f"{name}.npz", **parts)


class Place:
    """An empty folder with three packs, the environment, and what was started in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.programs: list[Program] = []

    def start(self, command: list[str], name: str) -> Program:
        program = Program(self.root, name, [sys.executable, "-m", *command])
        self.programs.append(program)
        program.start()
        return program

    def operate(self, *words: str) -> Any:
        command = [sys.executable, "-m", "reefleet", "coordinator", *words]
        done = subprocess.run(
            [*command, "--dir", "fleet", "--json"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def deployed(self) -> Any:
        found = self.operate("deployments")
        return found[-1] if found and found[-1]["state"] == "done" else None


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("REEFLEET_COORDINATOR_LISTEN_ENROLLMENT_PORT", str(a_free_port()))
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    write_packs(tmp_path)
    made = Place(tmp_path)
    yield made
    for program in made.programs:
        program.kill()


def test_five_commands_make_a_fleet_that_takes_a_deployment_and_goes_back(place: Place) -> None:
    install, init, serve, *devices = commands()
    assert len(commands()) == 5
    assert install == ["pip", "install", "reefleet[all]"]  # done: this is its environment
    subprocess.run([sys.executable, "-m", *init], check=True, env=dict(os.environ))
    place.start(serve, "coordinator")
    clients = [place.start(command, f"device-{i}") for i, command in enumerate(devices)]
    for client in clients:
        client.wait_for("personal model reported")
    status = place.operate("status")
    assert (status["devices"]["enrolled"], status["devices"]["failed"]) == (2, 0)
    assert {device["doing"] for device in place.operate("devices")} == {"done"}
    assert {plan["plan"]["exit_depth"] for plan in place.operate("plan")} <= {1, 2, 4, 6}

    begun = place.operate("deploy", "0", "--canary", "50%")
    assert (begun["version"], begun["state"], begun["devices"]) == (0, "canary", 1)
    done = until(place.deployed, "the deployment")
    assert (done["devices"], done["installed"]) == (2, 2)
    assert place.operate("rollback")["version"] == 1
    back = until(place.deployed, "the way back")
    assert (back["is_rollback"], back["restored"], back["devices"]) == (True, 2, 2)

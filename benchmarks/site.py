"""A coordinator as a real process with clients that do not train, for benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from coordinator.clock import Clock
from coordinator.config import read_config
from coordinator.folder import create
from coordinator.registry import new_token
from coordinator.state import state_address
from coordinator.store import Store
from edge_client.enrollment import Request, enroll
from reefleet.model import ModelContract, ModelSpec, Preprocessing, tensor_shapes

ROOT = Path(__file__).parents[1]
# Bundles are of no use to clients that run no graph: the stand-in writes small ones without torch.
SERVE = (sys.executable, str(ROOT / "tests" / "integration" / "serve_without_torch.py"))
BOARD = "jetson-orin-nano"
SETTINGS = """\
fleet = "barn"
[listen]
host = "127.0.0.1"
fleet_port = 0
enrollment_port = 0
[rounds]
total = {total}
min_devices = {devices}
quorum = 1.0
poll_ms = 100
{rounds}
[storage]
keep_versions = 2
collect_every_s = 5.0
grace_s = 60.0
[budget]
max_models = 1
[model]
checkpoint = "{start}"
"""
START = "start.safetensors"


class Place:
    """A coordinator's folder, its process, and the folders of its clients."""

    def __init__(
        self, root: Path, spec: ModelSpec, devices: int, total: int, rounds: str = ""
    ) -> None:
        self.root = root
        root.mkdir(parents=True)
        described = root / "contract.json"
        preprocessing = Preprocessing(spec.image_size, spec.channels, 0.5, 0.25)
        labels = tuple(map(str, range(spec.classes)))
        described.write_text(json.dumps(ModelContract(spec, preprocessing, labels).to_json()))
        self.folder = create(root / "coordinator", "barn", described, None)
        save_file(_noise(spec), self.folder.root / START)
        text = SETTINGS.format(total=total, devices=devices, rounds=rounds, start=START)
        self.folder.config.write_text(text)
        self.log = root / "coordinator.log"
        self.serve()

    def serve(self) -> None:
        """Start the coordinator; returns when it listens."""
        self._log: IO[bytes] = self.log.open("ab")
        command = [*SERVE, "coordinator", "serve", str(self.folder.root)]
        self.process = start(command, self._log)
        line = self.process.stdout.readline() if self.process.stdout else b""
        self.ports: dict[str, Any] = json.loads(line)

    def enroll(self, name: str) -> Path:
        """Let a device in; the folder with its identity."""
        with self.store() as store:
            token = new_token(store, name, 600.0, Clock())
        server = f"127.0.0.1:{self.ports['enrollment_port']}"
        enroll(Request(server, self.folder.ca_cert.read_bytes(), token, BOARD), self.root / name)
        return self.root / name

    @contextmanager
    def store(self) -> Iterator[Store]:
        """A look into the state."""
        opened = Store(state_address(self.folder, read_config(self.folder.root)))
        try:
            yield opened
        finally:
            opened.close()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log records of this event."""
        lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = (json.loads(line) for line in lines if line.endswith("\n") and line[0] == "{")
        return [entry for entry in whole if entry.get("event") == name]

    def close(self) -> None:
        """Stop the coordinator."""
        self.process.terminate()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self._log.close()


def _noise(spec: ModelSpec) -> dict[str, NDArray[np.float32]]:
    """Weights none of which is zero: those would be compressed, and no trained ones are."""
    rng = np.random.default_rng(0)
    shapes = tensor_shapes(spec).items()
    return {name: 0.02 * rng.standard_normal(shape, np.float32) for name, shape in shapes}


def start(command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a process of this checkout."""
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd=ROOT
    )

"""Builders for the coordinator's tests: a tiny model, a clock to turn, a fleet in one folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coordinator import records as r
from coordinator.buffered import rounds_for
from coordinator.clock import Clock
from coordinator.config import Eligibility, RoundPolicy, UpdatePolicy
from coordinator.gate import Gate
from coordinator.presence import Presence
from coordinator.pretraining import publish
from coordinator.store import Store
from coordinator.updates import Updates
from coordinator.versions import Versions
from reefleet.blobs import BlobStore, sha256_hex
from reefleet.model import ModelContract, ModelSpec, Preprocessing, tensor_shapes
from reefleet.plan import SubmodelPlan
from reefleet.rpc.limits import CHUNK_BYTES
from reefleet.wire.checkpoint import initial
from reefleet.wire.codecs import encode_update

SPEC = ModelSpec(
    image_size=4,
    patch_size=2,
    channels=1,
    width=8,
    heads=2,
    depth=2,
    classes=3,
    exits=(1, 2),
    ree_heads=2,
    ree_width=4,
)
CONTRACT = ModelContract(SPEC, Preprocessing(4, 1, 0.5, 0.5), ("a", "b", "c"))
COMPILER = (sys.executable, str(Path(__file__).parent / "stand_in_compiler.py"))


@dataclass
class TurnedClock:
    """A clock that moves when told."""

    now: float = 1_000_000.0
    ticks: float = 50.0

    def pass_s(self, seconds: float) -> None:
        self.now += seconds
        self.ticks += seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.ticks)


def a_plan(depth: int = 2, codec: str = "float32") -> SubmodelPlan:
    return SubmodelPlan(depth, 8, 4, 1, 1, codec, ("chosen for a test",))


def a_delta(depth: int, seed: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    shapes = tensor_shapes(SPEC, depth)
    return {name: rng.normal(0, 0.01, s).astype(np.float32) for name, s in shapes.items()}


@dataclass
class Run:
    """A run without network: the store and the rooms around it, opened again by `restart`."""

    root: Path
    policy: RoundPolicy
    time: TurnedClock = field(default_factory=TurnedClock)
    eligibility: Eligibility = field(default_factory=Eligibility)

    def __post_init__(self) -> None:
        self.restart()
        publish(self.versions, initial(SPEC, 0), self.time.now)

    def restart(self) -> None:
        if hasattr(self, "store"):
            self.presence.write()  # as the scheduler does every half minute
            self.store.close()
        clock = self.time.clock()
        self.store = Store(self.root / "state.db")
        self.blobs = BlobStore(self.root / "blobs")
        self.versions = Versions(self.store, self.blobs, SPEC)
        self.presence = Presence(self.store, clock, self.policy.presence_s)
        self.gate = Gate(self.presence, clock, self.eligibility)
        self.rounds = rounds_for(self.store, self.versions, self.policy, self.gate, clock)
        self.updates = Updates(self.store, self.versions, UpdatePolicy(), clock, self.policy)

    def add_device(self, device_id: str, plan: SubmodelPlan | None = None) -> None:
        """Enroll a device and give it a plan with a compiled bundle."""
        plan = plan or a_plan()
        token = r.Token(sha256_hex(device_id.encode()), device_id, self.time.now + 1)
        self.store.add_token(token)
        device = r.Device(device_id, "1", sha256_hex(device_id.encode()), self.time.now)
        self.store.enroll(device, r.Enrollment(token.sha256, "", device_id, b"", self.time.now))
        manifest = f"manifest of {plan.exit_depth} {plan.codec}".encode()
        file = f"graph of {plan.exit_depth}".encode()
        key = sha256_hex(manifest + b"key")
        artifact = r.Artifact(self.blobs.put(manifest), len(manifest))
        files = (r.Artifact(self.blobs.put(file), len(file)),)
        self.store.add_bundle(r.Bundle(key, artifact, b"signature", files))
        self.store.set_plan(device_id, {"board": "test"}, plan, "test", key)
        self.presence.note(device_id)

    def work(self, device_id: str) -> r.Assignment:
        found = self.rounds.next_task(device_id)
        assert isinstance(found, r.Assignment)
        return found

    def upload(self, work: r.Assignment, data: bytes) -> r.Artifact:
        """Send all chunks of an update, without committing it."""
        announced = r.Artifact(sha256_hex(data), len(data))
        offset = self.updates.open(work.device_id, work.lease, announced)
        while offset < len(data):
            chunk = data[offset : offset + CHUNK_BYTES]
            offset = self.updates.put(work.device_id, work.lease, announced.sha256, offset, chunk)
        return announced

    def coded(self, work: r.Assignment, seed: int) -> bytes:
        """A pseudo-random update of the sub-model, as it travels."""
        return encode_update(a_delta(work.plan.exit_depth, seed), work.plan.codec, {})[0]

    def push(self, device_id: str, seed: int = 0, samples: int = 10) -> bool:
        """Do the device's work: a pseudo-random update of its sub-model."""
        work = self.work(device_id)
        data = self.coded(work, seed)
        announced = self.upload(work, data)
        return self.updates.commit(device_id, work.lease, announced, samples, {"loss": 1.0})


@pytest.fixture
def a_run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Make a run with devices of the given depths, named a, b, c..."""
    made: list[Run] = []

    def build(*depths: int, **policy: Any) -> Run:
        settings = {"min_devices": len(depths), "quorum": 1.0, "total": 2, **policy}
        run = Run(tmp_path, RoundPolicy(**settings))
        made.append(run)
        for name, depth in zip("abcdefgh", depths, strict=False):
            run.add_device(name, a_plan(depth))
        return run

    yield build
    for run in made:
        run.store.close()


@pytest.fixture
def contract_file(tmp_path: Path) -> Path:
    """The tiny model's contract on disk."""
    path = tmp_path / "a-contract.json"
    path.write_text(json.dumps(CONTRACT.to_json()))
    return path


@pytest.fixture
def contract() -> ModelContract:
    """The tiny model's contract."""
    return CONTRACT


@pytest.fixture
def compiler() -> tuple[str, ...]:
    """Command of the stand-in compiler."""
    return COMPILER


@pytest.fixture
def turned_clock() -> TurnedClock:
    """A clock that moves when told."""
    return TurnedClock()


@pytest.fixture
def delta() -> Callable[[int, int], dict[str, NDArray[np.float32]]]:
    """A pseudo-random update by depth and seed."""
    return a_delta

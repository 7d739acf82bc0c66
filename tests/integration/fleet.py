"""A fleet on loopback: a coordinator process in a folder, its store, its devices."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coordinator.clock import Clock
from coordinator.config import read_config
from coordinator.folder import Folder, create
from coordinator.records import Artifact, Update
from coordinator.registry import new_token
from coordinator.state import state_address
from coordinator.store import Store
from edge_client.enrollment import FACTS_FILE, FOLDER, Enrollment, Request, enroll, load
from reefleet.aggregation.mean import HolderMean
from reefleet.blobs import BlobStore, sha256_hex, write_atomic
from reefleet.model import ModelContract, ModelSpec, Preprocessing, tensor_shapes
from reefleet.rpc.operator import operator_line
from reefleet.wire.codecs import decode_update
from reefleet.wire.tensors import Float32Tensor, pack_tensors
from tests.integration.running import REEFLEET, Program, until

SMALL = ModelSpec(
    image_size=4,
    patch_size=2,
    channels=1,
    width=16,
    heads=2,
    depth=2,
    classes=3,
    exits=(1, 2),
    ree_heads=2,
    ree_width=4,
)
# Wide enough that weights and updates take more than one chunk.
WIDE = replace(SMALL, width=192, ree_width=8)
DEEP_BOARD, SHALLOW_BOARD = "jetson-orin-nano", "rpi-zero2w"
TOKEN_S = 600.0

SETTINGS = """\
fleet = "barn"
database = {database}
[listen]
host = "127.0.0.1"
fleet_port = 0
enrollment_port = 0
[rounds]
total = {total}
min_devices = {devices}
quorum = 1.0
poll_ms = 20
[compile]
cache_dir = {cache}
[budget]
batch_sizes = [8]
{budget}
"""
CLIENT_SETTINGS = """\
[retry]
base_s = 0.05
ceiling_s = 0.3
[calibration]
measured_images = 8
"""


def a_contract(spec: ModelSpec) -> ModelContract:
    """The contract of one of the two models."""
    return ModelContract(spec, Preprocessing(4, 1, 0.5, 0.25), ("a", "b", "c"))


@dataclass(frozen=True)
class Rules:
    """What the coordinator of a site is set to."""

    devices: int = 1
    total: int = 1
    budget: str = ""
    database: str = ""  # a URL; empty: a file
    folder: Path | None = None  # of the coordinator, where it is not beside its devices
    serve: tuple[str, ...] = REEFLEET  # the program whose `coordinator serve` is run


class Site:
    """One fleet in a folder; the coordinator can be killed and started at will."""

    def __init__(self, root: Path, contract: ModelContract, cache: Path, rules: Rules) -> None:
        root.mkdir(parents=True)
        self.root = root
        self.contract = contract
        self.programs: list[Program] = []
        described = root / "contract.json"
        described.write_text(json.dumps(contract.to_json()))
        place = rules.folder or root / "coordinator"
        self.folder: Folder = create(place, "barn", described, None)
        cache_dir = json.dumps(str(cache))
        settings = {"total": rules.total, "devices": rules.devices}
        settings["database"] = json.dumps(rules.database)
        text = SETTINGS.format(cache=cache_dir, budget=rules.budget, **settings)
        self.folder.config.write_text(text)
        serve = (*rules.serve, "coordinator", "serve", str(self.folder.root))
        self.coordinator = self._program("coordinator", serve)
        self.blobs = BlobStore(self.folder.blobs)
        self.fleet_port = self.enrollment_port = 0

    def start(self) -> None:
        """Start the coordinator; returns when it listens."""
        starts = len(self.coordinator.told()) if self.coordinator.output.exists() else 0
        self.coordinator.start()

        def listening() -> dict[str, Any] | None:
            assert self.coordinator.code is None, self.coordinator.log.read_text()
            told = self.coordinator.told()[starts:]
            return told[0] if told else None

        ports = until(listening, "listening")
        assert ports is not None
        self.fleet_port, self.enrollment_port = ports["fleet_port"], ports["enrollment_port"]

    def ask(self, method: str, request: Any) -> Any:
        """The coordinator's answer to its operator."""
        with operator_line(self.folder.root, "") as line:
            return line.ask(method, request)

    def close(self) -> None:
        """Kill everything that was started here."""
        for program in self.programs:
            program.kill()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """A look into the state, from outside; closed again, so that a restart finds it alone."""
        opened = Store(state_address(self.folder, read_config(self.folder.root)))
        try:
            yield opened
        finally:
            opened.close()

    def updates(self, number: int | None = None) -> list[Update]:
        """The durable updates of a round, or of all."""
        with self.store() as store:
            return store.updates(number)

    def version(self, number: int) -> Artifact | None:
        """The blob of a published version."""
        with self.store() as store:
            found = store.version(number)
        return found.artifact if found else None

    def wait_for_version(self, number: int) -> Artifact:
        """The blob of a version, as soon as it is published."""
        found = until(lambda: self.version(number), f"version {number}")
        assert found is not None
        return found

    def latest(self) -> int:
        """Number of the newest version; -1 before the first."""
        with self.store() as store:
            found = store.latest_version()
        return found.number if found else -1

    def has_opened(self, number: int) -> bool:
        """Whether round `number` is open or over; there is no round 0 to wait for."""
        with self.store() as store:
            return number == 0 or number in {found.number for found in store.rounds()}

    def token(self, name: str, ttl_s: float = TOKEN_S) -> str:
        """A token for one device, made as `reefleet coordinator token` makes it."""
        with self.store() as store:
            return new_token(store, name, ttl_s, Clock())

    def enroll(self, name: str, board: str = DEEP_BOARD, port: int = 0) -> Enrollment:
        """Make `name` a device with its folder; it calls `port` where one is given."""
        server = f"127.0.0.1:{self.enrollment_port}"
        state = self.state_of(name)
        request = Request(server, self.folder.ca_cert.read_bytes(), self.token(name), board)
        enrolled = enroll(request, state)
        if port:
            enrolled = replace(enrolled, address=f"127.0.0.1:{port}")
            facts = json.loads((state / FOLDER / FACTS_FILE).read_text())
            facts["address"] = enrolled.address
            write_atomic(state / FOLDER / FACTS_FILE, json.dumps(facts).encode())
        return enrolled

    def enrollment(self, name: str) -> Enrollment:
        """Who a device is."""
        return load(self.state_of(name))

    def state_of(self, name: str) -> Path:
        """Where a device keeps its state."""
        return self.root / name

    def device_blobs(self, name: str) -> BlobStore:
        """What a device has downloaded."""
        return BlobStore(self.state_of(name) / "blobs")

    def client(self, name: str, port: int = 0) -> Program:
        """An enrolled device with data, ready to be started as a process."""
        self.enroll(name, port=port)
        return self.trained_by(name, REEFLEET)

    def trained_by(self, name: str, program: Sequence[str]) -> Program:
        """A device that is enrolled already, with data, ready to be started."""
        state, data = self.state_of(name), self.root / f"{name}.npz"
        (state / "edge.toml").write_text(CLIENT_SETTINGS)
        np.savez(data, **some_data(self.contract.spec, seed=len(self.programs)))
        places = ("--state", str(state), "--data", str(data))
        return self._program(name, (*program, "edge", "run", *places, "--until-finished"))

    def recomputed(self, number: int) -> str:
        """Digest of the version that round `number` must give: the mean over its stored updates."""
        spec = self.contract.spec
        with self.store() as store:
            found = next(entry for entry in store.rounds() if entry.number == number)
            base, updates = store.version(found.base_version), store.updates(number)
        assert base is not None
        model = decode_update(self.blobs.read(base.artifact.sha256), tensor_shapes(spec))
        rule = HolderMean()
        state = rule.init(model)
        for update in updates:
            shapes = tensor_shapes(spec, update.depth)
            delta = decode_update(self.blobs.read(update.artifact.sha256), shapes)
            state = rule.fold(state, delta, float(update.samples))
        return sha256_hex(packed(rule.finish(state, model)))

    def _program(self, name: str, command: Sequence[str]) -> Program:
        self.programs.append(Program(self.root, name, command))
        return self.programs[-1]


def packed(tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Tensors as they travel, float32."""
    return pack_tensors({name: Float32Tensor(value) for name, value in tensors.items()})


def some_data(spec: ModelSpec, seed: int) -> dict[str, Any]:
    """A device's pack: as many classes as a bright column can tell apart."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for name, count in (("train", 24), ("validation", 16), ("test", 16)):
        labels = rng.integers(0, spec.classes, count)
        images = rng.integers(0, 60, (count, 1, 4, 4), dtype=np.uint8)
        images[np.arange(count), 0, :, labels] += 150
        arrays |= {f"{name}_images": images, f"{name}_labels": labels}
    return arrays

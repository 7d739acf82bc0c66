"""A task bundle on the device: fetched by digest, its signature checked before it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_client import tensorfile
from edge_client.evaluation import Predictor
from edge_client.geometry import require_agreement
from edge_client.program import ResidentProgram
from edge_client.task import Artifact, Task
from edge_client.transfer import Source, download
from reefleet.blobs import BlobStore
from reefleet.errors import TensorMismatch, WireError
from reefleet.model import parameter_count, tensor_shapes
from reefleet.plan import UPLOAD_CODECS, SubmodelPlan
from reefleet.rpc import identity
from reefleet.wire.codecs import decode_update
from reefleet.wire.layout import MAX_HEADER_BYTES
from reefleet.wire.manifest import FROZEN, TaskBundle
from reefleet.wire.manifest_json import MAX_MANIFEST_BYTES, task_from_bytes

INIT_FILE = "init.safetensors"
MAX_PREDICT_ROWS = 4096
DIGEST_CHARS = 64


@dataclass(frozen=True, slots=True)
class Supply:
    """How a client gets files: from where, into which store, under which bound and key."""

    source: Source
    store: BlobStore
    manifest_key: bytes
    max_file_bytes: int
    check: Callable[[], None]

    def fetch(self, artifact: Artifact, max_bytes: int | None = None) -> None:
        """Bring one file into the store."""
        bound = self.max_file_bytes if max_bytes is None else min(max_bytes, self.max_file_bytes)
        download(self.source, self.store, artifact, bound, self.check)


class Bundle:
    """The bundle in use: its manifest, its files, and the sessions that are open over them."""

    def __init__(self, digest: str, manifest: TaskBundle, store: BlobStore) -> None:
        """Hold a checked manifest; graphs are opened when they are first needed."""
        self.digest = digest
        self.manifest = manifest
        self._store = store
        self._resident: tuple[str, ResidentProgram] | None = None
        self._predictor: Predictor | None = None

    def read(self, name: str) -> bytes:
        """Bytes of a file of the bundle, checked against its digest as they are read."""
        return self._store.read(self.manifest.files[name].sha256)

    def initial(self) -> dict[str, NDArray[np.float32]]:
        """First values that the bundle brings along; empty where it brings none."""
        if INIT_FILE not in self.manifest.files:
            return {}
        return tensorfile.parse(self.read(INIT_FILE), INIT_FILE)

    def program(self, name: str, threads: int, max_state_bytes: int) -> ResidentProgram:
        """The named program, resident until another is asked for; raises WireError."""
        if self._resident and self._resident[0] == name:
            return self._resident[1]
        self._resident = None  # two resident programs would hold two sets of state
        program = self.manifest.programs[name]
        resident = ResidentProgram(program, self.read(program.file), threads, max_state_bytes)
        self._resident = (name, resident)
        return resident

    def predictor(self, threads: int) -> Predictor:
        """The batch graph, resident."""
        if self._predictor is None:
            predict = self.manifest.predict
            model, plan = self.manifest.model, self.manifest.plan
            self._predictor = Predictor(
                self.read(predict.file), predict, model, plan.exit_depth, threads
            )
        return self._predictor

    def release(self) -> None:
        """Close all sessions, so that their memory is free for what comes next."""
        self._resident = None
        self._predictor = None

    def weights(self, artifact: Artifact) -> dict[str, NDArray[np.float32]]:
        """Downloaded shared weights of this sub-model; raises WireError where they do not fit."""
        model, depth = self.manifest.model, self.manifest.plan.exit_depth
        return decode_update(self._store.read(artifact.sha256), tensor_shapes(model, depth))

    def max_weights_bytes(self) -> int:
        """Most bytes that the packed weights of this sub-model can take."""
        depth = self.manifest.plan.exit_depth
        return 5 * parameter_count(self.manifest.model, depth) + MAX_HEADER_BYTES


def obtain(supply: Supply, task: Task) -> Bundle:
    """Fetch and check the task's bundle; nothing of it is parsed or loaded before it is trusted.

    Raises ChecksumMismatch (digest or signature), UnsupportedVersion, PayloadTooLarge, WireError.
    """
    supply.fetch(task.manifest, MAX_MANIFEST_BYTES)
    data = supply.store.read(task.manifest.sha256)
    identity.verify(supply.manifest_key, data, task.signature)
    manifest = task_from_bytes(data)
    require_agreement(manifest)
    _require_complete(manifest, task)
    for entry in manifest.files.values():
        supply.fetch(Artifact(entry.sha256, entry.size_bytes))
    return Bundle(task.manifest.sha256, manifest, supply.store)


def keep_only(store: BlobStore, wanted: Iterable[str]) -> None:
    """Remove blobs that no longer serve: a card fills up with the weights of past rounds."""
    kept = set(wanted)
    for path in store.root.glob("[0-9a-f][0-9a-f]/*"):
        if path.name not in kept and len(path.name) == DIGEST_CHARS:
            store.delete(path.name)


def _require_complete(manifest: TaskBundle, task: Task) -> None:
    if _compiled(manifest.plan) != _compiled(task.plan):
        msg = "the manifest was made for another plan than the task names"
        raise WireError(msg)
    if task.program not in manifest.programs:
        msg = f"the manifest has no program {task.program!r}"
        raise WireError(msg)
    if not 1 <= manifest.predict.batch <= MAX_PREDICT_ROWS:
        msg = f"the manifest's predict batch is {manifest.predict.batch}"
        raise WireError(msg)
    _require_shared(manifest)


def _compiled(plan: SubmodelPlan) -> SubmodelPlan:
    """What of a plan the graphs depend on."""
    return replace(plan, why=(), local_steps=0, codec=UPLOAD_CODECS[0])


def _require_shared(manifest: TaskBundle) -> None:
    shapes = tensor_shapes(manifest.model, manifest.plan.exit_depth)
    if unknown := sorted(set(manifest.predict.weights) - set(shapes)):
        msg = f"the predict graph wants {unknown[0]!r}, which is no tensor of the sub-model"
        raise TensorMismatch(msg)
    for program in manifest.programs.values():
        for item in program.state:
            plain = item.name.partition("/")[2]
            if item.role in {"shared", "personal", FROZEN} and shapes.get(plain) != item.shape:
                msg = f"state {item.name!r} {item.shape} is no tensor of the sub-model"
                raise TensorMismatch(msg)

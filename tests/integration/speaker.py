"""A device that speaks the protocol as the client does and computes nothing."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from devices import catalog
from edge_client.config import Deadlines
from edge_client.enrollment import Enrollment
from edge_client.session import Patience, Session
from edge_client.task import Artifact, Task, Wait
from edge_client.transfer import in_memory, upload
from reefleet.blobs import sha256_hex
from reefleet.model import ModelSpec, tensor_shapes
from reefleet.report import DeviceMetrics
from reefleet.retry import Retry
from reefleet.wire.codecs import encode_update
from tests.integration.running import until

CALL_S = 20.0
SAMPLES = 24


def artifact_of(data: bytes) -> Artifact:
    """How an upload of these bytes is announced."""
    return Artifact(sha256_hex(data), len(data))


class Device:
    """An enrolled device; every failed call is raised at once, nothing is tried again."""

    def __init__(self, enrolled: Enrollment, spec: ModelSpec) -> None:
        self.enrolled = enrolled
        self.spec = spec
        self.session = self._session()

    def connect(self, port: int = 0) -> None:
        """Call anew, at another port where one is given."""
        self.session.close()
        if port:
            self.enrolled = replace(self.enrolled, address=f"127.0.0.1:{port}")
        self.session = self._session()

    def report(self) -> None:
        """Say which board this is."""
        profile = catalog.reference_profile(self.enrolled.board, train_samples=SAMPLES)
        self.session.report_profile(profile)

    def task(self) -> Task:
        """The next task, waited for as a client does."""

        def asked() -> Task | None:
            answer = self.session.next_task()
            assert isinstance(answer, Task | Wait)
            return answer if isinstance(answer, Task) else None

        found = until(asked, f"a task for {self.enrolled.device_id}")
        assert found is not None
        return found

    def delta(self, task: Task) -> dict[str, NDArray[np.float32]]:
        """A pseudo-random update; the same for the same device, round and depth."""
        seed = [*self.enrolled.device_id.encode(), task.round]
        rng = np.random.default_rng(seed)
        shapes = tensor_shapes(self.spec, task.plan.exit_depth)
        return {name: rng.normal(0, 0.01, s).astype(np.float32) for name, s in shapes.items()}

    def coded(self, task: Task) -> bytes:
        """That update as it travels."""
        return encode_update(self.delta(task), task.plan.codec, {})[0]

    def send(self, task: Task, data: bytes) -> Artifact:
        """Upload bytes without committing them."""
        artifact = artifact_of(data)
        upload(self.session, task.lease, artifact, in_memory(data))
        return artifact

    def put(self, lease: str, update: Artifact, offset: int, data: bytes) -> int:
        """Send these bytes in one message, whatever follows; the offset held then."""
        return self.session.put_update(lease, update, offset, lambda _: iter([data]))

    def commit(self, task: Task, artifact: Artifact) -> bool:
        """Commit what was sent; True where it was durable before."""
        return self.session.commit_update(task.lease, artifact, SAMPLES, DeviceMetrics(loss=0.5))

    def push(self, task: Task, data: bytes | None = None) -> bool:
        """Do the whole task."""
        return self.commit(task, self.send(task, self.coded(task) if data is None else data))

    def _session(self) -> Session:
        patience = Patience(
            Retry(total_s=0.0), lambda _: None, ends_on_refusal=True, rng=random.Random(0)
        )
        enrolled = self.enrolled
        return Session(enrolled.address, enrolled.identity, Deadlines(call_s=CALL_S), patience)

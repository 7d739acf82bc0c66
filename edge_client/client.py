"""What every piece of work on a device has at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from devices.profile import DeviceProfile
from edge_client.attempt import Attempts
from edge_client.config import EdgeConfig
from edge_client.data import OwnData
from edge_client.outbox import Outbox
from edge_client.task import Artifact, Next, Task
from edge_client.transfer import OWNER, Sink, Source
from reefleet.blobs import BlobStore
from reefleet.report import DeviceMetrics, EarlyExitReport

if TYPE_CHECKING:  # numpy comes with them; imported where work begins
    from edge_client.bundle import Bundle, Supply
    from edge_client.personal import PersonalStore

_MIB = 1 << 20


class Coordinator(Source, Sink, Protocol):
    """The calls that work makes; `session.Session` in life, a stand-in in tests."""

    bytes_down: int
    bytes_up: int

    def report_profile(self, profile: DeviceProfile) -> None:
        """Say what this board is."""

    def next_task(self) -> Next:
        """What to do now."""

    def commit_update(
        self, lease: str, update: Artifact, samples: int, metrics: DeviceMetrics
    ) -> bool:
        """Have the whole update stored durably."""

    def report_personal(
        self, lease: str, metrics: DeviceMetrics, early_exit: EarlyExitReport
    ) -> None:
        """Report the figures of the personal model."""

    def abandon(self, lease: str, cause: str) -> None:
        """Give up work that this board cannot do, for want of `attempt.MEMORY` or in a CRASH."""

    def report_deployment(
        self, lease: str, outcome: str, found: EarlyExitReport, accuracy_before: float | None
    ) -> None:
        """Report what became of a deployment."""


@dataclass(slots=True)
class Client:
    """One device's configuration, data, stores and connection, and the bundle in use."""

    config: EdgeConfig
    device_id: str
    manifest_key: bytes
    data: OwnData
    coordinator: Coordinator
    check: Callable[[], None]
    bundle: Bundle | None = None

    @property
    def blobs(self) -> BlobStore:
        """Downloaded files by digest."""
        return BlobStore(self.config.state / "blobs")

    @property
    def personal(self) -> PersonalStore:
        """State that stays on the device."""
        from edge_client.personal import PersonalStore

        return PersonalStore(self.config.state / "personal")

    @property
    def outbox(self) -> Outbox:
        """Work that is not acknowledged yet."""
        return Outbox(self.config.state / "outbox")

    @property
    def attempts(self) -> Attempts:
        """What the client is at, for its next life to read."""
        return Attempts(self.config.state)

    @property
    def submodel(self) -> Path:
        """The bundle this device answers from."""
        return self.config.state / "submodel"

    @property
    def max_state_bytes(self) -> int:
        """Most memory that a program's state may take."""
        return self.config.bounds.state_mib * _MIB

    @property
    def supply(self) -> Supply:
        """How files are fetched."""
        from edge_client.bundle import Supply

        return Supply(
            self.coordinator,
            self.blobs,
            self.manifest_key,
            self.config.bounds.file_mib * _MIB,
            self.check,
        )

    def prepare(self, task: Task) -> Bundle:
        """The task's bundle and weights, checked and on disk; the bundle stays resident."""
        from edge_client.bundle import obtain

        if self.bundle is None or self.bundle.digest != task.manifest.sha256:
            if self.bundle is not None:
                self.bundle.release()
            self.bundle = obtain(self.supply, task)
        self.data.require(self.bundle.manifest.model)
        self.supply.fetch(task.weights, self.bundle.max_weights_bytes())
        return self.bundle

    def tidy(self, bundle: Bundle) -> None:
        """Forget files of other bundles and weights of rounds that are over."""
        from edge_client.bundle import keep_only

        files = (entry.sha256 for entry in bundle.manifest.files.values())
        keep_only(self.blobs, (bundle.digest, *files))
        self.blobs.drop_partials(OWNER)

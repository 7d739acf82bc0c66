"""What each page shows, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator import records as r
from coordinator.pulse import Told
from coordinator.store.overview import Counts, RoundCounts, WorkDone
from coordinator.store.pages import Search


@dataclass(frozen=True, slots=True)
class Head:
    """What every page begins with."""

    fleet: str
    phase: str
    trouble: str
    paused: bool
    version: int | None
    rounds_total: int
    rounds_closed: int
    min_devices: int
    counts: Counts
    online: int | None  # by the broker; None without one
    at: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What devices reported in a round, as means; None where nobody did."""

    accuracy: float | None = None
    accuracy_span: tuple[float, float] | None = None
    train_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RoundView:
    """One round and what it has come to."""

    number: int
    state: str
    reason: str
    base_version: int
    result_version: int | None
    opened_at: float
    deadline_at: float
    closed_at: float | None
    needed: int
    counts: RoundCounts
    figures: Figures

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return None if self.closed_at is None else self.closed_at - self.opened_at


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device of a list. `health` is a word, `signs` says what it rests on."""

    device_id: str
    board: str
    doing: str
    health: str
    signs: tuple[str, ...]
    depth: int | None
    bits: int | None
    codec: str
    models: int | None
    failure: str
    enrolled_at: float
    last_seen_at: float | None
    is_present: bool


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """A version on its way to devices, and how far it is."""

    record: r.Deployment
    counts: r.DeploymentCounts


@dataclass(frozen=True, slots=True)
class Overview:
    """The first page: what is on, and how it went so far."""

    head: Head
    rounds: tuple[RoundView, ...]  # oldest first
    current: RoundView | None
    work: dict[str, int]  # devices of the current round by state
    working: tuple[str, ...]
    refusals: tuple[r.Refusal, ...]
    deployment: DeploymentView | None  # the one under way


@dataclass(frozen=True, slots=True)
class DeviceList:
    """One page of devices."""

    head: Head
    asked: Search
    devices: tuple[DeviceView, ...]
    found: int
    page: int
    pages: int


@dataclass(frozen=True, slots=True)
class DevicePage:
    """Everything about one device."""

    head: Head
    device: DeviceView
    barrier: str
    record: r.Device
    work: tuple[WorkDone, ...]
    refusals: tuple[r.Refusal, ...]
    report: r.PersonalReport | None
    told: Told | None


@dataclass(frozen=True, slots=True)
class RoundPage:
    """One round and a page of its work; `next_after` is '' on the last page."""

    head: Head
    round: RoundView
    work: tuple[WorkDone, ...]
    next_after: str

"""Settings of rounds: when they open and close, whom they invite, how updates become a model."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal

from reefleet.aggregation.clipping import Clipping
from reefleet.aggregation.optimizers import ServerOptimizer
from reefleet.errors import ConfigError
from reefleet.plan import CLIP, SubmodelPlan
from reefleet.settings import within
from reefleet.wire.codecs import agreed

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")

COLDEST_C, HOTTEST_C = -40, 150


@dataclass(frozen=True, slots=True)
class RoundPolicy:
    """When rounds open and close. `quorum` is the share of the cohort whose updates close a round.

    `cohort` bounds the devices in a round (0: all); `over_selection` invites that share more, and
    the round still closes at the quorum of `cohort`. Only devices that called within `presence_s`
    are invited. `poll_ms` is how long an idle device waits before it asks again, longer where all
    idle devices together would ask more than about `idle_calls_per_s` times a second.

    With `mode` "async" there is no cohort: whoever asks gets work, and each `buffer` updates make a
    version. An update s versions behind counts (1 + s) ** -staleness_power of its length, and more
    than `max_staleness` behind not at all. A synchronous round refuses late updates, or folds them
    the same way (`late`).

    `device_clip` has devices shorten their updates to that norm (0: not), where they know how.
    `rule` makes one move of many. `trim` is for "trimmed-mean"; `krum_bad_share` and `krum_keep`
    (0: all that are not assumed bad) for "krum".
    """

    total: int = within(8, 1, 1_000_000)
    min_devices: int = within(2, 1, 1_000_000)
    quorum: float = within(0.8, 0.01, 1.0)
    deadline_s: float = within(600.0, 1.0, 7 * 86400.0)
    poll_ms: int = within(1000, 10, 3_600_000)
    cohort: int = within(0, 0, 1_000_000)
    presence_s: float = within(900.0, 1.0, 7 * 86400.0)
    idle_calls_per_s: float = within(3.0, 0.01, 10_000.0)
    over_selection: float = within(0.0, 0.0, 4.0)
    mode: Literal["sync", "async"] = "sync"
    buffer: int = within(10, 1, 1_000_000)
    late: Literal["refuse", "fold"] = "refuse"
    max_staleness: int = within(10, 0, 10_000)
    staleness_power: float = within(0.5, 0.0, 10.0)
    device_clip: float = within(0.0, 0.0, 1e9)
    rule: Literal["mean", "trimmed-mean", "median", "krum"] = "mean"
    trim: float = within(0.1, 0.0, 0.49)
    krum_bad_share: float = within(0.2, 0.0, 0.49)
    krum_keep: int = within(0, 0, 1_000_000)
    optimizer: ServerOptimizer = field(default_factory=ServerOptimizer)
    clipping: Clipping = field(default_factory=Clipping)

    def __post_init__(self) -> None:
        """Refuse values that contradict each other."""
        if self.over_selection and not self.cohort:
            msg = "rounds.over_selection invites more than rounds.cohort, which is not set"
            raise ConfigError(msg)

    def negotiated(self, plan: SubmodelPlan, codecs: str) -> SubmodelPlan:
        """The plan with the codec that a client can do which knows `codecs`, with commas."""
        wanted = f"{CLIP}:{self.device_clip!r},{plan.codec}" if self.device_clip else plan.codec
        return replace(plan, codec=agreed(wanted, codecs.split(",") if codecs else ()))

    @property
    def takes_late(self) -> bool:
        """Whether an update counts after its round has closed."""
        return self.mode == "async" or self.late == "fold"


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Which devices get work now. What a device does not tell of itself keeps nobody out.

    A device on mains is never held back for its battery. `hours` is a daily window by the
    coordinator's local time, such as "22:00-06:00"; '' is always.
    """

    mains_only: bool = False
    min_battery_percent: int = within(0, 0, 100)
    max_temperature_c: int = within(HOTTEST_C, COLDEST_C, HOTTEST_C)
    unmetered: bool = False
    idle: bool = False
    hours: str = ""

    def __post_init__(self) -> None:
        """Refuse hours that no clock shows."""
        if self.hours and not _HOURS.fullmatch(self.hours):
            msg = f'eligibility.hours is {self.hours!r}; it must be like "22:00-06:00"'
            raise ConfigError(msg)

    @property
    def window(self) -> tuple[int, int] | None:
        """First minute of the day and the one after the last; None for always."""
        if not (found := _HOURS.fullmatch(self.hours)):
            return None
        hour, minute, end_hour, end_minute = map(int, found.groups())
        return 60 * hour + minute, 60 * end_hour + end_minute

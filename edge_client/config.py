"""What a client may be told: where its state and data lie, how patient and how large it may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from reefleet.learning.caution import DEFAULT_MARGIN, DEFAULT_MINIMUM, DEFAULT_TOLERANCE
from reefleet.retry import Retry
from reefleet.rpc.limits import CALL_TIMEOUT_S
from reefleet.settings import within

ENV_PREFIX = "REEFLEET_EDGE_"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds until a call is given up and tried again."""

    call_s: float = within(CALL_TIMEOUT_S, 0.1, 3600.0)
    commit_s: float = within(120.0, 0.1, 3600.0)  # the coordinator decodes the whole update


@dataclass(frozen=True, slots=True)
class Bounds:
    """Sizes above which bytes from the coordinator are refused before memory is taken."""

    file_mib: int = within(512, 1, 2048)
    state_mib: int = within(1024, 1, 16384)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How exit thresholds are chosen, and on how many test images answers are timed."""

    tolerance: float = within(DEFAULT_TOLERANCE, 0.0, 1.0)
    margin: float = within(DEFAULT_MARGIN, 0.0, 10.0)  # standard errors
    least_samples: int = within(DEFAULT_MINIMUM, 1, 1_000_000)
    measured_images: int = within(1000, 1, 1_000_000)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """When a deployed sub-model is refused: its test accuracy is lower by more than `tolerance`.

    One sample more or less is never a reason.
    """

    tolerance: float = within(0.02, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """A client's settings; `edge.toml` in the state folder, REEFLEET_EDGE_ variables, flags."""

    state: Path
    data: Path
    until_finished: bool = False
    threads: int = within(1, 1, 64)
    benchmark_s: float = within(60.0, 0.0, 600.0)  # at the first start on a board; 0: none
    idle_s: float = within(30.0, 0.1, 86400.0)  # before asking again once a run is over
    anew_after_s: float = within(120.0, 0.0, 86400.0)  # idle after work: give all memory back
    failures: int = within(5, 1, 1000)  # in a row, before --until-finished gives up
    deadlines: Deadlines = field(default_factory=Deadlines)
    bounds: Bounds = field(default_factory=Bounds)
    calibration: Calibration = field(default_factory=Calibration)
    self_test: SelfTest = field(default_factory=SelfTest)
    retry: Retry = field(default_factory=lambda: Retry(base_s=0.2, ceiling_s=15.0))

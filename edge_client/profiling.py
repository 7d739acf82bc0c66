"""What the device says of itself: probed, timed, signed, and said again when conditions change."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from devices.probe import probe
from devices.probe_models import VERSION
from devices.profile import DeviceProfile, Timing
from devices.signed import sign
from reefleet.blobs import write_atomic
from reefleet.errors import ConfigError

logger = logging.getLogger(__name__)

FILE = "benchmark.json"
CHECK_EVERY_S = 30.0
# Free memory wavers; less than this share of what was reported is news, and so is that much more.
MEMORY_NEWS = 0.75

Probe = Callable[[], DeviceProfile]
Benchmark = Callable[[int, float, int | None], tuple[Timing, ...]]


def _benchmark(threads: int, total_s: float, memory_mib: int | None) -> tuple[Timing, ...]:
    from edge_client.benchmark import run_benchmark  # numpy comes with it

    return run_benchmark(threads, total_s, memory_mib)


@dataclass(slots=True)
class Profiler:
    """The profile of one device in `state`; `report` sends it, `key` gives what signs it (PEM).

    `benchmark_s` bounds the benchmark, 0 leaves it out. It is run once for each fingerprint (CPU,
    runtimes, threads, clock cap, power mode), and never where a machine stands in for a board.
    """

    state: Path
    board: str
    train_samples: int
    key: Callable[[], bytes]
    threads: int = 1
    benchmark_s: float = 60.0
    report: Callable[[DeviceProfile], None] = lambda _: None
    benchmark: Benchmark = _benchmark
    monotonic: Callable[[], float] = time.monotonic
    _told: DeviceProfile | None = None
    _looked: float = 0.0

    def first(self) -> DeviceProfile:
        """The whole profile, signed; runs the benchmark where none is kept that fits."""
        profile = replace(self._probed(measure_disk=True), threads=self.threads)
        if profile.model or profile.cpu:  # read from this machine, not taken from the catalog
            profile = replace(profile, timings=self._timings(profile))
        self._looked = self.monotonic()
        self._told = sign(profile, self.key())
        return self._told

    def report_if_changed(self) -> None:
        """Look at most every half minute, and report where something matters that did not."""
        now = self.monotonic()
        if self._told is None or now - self._looked < CHECK_EVERY_S:
            return
        self._looked = now
        fresh = self._probed(measure_disk=False)
        if not is_news(self._told, fresh):
            return
        kept = {
            name: getattr(self._told, name)
            for name in ("timings", "threads", "storage_read_mbs", "storage_write_mbs")
        }
        profile = sign(replace(fresh, **kept), self.key())
        self.report(profile)
        logger.info("profile reported again", extra={"conditions": asdict(fresh.conditions)})
        self._told = profile

    def _probed(self, *, measure_disk: bool) -> DeviceProfile:
        return probe(
            self.board,
            storage=self.state,
            train_samples=self.train_samples,
            measure_disk=measure_disk,
        )

    def _timings(self, profile: DeviceProfile) -> tuple[Timing, ...]:
        path, mark = self.state / FILE, fingerprint(profile)
        if kept := _read(path, mark):
            return kept
        if not self.benchmark_s or profile.conditions.throttled:
            return ()
        timings = self.benchmark(self.threads, self.benchmark_s, profile.memory_available_mib)
        if timings:
            values = {"fingerprint": mark, "timings": [asdict(timing) for timing in timings]}
            write_atomic(path, json.dumps(values).encode())
        return timings


def fingerprint(profile: DeviceProfile) -> str:
    """What the benchmark's result depends on, as text."""
    conditions = profile.conditions
    parts: list[Any] = [VERSION, profile.model, profile.cpu, sorted(profile.runtimes.items())]
    return json.dumps([*parts, profile.threads, conditions.clock_mhz, conditions.power_mode])


def is_news(told: DeviceProfile, fresh: DeviceProfile) -> bool:
    """Whether the coordinator should hear of it: power mode, clock, throttling, supply, memory."""

    def weighty(profile: DeviceProfile) -> tuple[object, ...]:
        seen = profile.conditions
        limits = (profile.memory_limit_mib, profile.cpus)
        modes = (seen.power_mode, seen.clock_mhz, seen.throttled, seen.on_mains, seen.metered)
        return (*modes, *limits)

    before, now = told.memory_available_mib or 0, fresh.memory_available_mib or 0
    waned = min(before, now) < MEMORY_NEWS * max(before, now)
    return weighty(told) != weighty(fresh) or waned


def _read(path: Path, mark: str) -> tuple[Timing, ...]:
    try:
        values = json.loads(path.read_bytes())
        if values["fingerprint"] != mark:
            return ()
        return tuple(Timing(**entry) for entry in values["timings"])
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        return ()

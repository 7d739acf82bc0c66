"""What a board says of itself when it enrols. A value that is not known is None, never zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from devices.conditions import Conditions
from reefleet.errors import ConfigError

_COUNTS = (
    "memory_available_mib",
    "cores",
    "storage_free_bytes",
    "train_samples",
    "memory_total_mib",
    "memory_limit_mib",
    "taken_at",
)
_RATES = ("cpus", "network_mbps", "storage_read_mbs", "storage_write_mbs")
_MOST_TIMINGS = 64
WORKS = frozenset({"answer", "float", "train", *(f"train-2-{bits}" for bits in range(1, 9))})


@dataclass(frozen=True, slots=True)
class Timing:
    """What one piece of the benchmark took: one answer, or one training step of `batch` rows.

    `work` is "answer" (int8), "float" (the same answer in float32), "train", or "train-2-B": two
    models, the personal one of B bits. `probe` names the network, `rel_sigma` is the spread of the
    runs, `peak_mib` what the process held at most (None: not measured).
    """

    work: str
    probe: str
    depth: int
    batch: int
    ms: float
    rel_sigma: float
    peak_mib: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that no clock can show."""
        numbers = (self.ms, self.rel_sigma, 0.0 if self.peak_mib is None else self.peak_mib)
        sound = all(math.isfinite(value) and value >= 0 for value in numbers) and self.ms > 0
        if self.work not in WORKS or not sound or min(self.depth, self.batch) < 1:
            msg = f"profile timing {self} is impossible"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """One device's report; mirrors the wire message of the same name.

    `board` is an id of the catalog, or '' where the device does not know. `runtimes` maps a
    runtime's name to its version, `isa` holds features such as 'int8-dotprod' and 'fp16'.
    `memory_limit_mib` and `cpus` are what control groups grant, `taken_at` is epoch seconds,
    `timings` the benchmark, with `threads` threads. `signature` (hexadecimal) is by the key of the
    device's certificate, over everything else; see `devices.signed`.
    """

    board: str
    memory_available_mib: int | None = None
    cores: int | None = None
    storage_free_bytes: int | None = None
    runtimes: Mapping[str, str] = field(default_factory=dict)
    isa: tuple[str, ...] = ()
    train_samples: int | None = None
    model: str = ""
    cpu: str = ""
    system: str = ""
    memory_total_mib: int | None = None
    memory_limit_mib: int | None = None
    cpus: float | None = None
    network_mbps: float | None = None
    wired: bool | None = None
    storage_read_mbs: float | None = None
    storage_write_mbs: float | None = None
    conditions: Conditions = Conditions()  # noqa: RUF009  # frozen
    threads: int = 1
    timings: tuple[Timing, ...] = ()
    taken_at: int | None = None
    signature: str = ""

    def __post_init__(self) -> None:
        """Refuse values that no board can have, naming the field."""
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                msg = f"profile value {name} = {value!r} is not a whole number"
                raise ConfigError(msg)
            if value is not None and value < (name == "cores"):
                msg = f"profile value {name} = {value} is out of range"
                raise ConfigError(msg)
        for name in _RATES:
            rate = getattr(self, name)
            if rate is not None and not (isinstance(rate, int | float) and 0 < rate < math.inf):
                msg = f"profile value {name} = {rate!r} is out of range"
                raise ConfigError(msg)
        if len(self.timings) > _MOST_TIMINGS or self.threads < 1:
            msg = f"profile has {len(self.timings)} timings with {self.threads} threads"
            raise ConfigError(msg)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the store and for `--json`; unknown values are null."""
        return {
            **asdict(self),
            "runtimes": dict(self.runtimes),
            "isa": list(self.isa),
            "timings": [asdict(timing) for timing in self.timings],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DeviceProfile:
        """Read what `to_json` wrote; raises ConfigError naming an unknown or missing key."""
        if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
            msg = f"unknown profile key {unknown[0]!r}"
            raise ConfigError(msg)
        if "board" not in values:
            msg = "profile key 'board' is missing"
            raise ConfigError(msg)
        try:
            runtimes = {str(k): str(v) for k, v in dict(values.get("runtimes") or {}).items()}
            isa = tuple(str(feature) for feature in values.get("isa") or ())
        except (TypeError, ValueError) as error:
            msg = f"profile values runtimes and isa are not a table and a list: {error}"
            raise ConfigError(msg) from error
        try:
            conditions = Conditions(**(values.get("conditions") or {}))
            timings = tuple(Timing(**entry) for entry in values.get("timings") or ())
        except TypeError as error:
            msg = f"profile values conditions and timings are not of their form: {error}"
            raise ConfigError(msg) from error
        told = {**values, "runtimes": runtimes, "isa": isa}
        return cls(**{**told, "conditions": conditions, "timings": timings})

"""What a device reports beside its work: figures only, never data or personal weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from reefleet.errors import WireError


@dataclass(frozen=True, slots=True)
class DeviceMetrics:
    """Figures of one federated round or of the personal model; accuracies run shallow to deep.

    `loss` is the mean training loss over the last local epoch. `shared_accuracy` is that of the
    downloaded sub-model on held-out data; `personal_accuracy` is empty where there is none yet.
    Fewer `steps` than `steps_asked` were taken where time ran out.
    """

    loss: float = 0.0
    shared_accuracy: tuple[float, ...] = ()
    personal_accuracy: tuple[float, ...] = ()
    held_out_samples: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    peak_resident_bytes: int = 0
    train_seconds: float = 0.0
    steps: int = 0
    steps_asked: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values for the store; a figure that is not finite becomes null."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DeviceMetrics:
        """Read what `to_json` wrote; raises WireError naming what is wrong."""
        return _read(cls, values)


@dataclass(frozen=True, slots=True)
class EarlyExitReport:
    """How a device's personal sub-model answers its held-out test data.

    Accuracies are of the quantized stages, with early exit and at full depth; `mean_exit_depth`
    is in blocks; `exit_share[i]` is the share of the answers that left at exit i.
    """

    accuracy: float = 0.0
    full_depth_accuracy: float = 0.0
    mean_exit_depth: float = 0.0
    p50_ms: float = 0.0
    full_depth_p50_ms: float = 0.0
    packed_bytes: int = 0
    thresholds: tuple[float, ...] = ()
    exit_share: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for the store; a figure that is not finite becomes null."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EarlyExitReport:
        """Read what `to_json` wrote; raises WireError naming what is wrong."""
        return _read(cls, values)


_Report = TypeVar("_Report", DeviceMetrics, EarlyExitReport)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [_finite(v) for v in value] if isinstance(value, tuple) else _finite(value)
        for name, value in values.items()
    }


def _finite(value: float) -> float | None:
    # JSON has no NaN, and one diverged loss must not make a whole report unreadable.
    return value if math.isfinite(value) else None


def _read(cls: type[_Report], values: Mapping[str, Any]) -> _Report:
    known = _DEFAULTS[cls.__name__]
    if unknown := sorted(set(values) - set(known)):
        msg = f"unknown key {unknown[0]!r} in {cls.__name__}"
        raise WireError(msg)
    return cls(**{name: _like(name, value, known[name]) for name, value in values.items()})


def _values_of(cls: type[Any]) -> dict[str, Any]:
    return {field.name: field.default for field in fields(cls)}


# Told once: operators read tens of thousands of reports.
_DEFAULTS = {cls.__name__: _values_of(cls) for cls in (DeviceMetrics, EarlyExitReport)}


def _like(name: str, value: object, default: object) -> Any:
    if isinstance(default, tuple):
        if isinstance(value, list | tuple):
            return tuple(_like(name, item, 0.0) for item in value)
    elif isinstance(default, float) and value is None:
        return math.nan
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(default, float):
            return float(value)
        if math.isfinite(value) and value == int(value):
            return int(value)
    msg = f"report value {name} = {value!r} is not a figure"
    raise WireError(msg)

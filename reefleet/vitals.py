"""What a device says of itself over the broker, its topics, and the bounds it is held to."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from reefleet.errors import WireError

ROOT = "reefleet"
PRESENCE, TELEMETRY, WAKE = "presence", "telemetry", "wake"
ONLINE, OFFLINE = b"online", b"offline"
WORK = b"work"  # what a wake-up says
MAX_PAYLOAD_BYTES = 2048
BROKER_NAME = "reefleet-broker"  # in the broker's certificate, whatever its address is
MAX_EXITS = 64
MAX_WORD_CHARS = 24
_DEVICE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_WORD = re.compile(r"[a-z]+")
_RANGES = {
    "temperature_c": (-60.0, 200.0),
    "memory_available_mib": (0, 1 << 24),
    "resident_mib": (0, 1 << 24),
    "loss": (-1e9, 1e9),
    "answer_ms": (0.0, 1e9),
}


@dataclass(frozen=True, slots=True)
class Vitals:
    """One report. `doing` is a word; `exit_share[i]` is the share of answers that left at exit i.

    None and () are unknown. `answer_ms` is the median of the last measured answers.
    """

    doing: str = "idle"
    temperature_c: int | None = None
    throttled: bool | None = None
    memory_available_mib: int | None = None
    resident_mib: int | None = None
    loss: float | None = None
    answer_ms: float | None = None
    exit_share: tuple[float, ...] = ()

    def to_bytes(self) -> bytes:
        """As it travels: JSON without what is unknown."""
        known = {name: value for name, value in asdict(self).items() if _is_known(value)}
        return json.dumps(known, sort_keys=True, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Vitals:
        """Read what `to_bytes` wrote; raises WireError naming what is wrong.

        Names from a newer client are left out.
        """
        if len(data) > MAX_PAYLOAD_BYTES:
            msg = f"telemetry of {len(data)} bytes is over the bound of {MAX_PAYLOAD_BYTES}"
            raise WireError(msg)
        try:
            values = json.loads(data)
        except (ValueError, RecursionError) as error:
            msg = "telemetry is not JSON"
            raise WireError(msg) from error
        if not isinstance(values, dict):
            msg = "telemetry is not a JSON object"
            raise WireError(msg)
        return cls(**{f.name: _checked(f.name, values) for f in fields(cls) if f.name in values})


def topic(device_id: str, kind: str) -> str:
    """Where one kind of message of a device travels."""
    return f"{ROOT}/{device_id}/{kind}"


def parsed(name: str) -> tuple[str, str]:
    """Device and kind of a topic; raises WireError where it is none of ours."""
    root, _, rest = name.partition("/")
    device_id, _, kind = rest.partition("/")
    if root != ROOT or not _DEVICE.fullmatch(device_id) or kind not in {PRESENCE, TELEMETRY, WAKE}:
        msg = f"topic {name[:80]!r} is not one of a device"
        raise WireError(msg)
    return device_id, kind


def _checked(name: str, values: Mapping[str, Any]) -> Any:
    value = values[name]
    if name == "doing":
        if isinstance(value, str) and len(value) <= MAX_WORD_CHARS and _WORD.fullmatch(value):
            return value
    elif name == "throttled":
        if isinstance(value, bool):
            return value
    elif name == "exit_share":
        if isinstance(value, list) and len(value) <= MAX_EXITS and all(map(_is_share, value)):
            return tuple(map(float, value))
    elif _is_number(value) and _RANGES[name][0] <= value <= _RANGES[name][1]:
        return float(value) if name in {"loss", "answer_ms"} else int(value)
    msg = f"telemetry value {name} = {str(value)[:80]!r} is out of range"
    raise WireError(msg)


def _is_known(value: object) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(math.isfinite, value))
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _is_number(value: object) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and math.isfinite(value)  # type: ignore[arg-type]  # a number by now


def _is_share(value: object) -> bool:
    return _is_number(value) and 0 <= value <= 1  # type: ignore[operator]  # a number by now

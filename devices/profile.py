"""What a board says of itself when it enrols. A value that is not known is None, never zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from reefleet.errors import ConfigError

_COUNTS = ("memory_available_mib", "cores", "storage_free_bytes", "train_samples")


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """One device's report; mirrors the wire message of the same name.

    `board` is an id of the catalog, or '' where the device does not know. `runtimes` maps a
    runtime's name to its version, `isa` holds features such as 'int8-dotprod' and 'fp16'.
    """

    board: str
    memory_available_mib: int | None = None
    cores: int | None = None
    storage_free_bytes: int | None = None
    runtimes: Mapping[str, str] = field(default_factory=dict)
    isa: tuple[str, ...] = ()
    train_samples: int | None = None

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

    def to_json(self) -> dict[str, Any]:
        """Plain values for the store and for `--json`; unknown values are null."""
        return {**asdict(self), "runtimes": dict(self.runtimes), "isa": list(self.isa)}

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
        return cls(**{**values, "runtimes": runtimes, "isa": isa})

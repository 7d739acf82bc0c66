"""What every bundle of one model agrees on: its geometry, its input, its labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from reefleet.errors import ConfigError
from reefleet.geometry.spec import ModelSpec

SOUND_RATES = (1000, 20_000)  # Hz; a window of 25 ms must fit into 512 points
_INPUT_KEYS = frozenset({"size", "channels", "mean", "std"})


@dataclass(frozen=True, slots=True)
class LogMel:
    """Sound as a picture (`reefleet.datasets.logmel`): its rate, and the decibels of 0 and 255."""

    sample_rate_hz: int
    low_db: float
    high_db: float

    def __post_init__(self) -> None:
        """Refuse a rate or a range that no picture can be made with."""
        rate, low, high = self.sample_rate_hz, self.low_db, self.high_db
        least, most = SOUND_RATES
        if type(rate) is not int or not least <= rate <= most:
            msg = f"the sound's sample rate is {rate!r}; it must be {least} to {most} Hz"
            raise ConfigError(msg)
        if not -math.inf < low < high < math.inf:
            msg = f"the sound's range is {low!r} to {high!r} decibels; it must rise"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Input contract: grey or RGB image, resized to `size`, value/255, then (v - mean) / std.

    `size` is the height, `width` the width, 0 for a square. With `sound` the picture is made of a
    clip: `size` frames of `width` bands.
    """

    size: int
    channels: int
    mean: float
    std: float
    width: int = 0
    sound: LogMel | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input."""
        return self.channels, self.size, self.width or self.size

    def to_json(self) -> dict[str, Any]:
        """Plain values; what only some inputs have is left out."""
        values = asdict(self)
        return {name: value for name, value in values.items() if value or name in _INPUT_KEYS}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Read what `to_json` wrote; raises TypeError or ConfigError."""
        sound = values.get("sound")
        return cls(**{**values, "sound": None if sound is None else LogMel(**sound)})


@dataclass(frozen=True, slots=True)
class ModelContract:
    """What every bundle of one model agrees on: geometry, input and labels."""

    spec: ModelSpec
    preprocessing: Preprocessing
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse labels or an input that the geometry cannot have."""
        if len(self.labels) != self.spec.classes:
            msg = f"{len(self.labels)} labels for {self.spec.classes} classes"
            raise ConfigError(msg)
        if self.preprocessing.shape != self.spec.image_shape:
            msg = "preprocessing size and channels differ from the model's"
            raise ConfigError(msg)
        if self.preprocessing.sound is not None and self.spec.channels != 1:
            msg = f"a picture of sound has 1 channel, the model reads {self.spec.channels}"
            raise ConfigError(msg)
        if not self.preprocessing.std > 0:
            msg = f"preprocessing std is {self.preprocessing.std}; it must be positive"
            raise ConfigError(msg)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the contract file that coordinator and export share."""
        return {
            "model": self.spec.to_json(),
            "preprocessing": self.preprocessing.to_json(),
            "labels": list(self.labels),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelContract:
        """Read what `to_json` wrote; raises ConfigError naming what is wrong."""
        try:
            return cls(
                ModelSpec.from_json(values["model"]),
                Preprocessing.from_json(values["preprocessing"]),
                tuple(str(label) for label in values["labels"]),
            )
        except (KeyError, TypeError) as error:
            msg = f"the model contract is incomplete: {error}"
            raise ConfigError(msg) from error

"""Expected accuracy of a sub-model by exit depth and bits: measured, or a stated default form.

The default form is not a measurement of anybody's model. It ranks choices until a table exists:
a share `1 - 0.94 exp(-5.5 d / depth)` of what the whole network reaches, fitted to four points of
ReeFL's budgeted reference (DeiT-Tiny, 100 classes), times `1 - 4^-(b + 1)` for b bits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reefleet.errors import ConfigError, MissingFile
from reefleet.mixed import Layer
from reefleet.model import ModelSpec

FORMAT = 1
_KEYS = {"format", "source", "depths", "bits", "accuracy"}
_OPTIONAL = {"harm"}

DEPTH_GAP = 0.94
DEPTH_DECAY = 5.5


@dataclass(frozen=True, slots=True)
class AccuracyTable:
    """Accuracy `rows[i][j]` at depth `depths[i]` and `bits[j]`, both rising; where it is from.

    `harm` is what 1 to 8 bits add to the loss, by quantized tensor, in the order of names; empty
    where nobody measured it.
    """

    source: str
    depths: tuple[int, ...]
    bits: tuple[int, ...]
    rows: tuple[tuple[float, ...], ...]
    harm: tuple[tuple[str, tuple[float, ...]], ...] = ()

    def __post_init__(self) -> None:
        """Refuse a table that is not one, naming what is wrong."""
        for name, values in (("depths", self.depths), ("bits", self.bits)):
            if not values or list(values) != sorted(set(values)) or values[0] < 1:
                msg = f"accuracy table: {name} {list(values)} must rise from 1 or more"
                raise ConfigError(msg)
        if len(self.rows) != len(self.depths):
            msg = f"accuracy table: {len(self.rows)} rows for {len(self.depths)} depths"
            raise ConfigError(msg)
        for depth, row in zip(self.depths, self.rows, strict=True):
            if len(row) != len(self.bits) or not all(0 <= value <= 1 for value in row):
                msg = (
                    f"accuracy table: the row of depth {depth} must hold {len(self.bits)} shares "
                    "from 0 to 1"
                )
                raise ConfigError(msg)
        for name, harm in self.harm:
            Layer(name, 1, harm)

    def expected(self, depth: int, bits: int) -> float:
        """Accuracy of `depth` at `bits`, linear between measured bits; more bits change nothing.

        Raises ConfigError for a depth, or for fewer bits, that nobody measured.
        """
        if depth not in self.depths or bits < self.bits[0]:
            msg = (
                f"the accuracy table ({self.source}) says nothing of depth {depth} at {bits} bits; "
                f"it has depths {list(self.depths)} from {self.bits[0]} bits"
            )
            raise ConfigError(msg)
        row = self.rows[self.depths.index(depth)]
        above = next((i for i, width in enumerate(self.bits) if width >= bits), None)
        if above is None:
            return row[-1]
        if self.bits[above] == bits:
            return row[above]
        low, high = self.bits[above - 1], self.bits[above]
        share = (bits - low) / (high - low)
        return row[above - 1] + share * (row[above] - row[above - 1])

    def to_json(self) -> dict[str, Any]:
        """Plain values for the table's file."""
        return {
            "format": FORMAT,
            "source": self.source,
            "depths": list(self.depths),
            "bits": list(self.bits),
            "accuracy": [list(row) for row in self.rows],
            **({"harm": {name: list(each) for name, each in self.harm}} if self.harm else {}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AccuracyTable:
        """Read what `to_json` wrote; raises ConfigError naming what is wrong."""
        if odd := sorted((set(values) - _OPTIONAL) ^ _KEYS):
            wrong = "unknown" if odd[0] in values else "missing"
            msg = f"accuracy table: key {odd[0]!r} is {wrong}"
            raise ConfigError(msg)
        if values["format"] != FORMAT:
            msg = f"accuracy table: format {values['format']!r}; this program reads {FORMAT}"
            raise ConfigError(msg)
        try:
            return cls(
                str(values["source"]),
                tuple(int(depth) for depth in values["depths"]),
                tuple(int(width) for width in values["bits"]),
                tuple(tuple(float(value) for value in row) for row in values["accuracy"]),
                tuple(
                    (str(name), tuple(float(value) for value in each))
                    for name, each in sorted(dict(values.get("harm") or {}).items())
                ),
            )
        except (TypeError, ValueError) as error:
            msg = f"accuracy table: depths, bits, accuracy and harm must be numbers: {error}"
            raise ConfigError(msg) from error


def default_table(spec: ModelSpec) -> AccuracyTable:
    """The default form for a model's exits and 1 to 8 bits."""
    widths = tuple(range(1, 9))
    rows = tuple(
        tuple(
            (1 - DEPTH_GAP * math.exp(-DEPTH_DECAY * depth / spec.depth)) * (1 - 0.25 ** (b + 1))
            for b in widths
        )
        for depth in spec.exits
    )
    return AccuracyTable("default form, not measured", spec.exits, widths, rows)


def read_table(path: Path) -> AccuracyTable:
    """The table in a JSON file; raises MissingFile or ConfigError naming file and mistake."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"cannot read the accuracy table {path}: {error.strerror}"
        raise MissingFile(msg) from error
    except ValueError as error:
        msg = f"{path} is not JSON: {error}"
        raise ConfigError(msg) from error
    if not isinstance(values, dict):
        msg = f"{path} is not an accuracy table"
        raise ConfigError(msg)
    try:
        return AccuracyTable.from_json(values)
    except ConfigError as error:
        msg = f"{path}: {error}"
        raise ConfigError(msg) from error

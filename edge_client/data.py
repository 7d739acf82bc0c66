"""The device's own labelled images: a part to learn from, one to choose by, one to judge by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reefleet.datasets.pack import Part, load_parts
from reefleet.errors import DataTooSmall
from reefleet.model import ModelSpec

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class DeviceData:
    """What a device holds: a part to learn from, one to choose thresholds on, one to judge by."""

    train: Part
    validation: Part
    test: Part

    def require(self, spec: ModelSpec) -> None:
        """Refuse data that the model cannot read: InputError or DataTooSmall, naming the part."""
        for name in PARTS:
            part: Part = getattr(self, name)
            if not len(part):
                msg = f"the device's data have no {name} samples; at least one is needed"
                raise DataTooSmall(msg)
            part.require(spec, name)


def load(path: Path) -> DeviceData:
    """Read the device's pack: `<part>_images` and `<part>_labels` for each part.

    Raises MissingFile, or DamagedFile naming the array that is absent or of the wrong kind.
    """
    return DeviceData(*load_parts(path, PARTS))

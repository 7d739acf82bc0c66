"""The device's own labelled images: a part to learn from, one to choose by, one to judge by."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edge_client import datafile
from reefleet.blobs import write_atomic
from reefleet.errors import DataTooSmall, StoreError
from reefleet.model import ModelSpec

if TYPE_CHECKING:
    from reefleet.datasets.pack import Part

PARTS = ("train", "validation", "test")


class OwnData(Protocol):
    """What work reads of a device's data."""

    @property
    def train(self) -> Part:
        """To learn from."""

    @property
    def validation(self) -> Part:
        """To choose thresholds on."""

    @property
    def test(self) -> Part:
        """To judge by."""

    def require(self, spec: ModelSpec) -> None:
        """Refuse data that the model cannot read."""


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


class StoredData:
    """The data of a file: looked through at once, read when the first work asks for them.

    A file that was sound is not looked through again until it changes; `note` remembers it. Raises
    MissingFile, or DamagedFile naming the array that is absent or of the wrong kind.
    """

    def __init__(self, path: Path, note: Path) -> None:
        self._path = path
        self._read: DeviceData | None = None
        mark = datafile.mark_of(path)
        is_known = note.is_file() and note.read_text(encoding="utf-8") == mark
        found = datafile.counts(path, PARTS, thoroughly=not is_known)
        self.train_samples = found["train"]
        if not is_known:
            with suppress(StoreError):  # it is looked through again next time
                write_atomic(note, mark.encode())

    @property
    def train(self) -> Part:
        """To learn from."""
        return self._all.train

    @property
    def validation(self) -> Part:
        """To choose thresholds on."""
        return self._all.validation

    @property
    def test(self) -> Part:
        """To judge by."""
        return self._all.test

    def require(self, spec: ModelSpec) -> None:
        """Refuse data that the model cannot read: InputError or DataTooSmall, naming the part."""
        self._all.require(spec)

    @property
    def _all(self) -> DeviceData:
        if self._read is None:
            self._read = load(self._path)
        return self._read


def load(path: Path) -> DeviceData:
    """Read the device's pack: `<part>_images` and `<part>_labels` for each part.

    Raises MissingFile, or DamagedFile naming the array that is absent or of the wrong kind.
    """
    from reefleet.datasets.pack import load_parts  # numpy comes with it

    return DeviceData(*load_parts(path, PARTS))

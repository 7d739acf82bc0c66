"""Real disks without room: one sentence, an exit code, what was there before and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.disks import FILLER, Disk, may_mount

if TYPE_CHECKING:
    from tests.export.conftest import Inputs

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]
KIB = 1024
# Of some 100 KiB: no folder, no first file, and a file in the middle.
ROOM_KIB = (0, 8, 64)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    (tmp_path / "try").mkdir()
    if not may_mount(tmp_path / "try"):
        pytest.skip("mounting a file system takes root")
    made = Disk(tmp_path)
    yield made
    made.close()


def leave(disk: Disk, room_kib: int) -> None:
    """Fill the disk but for so much."""
    disk.fill()
    with (disk.place / FILLER).open("r+b") as stream:
        stream.truncate((disk.place / FILLER).stat().st_size - room_kib * KIB)


def held(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != FILLER
    }


def build(inputs: Inputs, out: Path, bits: int) -> list[str]:
    made = ["--depth", "1", "--bits", str(bits), "--format", "onnx", "--format", "tflite"]
    return ["export", "build", str(inputs.checkpoint), *inputs.arguments, *made, "--out", str(out)]


@pytest.mark.parametrize("room_kib", ROOM_KIB)
def test_a_build_names_the_full_disk_and_the_bundle_before_it_stays(
    room_kib: int, disk: Disk, inputs: Inputs, reefleet: Run
) -> None:
    out = disk.place / "bundle"
    assert reefleet(*build(inputs, out, 4))[0] == 0
    before = held(disk.place)
    leave(disk, room_kib)
    command = [sys.executable, "-m", "reefleet", *build(inputs, out, 1)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 74, done.stderr
    where = f"in {disk.place}" if room_kib == 0 else f"the bundle {out}"
    assert done.stderr == f"reefleet: cannot write {where}: No space left on device\n"
    assert done.stdout == ""
    assert held(disk.place) == before
    assert {path.name for path in disk.place.iterdir()} == {"bundle", FILLER, "lost+found"}
    disk.free()
    assert reefleet(*build(inputs, out, 1))[0] == 0
    assert held(disk.place) != before


def test_a_picture_names_the_full_disk_and_leaves_no_half(
    disk: Disk, inputs: Inputs, reefleet: Run
) -> None:
    assert reefleet(*build(inputs, disk.place / "bundle", 4))[0] == 0
    leave(disk, 4)
    picture = disk.place / "picture.png"
    code, _, error = reefleet("export", "show", disk.place / "bundle", "--picture", picture)
    assert code == 74
    assert f"cannot write the picture {picture}: No space left on device" in error
    assert not picture.exists()

"""A folder replaced as a whole: built beside, made durable, renamed into place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

BUILDING = ".building"
PREVIOUS = ".previous"


def begin(target: Path) -> Path:
    """An empty folder beside `target` to build its successor in."""
    building = target.with_name(target.name + BUILDING)
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True, mode=0o700)
    return building


def publish(target: Path) -> None:
    """Put what was built at `target`; the folder that was there is gone only after that."""
    building = target.with_name(target.name + BUILDING)
    previous = target.with_name(target.name + PREVIOUS)
    for path in (*building.iterdir(), building):
        sync(path)
    if target.exists():
        shutil.rmtree(previous, ignore_errors=True)
        # A folder that holds files cannot be renamed over; `recover` closes the gap after a crash.
        target.rename(previous)
    building.rename(target)
    sync(target.parent)
    shutil.rmtree(previous, ignore_errors=True)


def recover(target: Path) -> None:
    """Bring the former folder back where a crash fell between the two renames of `publish`."""
    previous = target.with_name(target.name + PREVIOUS)
    if previous.exists() and not target.exists():
        previous.rename(target)
        sync(target.parent)


def sync(path: Path) -> None:
    """Make a file's bytes, or the renames inside a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

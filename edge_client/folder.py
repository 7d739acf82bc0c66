"""A folder replaced as a whole: built beside, made durable, renamed into place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

BUILDING = ".building"
PREVIOUS = ".previous"


def begin(target: Path) -> Path:
    """An empty folder beside `target` to build its successor in."""
    built = building(target)
    shutil.rmtree(built, ignore_errors=True)
    built.mkdir(parents=True, mode=0o700)
    return built


def building(target: Path) -> Path:
    """Where the successor of `target` is built."""
    return target.with_name(target.name + BUILDING)


def publish(target: Path, kept: Path | None = None) -> None:
    """Put what was built at `target`; the folder that was there goes to `kept`, or away."""
    built = building(target)
    for path in (*built.iterdir(), built):
        sync(path)
    _replace(target, built, kept)


def swap(target: Path, kept: Path) -> None:
    """Exchange the folder at `target` with the one that was kept."""
    _replace(target, kept, kept)


def discard(target: Path) -> None:
    """Drop what was built for `target`."""
    shutil.rmtree(building(target), ignore_errors=True)


def recover(target: Path) -> None:
    """Bring the former folder back where a crash fell between the two renames of `publish`."""
    previous = target.with_name(target.name + PREVIOUS)
    if previous.exists() and not target.exists():
        previous.rename(target)
        sync(target.parent)


def _replace(target: Path, successor: Path, kept: Path | None) -> None:
    previous = target.with_name(target.name + PREVIOUS)
    shutil.rmtree(previous, ignore_errors=True)
    if target.exists():
        # A folder that holds files cannot be renamed over; `recover` closes the gap after a crash.
        target.rename(previous)
    successor.rename(target)
    if kept is not None and previous.exists():
        shutil.rmtree(kept, ignore_errors=True)
        previous.rename(kept)
    sync(target.parent)
    shutil.rmtree(previous, ignore_errors=True)


def sync(path: Path) -> None:
    """Make a file's bytes, or the renames inside a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

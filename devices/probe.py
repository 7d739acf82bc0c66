"""What this machine is: read from the system, never failing. What cannot be read stays None."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from devices import catalog
from devices.catalog import Board
from devices.profile import DeviceProfile
from reefleet.errors import UnknownBoard

# Distributions that can run a sub-model; only their metadata is read.
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "ai-edge-litert", "tflite-runtime")

# Kernel feature flags that the planner knows, on Arm and on x86.
FEATURES: Mapping[str, str] = {
    "asimd": "neon",
    "asimddp": "int8-dotprod",
    "asimdhp": "fp16",
    "i8mm": "i8mm",
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "avx512-vnni",
    "avx_vnni": "avx-vnni",
}


def probe(
    board: str = "",
    *,
    root: Path = Path("/"),
    storage: Path = Path(),
    train_samples: int | None = None,
) -> DeviceProfile:
    """This machine's profile; `root` is where /proc is, `storage` where bundles will lie.

    Where `board` names a board of the catalog that this machine is not, the profile is that
    board's, with the runtimes found here: the machine stands in for it.
    """
    found = detect(root)
    named = _find(board)
    if named is not None and (found is None or named.id != found.id):
        return catalog.reference_profile(
            board, train_samples=train_samples, runtimes=runtimes_present()
        )
    return DeviceProfile(
        board=board or (found.id if found else ""),
        memory_available_mib=_memory_mib(root, "MemAvailable"),
        cores=_cores(),
        storage_free_bytes=_free_bytes(storage),
        runtimes=runtimes_present(),
        isa=_isa(root),
        train_samples=train_samples,
    )


def detect(root: Path = Path("/")) -> Board | None:
    """The catalog's board that this machine's device tree names; nearest memory size decides."""
    model = _text(root / "proc/device-tree/model").lower()
    named = [
        (sum(map(len, board.device_tree)), board)
        for board in catalog.boards().values()
        if all(phrase.lower() in model for phrase in board.device_tree)
    ]
    if not named:
        return None
    closest = max(length for length, _ in named)
    total = _memory_mib(root, "MemTotal") or 0
    alike = [board for length, board in named if length == closest]
    return min(alike, key=lambda board: _distance_mib(board, total))


def runtimes_present() -> dict[str, str]:
    """Version of each runtime installed here."""
    return {name: version for name in RUNTIMES if (version := _version(name))}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _find(board: str) -> Board | None:
    try:
        return catalog.find(board)
    except UnknownBoard:
        return None


def _distance_mib(board: Board, total_mib: int) -> int:
    # A board never shows more memory than it is sold with.
    sizes = [memory.nominal_mib for memory in board.memory]
    return min((size - total_mib for size in sizes if size >= total_mib), default=1 << 30)


def _memory_mib(root: Path, key: str) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == key and (amount := rest.split()) and amount[0].isdecimal():
            return int(amount[0]) >> 10
    return None


def _cores() -> int | None:
    # The cores this process may use; a container or cpuset may hide the others.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or None
    return os.cpu_count()


def _isa(root: Path) -> tuple[str, ...]:
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, rest = line.partition(":")
        if name.strip() in {"Features", "flags"}:
            flags = set(rest.split())
            return tuple(feature for flag, feature in FEATURES.items() if flag in flags)
    return ()


def _free_bytes(folder: Path) -> int | None:
    # The folder may not exist yet; its nearest parent that does lies on the same disk.
    places = (folder.absolute(), *folder.absolute().parents)
    try:
        return shutil.disk_usage(next(place for place in places if place.exists())).free
    except (OSError, StopIteration):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

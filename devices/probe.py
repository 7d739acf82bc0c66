"""What this machine is: read from the system, never failing. What cannot be read stays None."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from devices import catalog
from devices.board import Board
from devices.conditions import default_interface, is_wired, link_mbps, read_conditions
from devices.limits import read_limits
from devices.profile import DeviceProfile
from devices.storage import StorageSpeed, free_bytes, measure_storage
from devices.tree import Tree
from reefleet.errors import UnknownBoard

# Distributions that can run a sub-model; only their metadata is read.
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "ai-edge-litert", "tflite-runtime")

# Kernel feature flags that the planner knows, on Arm and on x86.
FEATURES: Mapping[str, str] = {
    "asimd": "neon",
    "asimddp": "int8-dotprod",
    "asimdhp": "fp16",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve2": "sve2",
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "avx512-vnni",
    "avx_vnni": "avx-vnni",
}
_MODELS = ("proc/device-tree/model", "sys/firmware/devicetree/base/model")
_TEXT_MOST = 128


def probe(
    board: str = "",
    *,
    root: Path = Path("/"),
    storage: Path = Path(),
    train_samples: int | None = None,
    measure_disk: bool = False,
) -> DeviceProfile:
    """This machine's profile; `root` is where /proc and /sys are, `storage` where bundles will lie.

    Where `board` names a board of the catalog that this machine is not, the profile is that
    board's, with the runtimes found here: the machine stands in for it. `measure_disk` writes and
    reads a few MiB in `storage`.
    """
    tree = Tree(root)
    found = detect(root)
    named = _find(board)
    if named is not None and (found is None or named.id != found.id):
        reference = catalog.reference_profile(
            board, train_samples=train_samples, runtimes=runtimes_present()
        )
        return replace(reference, taken_at=int(time.time()))
    limits, interface = read_limits(tree), default_interface(tree)
    speed = measure_storage(storage) if measure_disk else StorageSpeed()
    return DeviceProfile(
        board=board or (found.id if found else ""),
        memory_available_mib=_available_mib(tree, limits.memory_free_mib),
        cores=_cores(),
        storage_free_bytes=free_bytes(storage),
        runtimes=runtimes_present(),
        isa=_isa(tree),
        train_samples=train_samples,
        model=_model(tree),
        cpu=_cpu(tree),
        system=_system(tree),
        memory_total_mib=_memory_mib(tree, "MemTotal"),
        memory_limit_mib=limits.memory_mib,
        cpus=limits.cpus,
        network_mbps=link_mbps(tree, interface),
        wired=is_wired(tree, interface),
        storage_read_mbs=speed.read_mbs,
        storage_write_mbs=speed.write_mbs,
        conditions=read_conditions(tree),
        taken_at=int(time.time()),
    )


def detect(root: Path = Path("/")) -> Board | None:
    """The catalog's board that this machine's device tree names; nearest memory size decides."""
    tree = Tree(root)
    model = _device_tree_model(tree).lower()
    named = [
        (sum(map(len, board.device_tree)), board)
        for board in catalog.boards().values()
        if board.device_tree and all(phrase.lower() in model for phrase in board.device_tree)
    ]
    if not named:
        return None
    closest = max(length for length, _ in named)
    total = _memory_mib(tree, "MemTotal") or 0
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


def _available_mib(tree: Tree, free_mib: int | None) -> int | None:
    """What a client may take in all: free now, within its groups, and what it holds already."""
    free = _memory_mib(tree, "MemAvailable")
    known = [amount for amount in (free, free_mib) if amount is not None]
    if not known:
        return None
    own = tree.field("proc/self/status", "RssAnon").split()
    held = int(own[0]) >> 10 if own and own[0].isdecimal() else 0
    return min(known) + held


def _memory_mib(tree: Tree, key: str) -> int | None:
    amount = tree.field("proc/meminfo", key).split()
    return int(amount[0]) >> 10 if amount and amount[0].isdecimal() else None


def _cores() -> int | None:
    # The cores this process may use; a container or cpuset may hide the others.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or None
    return os.cpu_count()


def _isa(tree: Tree) -> tuple[str, ...]:
    for name in ("Features", "flags"):
        if flags := tree.field("proc/cpuinfo", name).split():
            return tuple(feature for flag, feature in FEATURES.items() if flag in flags)
    return ()


def _device_tree_model(tree: Tree) -> str:
    return next((found for path in _MODELS if (found := tree.text(path))), "")


def _model(tree: Tree) -> str:
    vendor = tree.text("sys/class/dmi/id/sys_vendor")
    product = tree.text("sys/class/dmi/id/product_name")
    return (_device_tree_model(tree) or f"{vendor} {product}".strip())[:_TEXT_MOST]


def _cpu(tree: Tree) -> str:
    for name in ("model name", "Hardware", "Model"):
        if found := tree.field("proc/cpuinfo", name):
            return found[:_TEXT_MOST]
    part = tree.field("proc/cpuinfo", "CPU part")
    return f"part {part}"[:_TEXT_MOST] if part else ""


def _system(tree: Tree) -> str:
    """Name of the system, its kernel, C library, Python and machine, as far as they are told."""
    name = tree.field("etc/os-release", "PRETTY_NAME", "=")
    kernel = tree.text("proc/sys/kernel/osrelease")
    library = " ".join(platform.libc_ver()).strip()
    python = f"Python {platform.python_version()}"
    known = (name, kernel, library, python, platform.machine())
    return ", ".join(part for part in known if part)[:_TEXT_MOST]

"""The boards Reefleet knows: facts with their sources, one TOML file a board in `boards/`.

A figure that nobody has published or measured is absent and listed under `unknown`, never zero.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib import resources
from typing import Any

from devices.profile import DeviceProfile
from reefleet.errors import ConfigError, UnknownBoard

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA_VERSION = 1

# Name of each figure a board may have, with its unit.
FIGURES: Mapping[str, str] = {
    "cores": "",
    "clock_mhz": "MHz",
    "vit_gflops": "GFLOP/s, whole ViT, float32, all cores",
    "vit_fp16_gflops": "GFLOP/s, whole ViT, half precision",
    "vit_b32_384_ms": "ms, ViT-B/32 at 384 px",
    "int8_speedup": "x float32",
    "scalar_mips": "7-zip MIPS, one core",
    "memcpy_gbs": "GB/s copied",
    "memset_gbs": "GB/s written",
    "memory_peak_gbs": "GB/s",
    "cpu_fp32_peak_gflops": "GFLOP/s",
    "cpu_fp16_peak_gflops": "GFLOP/s",
    "cpu_int8_peak_gops": "GOP/s",
    "hpl_fp64_gflops": "GFLOP/s",
    "ethernet_mbps": "Mbit/s",
    "wifi_mbps": "Mbit/s",
    "sd_read_mbs": "MB/s",
    "sd_write_mbs": "MB/s",
    "nvme_read_mbs": "MB/s",
    "idle_w": "W",
    "typical_w": "W",
    "load_w": "W",
    "power_mode_min_w": "W",
    "power_mode_max_w": "W",
    "throttle_soft_c": "C",
    "throttle_c": "C",
    "throttle_hard_c": "C",
    "gpu_cores": "",
    "gpu_tensor_cores": "",
    "gpu_mhz": "MHz",
    "gpu_fp16_gflops": "GFLOP/s",
    "gpu_int8_tops_sparse": "TOPS",
    "gpu_int8_tops_dense": "TOPS",
    "gpu_int8_tops_sparse_super": "TOPS",
    "dla": "",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One fact: its value, the source keys behind it, how it was got, its relative sigma."""

    value: float
    source: str
    note: str = ""
    rel_sigma: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory size the board is sold with; visible to the system, and free when idle."""

    nominal_mib: int
    source: str
    visible_mib: int | None = None
    available_mib: int | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """One kind of board. `reference_mib` is the size meant where nobody says which.

    The device tree's model of such a board holds every phrase of `device_tree`.
    """

    id: str
    name: str
    family: str
    soc: str
    cpu: str
    uarch: str
    isa: tuple[str, ...]
    device_tree: tuple[str, ...]
    reference_mib: int
    memory: tuple[Memory, ...]
    figures: Mapping[str, Figure]
    unknown: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    jetpack: tuple[str, ...] = ()
    note: str = ""

    def value(self, name: str) -> float | None:
        """Value of the figure `name`, None where it is unknown."""
        figure = self.figures.get(name)
        return None if figure is None else figure.value

    def variant(self, nominal_mib: int = 0) -> Memory:
        """The memory size `nominal_mib`, or the reference size; raises UnknownBoard for others."""
        wanted = nominal_mib or self.reference_mib
        for memory in self.memory:
            if memory.nominal_mib == wanted:
                return memory
        sizes = ", ".join(str(memory.nominal_mib) for memory in self.memory)
        msg = f"{self.id} is not sold with {wanted} MiB; the catalog has {sizes}"
        raise UnknownBoard(msg)


@lru_cache(maxsize=1)
def boards() -> Mapping[str, Board]:
    """Every board of the catalog by id, in order; raises ConfigError naming a file's mistake."""
    folder = resources.files("devices") / "boards"
    files = sorted((entry.name, entry) for entry in folder.iterdir())
    found: dict[str, Board] = {}
    for name, entry in files:
        if name.endswith(".toml") and name != "sources.toml":
            board = _board(name, entry.read_text(encoding="utf-8"))
            found[board.id] = board
    return found


@lru_cache(maxsize=1)
def sources() -> Mapping[str, str]:
    """What each source key stands for."""
    text = (resources.files("devices") / "boards" / "sources.toml").read_text(encoding="utf-8")
    return {key: str(value) for key, value in tomllib.loads(text).items()}


def find(name: str) -> Board:
    """The board with this id or alias; raises UnknownBoard with near names."""
    known: dict[str, Board] = {}
    for board in boards().values():
        known |= dict.fromkeys((board.id, *board.aliases), board)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`reefleet devices list` shows all"
    msg = f"board {name!r} is not in the catalog; {hint}"
    raise UnknownBoard(msg)


def available_mib(board: Board, nominal_mib: int = 0) -> int:
    """MiB free on the idle board; where unknown, the least share seen on any board."""
    memory = board.variant(nominal_mib)
    if memory.available_mib is not None:
        return memory.available_mib
    return int(memory.nominal_mib * _least_available_share())


def reference_profile(
    name: str,
    *,
    nominal_mib: int = 0,
    train_samples: int | None = None,
    runtimes: Mapping[str, str] | None = None,
) -> DeviceProfile:
    """What the board `name` would report of itself when idle; raises UnknownBoard."""
    board = find(name)
    cores = board.value("cores")
    return DeviceProfile(
        board=name,
        memory_available_mib=available_mib(board, nominal_mib),
        cores=None if cores is None else int(cores),
        runtimes=dict(runtimes or {}),
        isa=board.isa,
        train_samples=train_samples,
    )


@lru_cache(maxsize=1)
def _least_available_share() -> float:
    return min(
        memory.available_mib / memory.nominal_mib
        for board in boards().values()
        for memory in board.memory
        if memory.available_mib is not None
    )


def _board(file: str, text: str) -> Board:
    try:
        return _parsed(tomllib.loads(text))
    except (ConfigError, KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        msg = f"devices/boards/{file} is not a board: {error}"
        raise ConfigError(msg) from error


def _parsed(values: dict[str, Any]) -> Board:
    if (schema := values.pop("schema", None)) != SCHEMA_VERSION:
        msg = f"schema is {schema!r}; this program reads {SCHEMA_VERSION}"
        raise ConfigError(msg)
    figures = {name: Figure(**entry) for name, entry in values.pop("figures").items()}
    if strange := sorted(set(figures) - set(FIGURES)):
        msg = f"unknown figure {strange[0]!r}"
        raise ConfigError(msg)
    memory = tuple(Memory(**entry) for entry in values.pop("memory"))
    return Board(**_tupled(values), figures=figures, memory=memory)


def _tupled(values: Mapping[str, Any]) -> dict[str, Any]:
    lists = {field.name for field in fields(Board) if str(field.type).startswith("tuple")}
    return {name: tuple(v) if name in lists else v for name, v in values.items()}

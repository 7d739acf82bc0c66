"""One kind of board, and how its TOML file is read: every key known, every value possible.

A figure that nobody has published or measured is absent and listed under `unknown`, never zero.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

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


_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_COUNTS = frozenset({"cores", "gpu_cores", "gpu_tensor_cores", "dla"})
_MAY_BE_ZERO = frozenset({"gpu_tensor_cores", "dla"})
_LIMITS: Mapping[str, tuple[float, float]] = {  # least and most, by the end of a figure's name
    "cores": (1, 4096),
    "_mhz": (10, 20_000),
    "_c": (20, 150),
    "_w": (0.01, 5_000),
    "_mbps": (0.01, 1_000_000),
    "int8_speedup": (0.05, 64),
}
_MOST = 1e9
_SIGMA = (0.0, 5.0)
_MEMORY_MIB = (16, 64 << 20)


def read_board(where: str, text: str) -> Board:
    """The board in a TOML text; raises ConfigError naming file, key and value."""
    try:
        return _parsed(tomllib.loads(text))
    except (ConfigError, tomllib.TOMLDecodeError) as error:
        msg = f"{where} is not a board: {error}"
        raise ConfigError(msg) from error


def _parsed(values: dict[str, Any]) -> Board:
    if (schema := values.pop("schema", None)) != SCHEMA_VERSION:
        msg = f"schema is {schema!r}; this program reads {SCHEMA_VERSION}"
        raise ConfigError(msg)
    _require_keys(Board, values, "board")
    figures = {
        name: _figure(name, entry) for name, entry in _table(values.pop("figures"), "figures")
    }
    memory = tuple(_memory(entry) for entry in _list(values.pop("memory"), "memory"))
    board = Board(**_texts(values), figures=figures, memory=memory)
    _check(board)
    return board


def _texts(values: Mapping[str, Any]) -> dict[str, Any]:
    lists = {field.name for field in fields(Board) if str(field.type).startswith("tuple")}
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name in lists:
            items = _list(value, name)
            if not all(isinstance(item, str) for item in items):
                msg = f"{name} is {value!r}; it must be a list of texts"
                raise ConfigError(msg)
            found[name] = tuple(items)
        elif name == "reference_mib":
            found[name] = _within(value, name, *_MEMORY_MIB, whole=True)
        elif not isinstance(value, str):
            msg = f"{name} is {value!r}; it must be text"
            raise ConfigError(msg)
        else:
            found[name] = value
    return found


def _figure(name: str, entry: Any) -> Figure:
    if name not in FIGURES:
        msg = f"unknown figure {name!r}"
        raise ConfigError(msg)
    if not isinstance(entry, dict):
        msg = f"figure {name} is {entry!r}; write {name} = {{ value = ..., source = ... }}"
        raise ConfigError(msg)
    _require_keys(Figure, entry, f"figure {name}")
    least, most = next(
        (bounds for end, bounds in _LIMITS.items() if name.endswith(end)), (1e-9, _MOST)
    )
    if name in _MAY_BE_ZERO:
        least = 0
    value = _within(entry["value"], f"figure {name}", least, most, whole=name in _COUNTS)
    sigma = entry.get("rel_sigma")
    if sigma is not None:
        sigma = _within(sigma, f"rel_sigma of figure {name}", *_SIGMA)
    texts = (str(entry["source"]), str(entry.get("note", "")))
    if not texts[0]:
        msg = f"figure {name} names no source"
        raise ConfigError(msg)
    return Figure(value, *texts, sigma)


def _memory(entry: Any) -> Memory:
    if not isinstance(entry, dict):
        msg = f"memory is {entry!r}; write it as [[memory]] tables"
        raise ConfigError(msg)
    _require_keys(Memory, entry, "memory")
    most = _MEMORY_MIB[1]
    sizes: dict[str, Any] = {}
    for name in ("nominal_mib", "visible_mib", "available_mib"):
        if entry.get(name) is not None:
            sizes[name] = _within(entry[name], f"memory {name}", 1, most, whole=True)
            most = int(sizes[name])
    return Memory(source=str(entry["source"]), **sizes)


def _check(board: Board) -> None:
    for name in (board.id, *board.aliases):
        if not _ID.fullmatch(name):
            msg = f"{name!r} cannot be a board's name; use lower-case letters, digits and hyphens"
            raise ConfigError(msg)
    if not board.memory:
        msg = "a board needs at least one [[memory]] table"
        raise ConfigError(msg)
    sizes = [memory.nominal_mib for memory in board.memory]
    if board.reference_mib not in sizes:
        msg = f"reference_mib is {board.reference_mib}; the board is sold with {sizes}"
        raise ConfigError(msg)
    if both := sorted(set(board.unknown) & set(board.figures)):
        msg = f"figure {both[0]!r} is given and listed as unknown"
        raise ConfigError(msg)
    if strange := sorted(set(board.unknown) - {*FIGURES, "isa"}):
        msg = f"unknown names the figure {strange[0]!r}, which there is not"
        raise ConfigError(msg)
    prior = board.figures.get("vit_gflops")
    if prior is not None and prior.rel_sigma is None:
        msg = "figure vit_gflops has no rel_sigma; say how far it may be off, for example 0.4"
        raise ConfigError(msg)


def _require_keys(cls: type[Any], values: Mapping[str, Any], what: str) -> None:
    known = {field.name: field.default for field in fields(cls)}
    if unknown := sorted(set(values) - set(known)):
        msg = f"{what} has the unknown key {unknown[0]!r}"
        raise ConfigError(msg)
    needed = [name for name, default in known.items() if default is MISSING]
    if missing := [name for name in needed if name not in values]:
        msg = f"{what} has no {missing[0]!r}"
        raise ConfigError(msg)


def _within(value: Any, what: str, least: float, most: float, *, whole: bool = False) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= most:
        msg = f"{what} is {value!r}; it must be a number from {least:g} to {most:g}"
        raise ConfigError(msg)
    if whole and value != int(value):
        msg = f"{what} is {value!r}; it must be a whole number"
        raise ConfigError(msg)
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        msg = f"{what} is {value!r}; it must be a list"
        raise ConfigError(msg)
    return value


def _table(value: Any, what: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        msg = f"{what} is {value!r}; it must be a table"
        raise ConfigError(msg)
    return list(value.items())

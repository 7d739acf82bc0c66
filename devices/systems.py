"""Operating systems of the boards: Python, C library, wheels, and what of ours runs there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources

from devices.board import Board

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "ai-edge-litert", "tflite-runtime")
NONE = "none"
LEAST_PYTHON = (3, 10)
LEAST_ONNXRUNTIME = (1, 23)


@dataclass(frozen=True, slots=True)
class System:
    """An operating system. `wheels` maps a package to its newest version there, or to "none".

    '' and absent packages are unknown.
    """

    id: str
    name: str
    family: str
    source: str
    wheels: Mapping[str, str] = field(default_factory=dict)
    jetpack: str = ""
    python: str = ""
    glibc: str = ""
    note: str = ""

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Runtimes of sub-models that have a wheel here."""
        return tuple(name for name in RUNTIMES if self.wheels.get(name, NONE) != NONE)

    @property
    def obstacle(self) -> str:
        """Why the client does not run on this system as it comes; '' where it does."""
        if self.wheels.get("onnxruntime", NONE) == NONE:
            return "no onnxruntime wheel"
        if self.python and _version(self.python) < LEAST_PYTHON:
            return f"Python {self.python}; the client needs {_dotted(LEAST_PYTHON)}"
        if _version(self.wheels["onnxruntime"]) < LEAST_ONNXRUNTIME:
            return f"onnxruntime below {_dotted(LEAST_ONNXRUNTIME)}"
        return ""


@lru_cache(maxsize=1)
def systems() -> tuple[System, ...]:
    """Every system of the catalog."""
    text = (resources.files("devices") / "boards" / "systems.toml").read_text(encoding="utf-8")
    return tuple(System(**entry) for entry in tomllib.loads(text)["system"])


def systems_of(board: Board) -> tuple[System, ...]:
    """The systems that a board runs."""
    return tuple(
        system
        for system in systems()
        if system.family == board.family and (not system.jetpack or system.jetpack in board.jetpack)
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())[:2]


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))

"""Arrays in one safetensors file, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reefleet.blobs import write_atomic
from reefleet.errors import DamagedFile, RuntimeUnavailable

Arrays = Mapping[str, NDArray[np.float32]]


def write(path: Path, arrays: Arrays, facts: Mapping[str, str] | None = None) -> None:
    """Put arrays and `facts` about them at `path` durably; raises StoreFull or StoreError."""
    _require_wheel()
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    write_atomic(path, save(whole, metadata=dict(facts or {})))


def read(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """Arrays and facts of a file; raises DamagedFile where it is not what `write` left."""
    _require_wheel()
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            facts = dict(opened.metadata() or {})
            return {name: opened.get_tensor(name) for name in opened.keys()}, facts  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        msg = f"{path} is not a sound safetensors file: {error}"
        raise DamagedFile(msg) from error


def parse(data: bytes, label: str) -> dict[str, NDArray[np.float32]]:
    """Arrays of a safetensors file held in memory; raises DamagedFile naming `label`."""
    _require_wheel()
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays: dict[str, NDArray[np.float32]] = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        msg = f"{label} is not a sound safetensors file: {error}"
        raise DamagedFile(msg) from error
    return arrays


def _require_wheel() -> None:
    try:
        import safetensors  # noqa: F401
    except ModuleNotFoundError as error:
        msg = "stored state needs safetensors; run: pip install 'reefleet[edge]'"
        raise RuntimeUnavailable(msg) from error

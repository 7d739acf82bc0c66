"""A checkpoint: the full model as one safetensors file, checked against the model's geometry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import DamagedFile, MissingFile
from reefleet.model import ModelSpec, tensor_shapes

Weights = Mapping[str, NDArray[np.float32]]


def load(path: Path, spec: ModelSpec) -> dict[str, NDArray[np.float32]]:
    """Every tensor of the full model; raises MissingFile, or DamagedFile naming what is wrong."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        msg = f"there is no checkpoint {path}"
        raise MissingFile(msg)
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        msg = f"{path} is not a safetensors file: {error}"
        raise DamagedFile(msg) from error
    check(found, spec, str(path))
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def check(weights: Weights, spec: ModelSpec, where: str) -> None:
    """Raise DamagedFile unless these are finite tensors of exactly the full model's shapes."""
    expected = tensor_shapes(spec)
    for name in sorted(weights.keys() ^ expected.keys()):
        msg = f"{where}: tensor {name!r} is {'missing' if name in expected else 'unknown'}"
        raise DamagedFile(msg)
    for name, shape in expected.items():
        if weights[name].shape != shape:
            msg = f"{where}: tensor {name!r} has shape {weights[name].shape}, expected {shape}"
            raise DamagedFile(msg)
        if not np.isfinite(weights[name]).all():
            msg = f"{where}: tensor {name!r} holds NaN or infinity"
            raise DamagedFile(msg)

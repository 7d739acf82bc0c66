"""A checkpoint: the full model as one safetensors file, checked against the model's geometry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import DamagedFile, MissingFile
from reefleet.model import ModelSpec, first_deviation, tensor_shapes

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


def initial(spec: ModelSpec, seed: int) -> dict[str, NDArray[np.float32]]:
    """First values of every tensor: zero biases, unit norms, normal weights.

    Matrices have deviation 0.4 / sqrt(fan-in): the usual 0.02 at DeiT-S's width, and a network of
    width 64 still starts to learn. Tokens and embeddings have 0.02; convolutions have their own.
    """
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in tensor_shapes(spec).items():
        if len(shape) > 1:
            spread = first_deviation(spec, name, shape)
            if spread is None:
                product = name.endswith(("weight", ".a"))
                spread = 0.4 * shape[-1] ** -0.5 if product else 0.02
            weights[name] = (rng.standard_normal(shape) * spread).astype(np.float32)
        else:
            weights[name] = np.full(shape, float(name.endswith(("weight", "gain"))), np.float32)
    return weights


def completed(weights: Weights, spec: ModelSpec, seed: int) -> dict[str, NDArray[np.float32]]:
    """These weights, and first values of what else the model holds: adapters, which do nothing."""
    return {name: weights.get(name, value) for name, value in initial(spec, seed).items()}


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

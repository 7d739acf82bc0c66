"""The first shared model: a checkpoint, a model pretrained on public data, or a random one."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coordinator.children import Children
from coordinator.folder import PRETRAIN_PREFIX
from coordinator.records import Version
from coordinator.versions import Versions
from reefleet.blobs import write_atomic
from reefleet.errors import DamagedFile, MissingFile
from reefleet.model import ModelContract, ModelSpec, tensor_shapes

Model = dict[str, NDArray[np.float32]]

logger = logging.getLogger(__name__)

PRETRAINER = (sys.executable, "-m", "reefleet", "model", "pretrain")
PRETRAIN_TIMEOUT_S = 24 * 3600.0
_INIT_STD = 0.02  # ViT's usual truncated normal; here cut at two standard deviations


def publish(versions: Versions, model: Model, now: float) -> None:
    """Make `model` version 0; raises DamagedFile where it is not a model of this geometry."""
    check(model, versions.spec, "the first model")
    versions.store.add_version(Version(0, versions.keep(model), now))


def load_checkpoint(path: Path, spec: ModelSpec) -> Model:
    """Float32 tensors from a safetensors file; raises MissingFile or DamagedFile."""
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
    model = {name: np.asarray(value, np.float32) for name, value in found.items()}
    check(model, spec, str(path))
    return model


def pretrain(
    contract: ModelContract,
    public_data: Path,
    seed: int,
    folder: Path,
    children: Children,
    command: Sequence[str] = PRETRAINER,
) -> Model:
    """Train the full model on public data in a separate process; its stderr is pretrain.log.

    Raises MissingFile without data, ExportError where the process fails.
    """
    if not public_data.is_file():
        msg = f"there is no public data file {public_data}"
        raise MissingFile(msg)
    with tempfile.TemporaryDirectory(dir=folder, prefix=PRETRAIN_PREFIX) as name:
        described, weights = Path(name) / "contract.json", Path(name) / "weights.safetensors"
        write_atomic(described, json.dumps(contract.to_json()).encode())
        full = [*command, "--contract", str(described), "--data", str(public_data)]
        full += ["--out", str(weights), "--seed", str(seed)]
        logger.info("Pretraining started", extra={"data": str(public_data)})
        children.run(full, folder / "logs" / "pretrain.log", PRETRAIN_TIMEOUT_S)
        return load_checkpoint(weights, contract.spec)


def random_model(spec: ModelSpec, seed: int) -> Model:
    """A fresh model: matrices and tokens normal, norm weights one, biases zero."""
    rng = np.random.default_rng(seed)
    model = {}
    for name, shape in tensor_shapes(spec).items():
        if len(shape) > 1:
            drawn = np.clip(rng.standard_normal(shape), -2, 2) * _INIT_STD
            model[name] = drawn.astype(np.float32)
        else:
            value = 1 if name.endswith("weight") else 0
            model[name] = np.full(shape, value, np.float32)
    return model


def check(model: Model, spec: ModelSpec, where: str) -> None:
    """Raise DamagedFile unless these are finite tensors of exactly the full model's shapes."""
    expected = tensor_shapes(spec)
    for name in sorted(model.keys() ^ expected.keys()):
        msg = f"{where}: tensor {name!r} is {'missing' if name in expected else 'unknown'}"
        raise DamagedFile(msg)
    for name, shape in expected.items():
        if model[name].shape != shape:
            msg = f"{where}: tensor {name!r} has shape {model[name].shape}, expected {shape}"
            raise DamagedFile(msg)
        if not np.isfinite(model[name]).all():
            msg = f"{where}: tensor {name!r} holds NaN or infinity"
            raise DamagedFile(msg)

"""The first shared model: published as it is, or pretrained on public data."""

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
from coordinator.faults import point
from coordinator.folder import PRETRAIN_PREFIX
from coordinator.records import Version
from coordinator.versions import Versions
from reefleet.blobs import write_atomic
from reefleet.errors import MissingFile
from reefleet.model import ModelContract
from reefleet.wire import checkpoint

Model = dict[str, NDArray[np.float32]]

logger = logging.getLogger(__name__)

PRETRAINER = (sys.executable, "-m", "reefleet", "model", "pretrain")
PRETRAIN_TIMEOUT_S = 24 * 3600.0


def publish(versions: Versions, model: Model, now: float) -> None:
    """Make `model` version 0; raises DamagedFile where it is not a model of this geometry."""
    checkpoint.check(model, versions.spec, "the first model")
    first = Version(0, versions.keep(model), now)
    point("first-version.before-commit")
    versions.store.add_version(first)


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
        return checkpoint.load(weights, contract.spec)

"""What `reefleet export build` needs beside a run's checkpoint: contract and validation samples."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from reefleet.blobs import write_atomic
from reefleet.learning.network import Network
from reefleet.model import ModelContract
from reefleet.simulation.population import Population

CONTRACT = "contract.json"
SAMPLES = "validation.npz"


def write(folder: Path, population: Population, network: Network) -> None:
    """Put both into the run's folder; the contract also says which network the tensors are of."""
    spec = network.held
    labels = tuple(str(label) for label in range(spec.classes))
    contract = ModelContract(spec, population.preprocessing, labels)
    kind = {"exits": network.exits, "modulation": network.modulation, "trained": network.trained}
    told = {**contract.to_json(), "network": kind}
    write_atomic(folder / CONTRACT, (json.dumps(told, indent=2) + "\n").encode())
    memory = io.BytesIO()
    np.savez_compressed(
        memory,
        validation_images=population.validation.images,
        validation_labels=population.validation.labels,
    )
    write_atomic(folder / SAMPLES, memory.getvalue())

"""One torch thread: the models are tiny, and the tests share their cores. A model and its data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from reefleet.model import ModelContract, ModelSpec, Preprocessing
from reefleet.wire.checkpoint import initial

torch.set_num_threads(1)

SPEC = ModelSpec(
    image_size=8, patch_size=4, channels=3, width=32, heads=2, depth=3, classes=4, exits=(1, 2, 3)
)


@dataclass(frozen=True)
class Inputs:
    """Files that a build reads, and what is in them."""

    folder: Path
    contract: ModelContract
    weights: dict[str, NDArray[np.float32]]
    images: NDArray[np.uint8]

    @property
    def checkpoint(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def data(self) -> Path:
        return self.folder / "data.npz"

    @property
    def arguments(self) -> list[str]:
        return ["--contract", str(self.folder / "contract.json"), "--data", str(self.data)]


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """A tiny model whose every path matters, and images that it tells apart."""
    folder = tmp_path_factory.mktemp("inputs")
    contract = ModelContract(SPEC, Preprocessing(8, 3, 0.5, 0.25), ("a", "b", "c", "d"))
    rng = np.random.default_rng(1)
    weights = {
        name: (value + 0.1 * rng.standard_normal(value.shape)).astype(np.float32)
        for name, value in initial(SPEC, 0).items()
    }
    images = rng.integers(0, 256, (24, 3, 8, 8), np.uint8)
    (folder / "contract.json").write_text(json.dumps(contract.to_json()))
    save_file(weights, folder / "weights.safetensors")
    np.savez(
        folder / "data.npz",
        validation_images=images,
        validation_labels=rng.integers(0, 4, len(images)),
    )
    return Inputs(folder, contract, weights, images)


@pytest.fixture
def reefleet(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line in this process: exit code, stdout, the last line of stderr."""
    from reefleet.cli import main

    def run(*arguments: Any) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, (err.strip().splitlines() or [""])[-1]

    return run

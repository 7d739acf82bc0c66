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

from reefleet.model import ConvGeometry, ModelContract, ModelSpec, Preprocessing
from reefleet.wire.checkpoint import initial

torch.set_num_threads(1)

SPEC = ModelSpec(
    image_size=8, patch_size=4, channels=3, width=32, heads=2, depth=3, classes=4, exits=(1, 2, 3)
)
# Odd and even maps, strides 1 and 2, a residual block and others.
CONV = ModelSpec(
    9,
    1,
    2,
    16,
    1,
    3,
    4,
    (1, 2, 3),
    image_width=10,
    conv=ConvGeometry(6, (6, 8, 8), (1, 2, 2)),
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


def write_inputs(folder: Path, spec: ModelSpec, preprocessing: Preprocessing) -> Inputs:
    """A tiny model whose every path matters, and images that it tells apart."""
    contract = ModelContract(spec, preprocessing, tuple("abcd"))
    rng = np.random.default_rng(1)
    weights = {
        name: (value + 0.1 * rng.standard_normal(value.shape)).astype(np.float32)
        for name, value in initial(spec, 0).items()
    }
    images = rng.integers(0, 256, (24, *preprocessing.shape), np.uint8)
    (folder / "contract.json").write_text(json.dumps(contract.to_json()))
    save_file(weights, folder / "weights.safetensors")
    np.savez(
        folder / "data.npz",
        validation_images=images,
        validation_labels=rng.integers(0, 4, len(images)),
    )
    return Inputs(folder, contract, weights, images)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """A ViT on square images."""
    return write_inputs(tmp_path_factory.mktemp("inputs"), SPEC, Preprocessing(8, 3, 0.5, 0.25))


@pytest.fixture(scope="session")
def conv_inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """A convolutional model on images that are wider than high."""
    preprocessing = Preprocessing(9, 2, 0.5, 0.25, width=10)
    return write_inputs(tmp_path_factory.mktemp("conv"), CONV, preprocessing)


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

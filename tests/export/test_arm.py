"""The bundles on emulated boards, with the aarch64 wheels that boards install: `make test-arm`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_client.inference import EarlyExitModel
from export.compile import compile_task
from export.parity import INT8_TOLERANCE
from reefleet.datasets.pack import normalized
from reefleet.plan import SubmodelPlan

if TYPE_CHECKING:
    from tests.export.conftest import Inputs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("REEFLEET_ARM" not in os.environ, reason="run it with `make test-arm`"),
]

ROOT = Path(__file__).parents[2]
STEP = Path(__file__).with_name("arm_step.py")
STEP_TOLERANCE = 1e-5  # sums in another order, over one step
IMAGES = 12


@pytest.fixture(scope="module")
def emulator() -> list[str]:
    done = subprocess.run(
        [str(ROOT / "scripts" / "arm")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module", params=["inputs", "conv_inputs"])
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of the step, but for its output; a ViT, and a convolutional model."""
    from reefleet.cli import main

    given: Inputs = request.getfixturevalue(request.param)
    folder = tmp_path_factory.mktemp("arm")
    made = ["--device", "rpi-zero2w", "--bits", "4", "--depth", "3"]
    command = ["export", "build", str(given.checkpoint), *given.arguments, *made]
    assert main([*command, "--out", str(folder / "bundle")]) == 0
    compile_task(given.contract, SubmodelPlan(2, 2, 4, 1, 2, "int8"), folder / "task")
    images = normalized(given.images, given.contract.preprocessing)
    np.save(folder / "images.npy", images[decided(folder / "bundle", images)])
    return [str(STEP), *(str(folder / name) for name in ("bundle", "task", "images.npy"))]


def decided(bundle: Path, images: np.ndarray) -> np.ndarray:
    """The images that the untrained model is surest of, at the exit where it is least sure.

    Of two classes that are a rounding apart, either is the same answer.
    """
    model = EarlyExitModel.open(bundle)
    logits = np.sort(np.stack([model.logits(image[None]) for image in images]))  # N E classes
    return (logits[..., -1] - logits[..., -2]).min(axis=1).argsort()[-IMAGES:]


@pytest.fixture(scope="module")
def here(job: list[str]) -> dict[str, np.ndarray]:
    return run([sys.executable], job, "here")


def run(python: list[str], job: list[str], name: str) -> dict[str, np.ndarray]:
    out = Path(job[1]).parent / f"{name}.npz"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*python, *job, str(out)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with np.load(out) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a76"])
def test_a_board_gives_the_same_classes_and_the_same_step(
    core: str, emulator: list[str], job: list[str], here: dict[str, np.ndarray]
) -> None:
    there = run([emulator[0], "-cpu", core, *emulator[1:]], job, core)
    assert set(there) == set(here)
    for name, expected in here.items():
        if name.startswith("step/"):
            assert np.abs(there[name] - expected).max() <= STEP_TOLERANCE, name
        elif name.endswith("exits"):
            np.testing.assert_array_equal(there[name], expected, name)
        else:
            np.testing.assert_array_equal(there[name].argmax(-1), expected.argmax(-1), name)
            worst = np.abs(there[name] - expected).max() / np.abs(expected).max()
            assert worst <= INT8_TOLERANCE, name

"""The same files in the last tflite-runtime, whose own environment is made once under .cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from export.parity import FLOAT_TOLERANCE, INT8_TOLERANCE, torch_logits
from export.quantize import quantize
from export.targets import Form
from export.variants import SubModel, build_variant
from reefleet.datasets.pack import normalized

if TYPE_CHECKING:
    from tests.export.conftest import Inputs

pytestmark = pytest.mark.slow

HOME = Path(__file__).parents[2] / ".cache" / "tflite-runtime"
WHEELS = ("tflite-runtime==2.14.0", "numpy==1.26.4")
CHAIN = """
import sys, numpy as np
from tflite_runtime.interpreter import Interpreter
images, out, file = sys.argv[1:]
interpreter = Interpreter(model_path=file, num_threads=1)
runners = [interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()]
rows = []
for image in np.load(images):
    feed, exits = {"image": image[None]}, []
    for run in runners:
        feed = {name.removesuffix("_out"): value for name, value in run(**feed).items()}
        exits.append(feed.pop("logits"))
    rows.append(np.stack(exits, 1) if exits[0].ndim == 2 else exits[0])
np.save(out, np.concatenate(rows))
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter with tflite-runtime and the numpy it was compiled for."""
    if sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime 2.14 has no wheel for this Python")
    interpreter = HOME / "bin" / "python"
    if not (HOME / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME)], check=True)
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", *WHEELS]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"pip could not install {WHEELS[0]}: {done.stderr.strip()[-200:]}")
        (HOME / "complete").touch()
    return interpreter


@pytest.mark.parametrize("given", ["inputs", "conv_inputs"])
@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize(
    ("form", "bound"), [("int8", INT8_TOLERANCE), ("float32", FLOAT_TOLERANCE)]
)
def test_files_give_torchs_logits_there_too(
    form: str,
    bound: float,
    staged: bool,
    given: str,
    python: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    inputs: Inputs = request.getfixturevalue(given)
    spec = inputs.contract.spec
    tensors = quantize(inputs.weights, spec, 3, 4)
    variant, files = build_variant(SubModel(spec, 3, tensors), Form("tflite", form, staged))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    images = normalized(inputs.images, inputs.contract.preprocessing)
    np.save(tmp_path / "images.npy", images)
    paths = [str(tmp_path / name) for name in ("images.npy", "out.npy", *variant.files)]
    done = subprocess.run(
        [str(python), "-c", CHAIN, *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = torch_logits(tensors, spec, 3, images)
    error = np.abs(np.load(tmp_path / "out.npy") - expected).max()
    assert error <= bound * np.abs(expected).max()

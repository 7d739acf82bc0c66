from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from export.runtimes import LITERT, ONNX, open_chain, run_chain
from export.targets import Form
from export.variants import SubModel, build_variant
from reefleet.errors import ExportError
from reefleet.wire.tensors import Float32Tensor

if TYPE_CHECKING:
    from tests.export.conftest import Inputs


def files(inputs: Inputs, kind: str, *, staged: bool) -> list[bytes]:
    tensors = {name: Float32Tensor(value) for name, value in inputs.weights.items()}
    model = SubModel(inputs.contract.spec, 3, tensors)
    variant, built = build_variant(model, Form(kind, "float32", staged))
    return [built[name] for name in variant.files]


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize(("runtime", "kind"), [(ONNX, "onnx"), (LITERT, "tflite")])
def test_logits_of_one_image_outlive_the_next(
    inputs: Inputs, runtime: str, kind: str, staged: bool
) -> None:
    chain = open_chain(runtime, files(inputs, kind, staged=staged))
    first, second = np.random.default_rng(0).normal(size=(2, 1, 3, 8, 8)).astype(np.float32)
    found = run_chain(chain, first)
    before = found.copy()
    assert not np.array_equal(run_chain(chain, second), before)
    np.testing.assert_array_equal(found, before)
    np.testing.assert_array_equal(run_chain(chain, first), before)


def test_litert_stages_in_several_files_are_refused(inputs: Inputs) -> None:
    (file,) = files(inputs, "tflite", staged=True)
    with pytest.raises(ExportError, match="are one file, these are 2; build the bundle again"):
        open_chain(LITERT, [file, file])


def test_a_graph_without_a_fixed_shape_is_refused(inputs: Inputs) -> None:
    (file,) = files(inputs, "onnx", staged=False)
    model = onnx.load_from_string(file)
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(ExportError, match="of a graph has no fixed shape"):
        open_chain(ONNX, [model.SerializeToString()])

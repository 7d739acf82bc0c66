"""Parity of built graphs with torch: each file run in its real runtime on real samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from reefleet.errors import ParityFailure
from reefleet.learning.ree import exit_logits
from reefleet.model import ModelSpec
from reefleet.wire.initializers import Initializers
from reefleet.wire.manifest import Stage
from reefleet.wire.tensors import EncodedTensor

Array = NDArray[np.float32]

# Integer stages also round activations to 8 bits, in every layer; measured at up to 4 % of the
# largest logit for the int8 grid. Float stages differ by the order of sums alone.
FLOAT_TOLERANCE = 1e-5
INT8_TOLERANCE = 0.1
INT8_AGREEMENT = 0.95
FLOAT_AGREEMENT = 0.99  # two equal logits may fall either way


@dataclass(frozen=True, slots=True)
class ExitParity:
    """One exit against torch with the same weights: error relative to the largest logit."""

    exit_depth: int
    relative_error: float
    agreement: float


def run_stages(
    stages: Sequence[Stage],
    graphs: Mapping[str, bytes],
    tensors: Mapping[str, EncodedTensor],
    images: Array,
) -> Array:
    """Logits [N, E, classes] of the chain, image [1, C, S, S] by image, in onnxruntime."""
    filled = Initializers(tensors)
    kept = [filled.of(stage.initializers) for stage in stages]
    sessions = [
        _session(graphs[stage.file], values) for stage, values in zip(stages, kept, strict=True)
    ]
    rows = []
    for image in images:
        feed: dict[str, Array] = {"image": image[None]}
        exits = []
        for session in sessions:
            names = [node.name.removesuffix("_out") for node in session.get_outputs()]
            feed = dict(zip(names, session.run(None, feed), strict=True))
            exits.append(feed.pop("logits")[0])
        rows.append(exits)
    return np.asarray(rows, np.float32)


def torch_logits(
    tensors: Mapping[str, EncodedTensor], spec: ModelSpec, depth: int, images: Array
) -> Array:
    """Logits [N, E, classes] of the same weights in torch, float32."""
    params = {name: torch.from_numpy(tensor.decode()) for name, tensor in tensors.items()}
    with torch.no_grad():
        found: Array = exit_logits(params, spec, depth, torch.from_numpy(images)).numpy()
    return found


def check_stages(
    stages: Sequence[Stage],
    graphs: Mapping[str, bytes],
    tensors: Mapping[str, EncodedTensor],
    spec: ModelSpec,
    images: Array,
    *,
    quantized: bool,
) -> list[ExitParity]:
    """Compare every exit of the chain with torch; raises ParityFailure naming file and figure."""
    found = run_stages(stages, graphs, tensors, images)
    expected = torch_logits(tensors, spec, stages[-1].exit_depth, images)
    results = []
    for index, stage in enumerate(stages):
        result = _compare(stage, found[:, index], expected[:, index])
        tolerance = INT8_TOLERANCE if quantized else FLOAT_TOLERANCE
        agreement = INT8_AGREEMENT if quantized else FLOAT_AGREEMENT
        if not result.relative_error <= tolerance or result.agreement < agreement:
            msg = (
                f"{stage.file}: exit {stage.exit_depth} differs from torch by "
                f"{result.relative_error:.2%} of the largest logit (bound {tolerance:.2%}), "
                f"{result.agreement:.1%} of the answers agree (bound {agreement:.0%})"
            )
            raise ParityFailure(msg)
        results.append(result)
    return results


def _compare(stage: Stage, found: Array, expected: Array) -> ExitParity:
    scale = max(float(np.abs(expected).max()), 1e-12)
    error = float(np.abs(found - expected).max()) / scale
    agreement = float((found.argmax(-1) == expected.argmax(-1)).mean())
    return ExitParity(stage.exit_depth, error, agreement)


def _session(
    graph: bytes, weights: Mapping[str, NDArray[np.generic]]
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
    options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

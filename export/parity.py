"""Parity of built files with torch: each run in its real runtime on real samples, exit by exit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from export.runtimes import ONNX, open_chain, run_chain
from reefleet.errors import ParityFailure
from reefleet.learning.ree import exit_logits
from reefleet.model import ModelSpec
from reefleet.wire.initializers import Initializers
from reefleet.wire.manifest import Stage, Variant
from reefleet.wire.tensors import EncodedTensor

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

# Integer forms also round activations to 8 bits, in every layer; measured at up to 4 % of the
# largest logit for the int8 grid. Float forms differ by the order of sums alone.
FLOAT_TOLERANCE = 1e-5
INT8_TOLERANCE = 0.1
INT8_AGREEMENT = 0.95
FLOAT_AGREEMENT = 0.99  # two equal logits may fall either way
FLOAT_FORM = "float32"


@dataclass(frozen=True, slots=True)
class ExitParity:
    """One exit against torch with the same weights: error relative to the largest logit.

    `accuracy_change` is of the share of right answers, 0 where there are no labels.
    """

    exit_depth: int
    relative_error: float
    agreement: float
    accuracy_change: float = 0.0


def run_stages(
    stages: Sequence[Stage],
    graphs: Mapping[str, bytes],
    tensors: Mapping[str, EncodedTensor],
    images: Array,
) -> Array:
    """Logits [N, E, classes] of the chain, image [1, C, S, S] by image, in onnxruntime."""
    filled = Initializers(tensors)
    weights = [filled.of(stage.initializers) for stage in stages]
    chain = open_chain(ONNX, [graphs[stage.file] for stage in stages], weights=weights)
    return np.concatenate([run_chain(chain, image[None]) for image in images])


def run_variant(variant: Variant, files: Mapping[str, bytes], images: Array) -> Array:
    """Logits [N, E, classes] of a variant in its runtime, a short last batch filled up."""
    chain = open_chain(variant.runtime, [files[name] for name in variant.files])
    size = variant.batch
    short = -len(images) % size
    padded = np.concatenate([images, np.repeat(images[-1:], short, 0)])
    found = [
        run_chain(chain, padded[first : first + size]) for first in range(0, len(padded), size)
    ]
    return np.concatenate(found)[: len(images)]


def torch_logits(
    tensors: Mapping[str, EncodedTensor], spec: ModelSpec, depth: int, images: Array
) -> Array:
    """Logits [N, E, classes] of the same weights in torch, float32."""
    params = {name: torch.from_numpy(np.array(t.decode())) for name, t in tensors.items()}
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
    named = [(stage.file, stage.exit_depth) for stage in stages]
    return compare(named, found, expected, exact=not quantized)


def check_variant(
    variant: Variant,
    files: Mapping[str, bytes],
    depths: Sequence[int],
    images: Array,
    torch: Array,
    labels: Labels | None = None,
) -> list[ExitParity]:
    """Compare every exit of a variant with torch's logits; raises ParityFailure."""
    names = variant.files if len(variant.files) > 1 else variant.files * len(depths)
    found = run_variant(variant, files, images)
    named = list(zip(names, depths, strict=True))
    return compare(named, found, torch, exact=variant.form == FLOAT_FORM, labels=labels)


def compare(
    named: Sequence[tuple[str, int]],
    found: Array,
    expected: Array,
    *,
    exact: bool,
    labels: Labels | None = None,
) -> list[ExitParity]:
    """Each exit (file, depth) of logits [N, E, classes]; raises ParityFailure outside tolerance."""
    results = []
    for index, (file, depth) in enumerate(named):
        result = _compare(depth, found[:, index], expected[:, index], labels)
        tolerance = FLOAT_TOLERANCE if exact else INT8_TOLERANCE
        agreement = FLOAT_AGREEMENT if exact else INT8_AGREEMENT
        if not result.relative_error <= tolerance or result.agreement < agreement:
            msg = (
                f"{file}: exit {depth} differs from torch by "
                f"{result.relative_error:.2%} of the largest logit (bound {tolerance:.2%}), "
                f"{result.agreement:.1%} of the answers agree (bound {agreement:.0%})"
            )
            raise ParityFailure(msg)
        results.append(result)
    return results


def _compare(depth: int, found: Array, expected: Array, labels: Labels | None) -> ExitParity:
    scale = max(float(np.abs(expected).max()), 1e-12)
    error = float(np.abs(found - expected).max()) / scale
    answers, wanted = found.argmax(-1), expected.argmax(-1)
    change = 0.0
    if labels is not None:
        change = float((answers == labels).mean() - (wanted == labels).mean())
    return ExitParity(depth, error, float((answers == wanted).mean()), change)

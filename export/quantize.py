"""Post-training quantization of a checkpoint: codebooks by Lloyd's algorithm, put on the int8 grid.

Devices learn their centers while they train (QuPeD); this is for a model that is exported as it is.
"""

from __future__ import annotations

import numpy as np

from reefleet.model import ModelSpec, quantized_tensors, tensor_shapes
from reefleet.wire.checkpoint import Weights
from reefleet.wire.codebook import assign, lloyd, snap
from reefleet.wire.tensors import CodebookTensor, EncodedTensor, Float32Tensor


def quantize(weights: Weights, spec: ModelSpec, depth: int, bits: int) -> dict[str, EncodedTensor]:
    """The sub-model of `depth` blocks: linear weights as `bits`-bit codes, the rest float32."""
    coded = frozenset(quantized_tensors(spec, depth))
    encoded: dict[str, EncodedTensor] = {}
    for name in tensor_shapes(spec, depth):
        values = np.asarray(weights[name], np.float32)
        if name in coded:
            grid = snap(lloyd(values.ravel(), bits))
            encoded[name] = CodebookTensor(assign(values, grid.centers), bits, grid)
        else:
            encoded[name] = Float32Tensor(values)
    return encoded

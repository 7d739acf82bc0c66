"""Post-training quantization: codebooks by Lloyd's algorithm, put on an integer grid.

Devices learn their centers while they train (QuPeD); this is for a model that is exported as it is.
The plan's bits are for the layers that carry a codebook. What reads pixels, and Ree, QuPeD leaves
float; a deployed file holds their matrices at 8 bits (docs/decisions/0009).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import ConfigError
from reefleet.geometry.trained import ENTRY_PREFIXES
from reefleet.model import ModelSpec, quantized_tensors, tensor_shapes
from reefleet.wire.checkpoint import Weights
from reefleet.wire.codebook import GRID_LIMIT, Grid, assign, lloyd, snap
from reefleet.wire.tensors import CodebookTensor, EncodedTensor, Float32Tensor

Bits = int | Mapping[str, int]  # of every layer that carries a codebook, or of each

EIGHT_BITS = 8
INT4_BITS = 4
INT4_LIMIT = 7
_EIGHT_BIT_PREFIXES = (*ENTRY_PREFIXES, "ree.")
_CLIPS = np.linspace(0.3, 1.0, 29)  # shares of the largest weight tried as the end of the int4 grid


def eight_bit_tensors(spec: ModelSpec, depth: int | None = None) -> tuple[str, ...]:
    """Matrices at 8 bits whatever the plan: the one that reads pixels, and Ree's."""
    return tuple(
        name
        for name, shape in tensor_shapes(spec, depth).items()
        if len(shape) == 2 and name.endswith(".weight") and name.startswith(_EIGHT_BIT_PREFIXES)
    )


def quantize(
    weights: Weights, spec: ModelSpec, depth: int, bits: Bits, *, int4: bool = False
) -> dict[str, EncodedTensor]:
    """The sub-model of `depth` blocks: linear weights as codes of `bits` bits, the rest float32.

    Centers lie on an int8 grid; with `int4` on the coarser grid of 4-bit integers, which costs
    accuracy and raises ConfigError above 4 bits.
    """
    coded = _widths(spec, depth, bits)
    even = frozenset(eight_bit_tensors(spec, depth))
    encoded: dict[str, EncodedTensor] = {}
    for name in tensor_shapes(spec, depth):
        values = np.asarray(weights[name], np.float32)
        if name in even:
            grid = even_grid(values)
            encoded[name] = CodebookTensor(assign(values, grid.centers), EIGHT_BITS, grid)
        elif name in coded:
            width = coded[name]
            grid = int4_grid(values, width) if int4 else snap(lloyd(values.ravel(), width))
            encoded[name] = CodebookTensor(assign(values, grid.centers), width, grid)
        else:
            encoded[name] = Float32Tensor(values)
    return encoded


def requantize(
    tensors: Mapping[str, EncodedTensor],
    spec: ModelSpec,
    depth: int,
    bits: Bits,
    *,
    int4: bool = False,
) -> dict[str, EncodedTensor]:
    """As `quantize`, but weights that carry codes of that many bits stay as they are.

    Raises ConfigError where they carry another number of bits, which a device has learned.
    """
    names = tensor_shapes(spec, depth)
    wanted = _widths(spec, depth, bits)
    learned = {n: t for n, t in tensors.items() if isinstance(t, CodebookTensor) and n in names}
    for name, tensor in learned.items():
        width = wanted.get(name, tensor.bits)
        if tensor.bits != width or (int4 and name in wanted):
            msg = (
                f"{name!r} carries {tensor.bits}-bit codes that a device has learned; "
                f"they cannot be built with {width} bits{' on the int4 grid' if int4 else ''}"
            )
            raise ConfigError(msg)
    plain = {n: np.array(tensors[n].decode()) for n in names}
    return {**quantize(plain, spec, depth, bits, int4=int4), **learned}


def _widths(spec: ModelSpec, depth: int, bits: Bits) -> Mapping[str, int]:
    if not isinstance(bits, int):
        return bits
    return dict.fromkeys(quantized_tensors(spec, depth), bits)


def even_grid(values: NDArray[np.float32]) -> Grid:
    """Every step of the int8 grid that spans the largest value, as 256 sorted centers."""
    # Code 0 would be -128, which no weight takes: the grid is symmetric.
    steps = np.maximum(np.arange(-128, 128), -GRID_LIMIT).astype(np.int8)
    scale = snap(np.array([np.abs(values).max()], np.float32)).scale
    return Grid(steps if scale else np.zeros_like(steps), scale)


def int4_grid(values: NDArray[np.float32], bits: int) -> Grid:
    """Sorted centers k * s with integer k in [-7, 7]; raises ConfigError above 4 bits."""
    if bits > INT4_BITS:
        msg = f"int4 holds at most {INT4_BITS} bits a weight, the plan has {bits}"
        raise ConfigError(msg)
    if bits < INT4_BITS:
        centers = lloyd(values.ravel(), bits)
        scale = float(np.float32(np.abs(centers).max() / INT4_LIMIT))
        exact = centers / scale if scale else np.zeros_like(centers)
        return Grid(np.rint(exact).astype(np.int8), scale)
    largest = float(np.abs(values).max())
    # Code 0 would be -8, which no weight takes: the grid is symmetric.
    steps = np.maximum(np.arange(-8, 8), -INT4_LIMIT).astype(np.int8)
    grids = [Grid(steps, float(np.float32(largest * clip / INT4_LIMIT))) for clip in _CLIPS]
    return min(grids, key=lambda grid: _error(values, grid))


def _error(values: NDArray[np.float32], grid: Grid) -> float:
    if not grid.scale:
        return 0.0
    steps = np.clip(np.rint(values / np.float32(grid.scale)), -INT4_LIMIT, INT4_LIMIT)
    return float(np.square(values - steps * np.float32(grid.scale)).mean())

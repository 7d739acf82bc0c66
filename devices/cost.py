"""What a sub-model costs on a board: time, memory, bytes. Pure; a prior until a board has run it.

::

    answer    max(F(d) / (R * s8) + d * k_block + e * k_call,  bytes / (2 * memcpy))
    training  3 * passes * (F(d) / R + d * k_block)      a sample, or as measured
    memory    base + graph * d + copies * P + g * activations
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from reefleet.model import (
    ModelSpec,
    forward_macs,
    packed_bytes,
    parameter_count,
    quantized_tensors,
    tensor_shapes,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    # One figure, or the figures of many choices at once.
    Quantity = TypeVar("Quantity", float, NDArray[np.float64])

MARGIN_Z = 1.64  # one-sided 95 %

# Interpreter work for one block and its Ree pass, and for one stage call, measured on an x86 core
# of REFERENCE_MIPS (7-zip, one thread) with networks too small for arithmetic to matter. It is
# scalar code, so it is scaled by the board's own 7-zip score.
BLOCK_DISPATCH_MS = 0.030
STAGE_CALL_MS = 0.070
REFERENCE_MIPS = 4970.0

TRAIN_OVER_FORWARD = 3.0  # measured 2.7 to 3.2
# Work of one training step in units of one model's: two models add the quantized pass and the
# centers; measured 3.3 at 4 bits and 4.3 at 8.
STEP_PASSES = {1: 1.0, 2: 3.5}
# Float32 copies of the weights that a device keeps of its training state on disk.
STATE_COPIES = 11

# Peak of a whole client: python, onnxruntime, grpc and cryptography; then by models a session's own
# structures a block, copies of the weights and of what is kept for backward. One model counts the
# personal fit after the rounds, which holds more. Fitted to 33 programs of six networks; fitted to
# half of them, the other half is met within 2 % (median) and 10 %.
CLIENT_BASE_MIB = 85.5
GRAPH_MIB_PER_BLOCK = {1: 4.9, 2: 5.9}
WEIGHT_COPIES = {1: 15.3, 2: 18.4}
ACTIVATION_FACTOR = {1: 2.7, 2: 4.0}  # no arena, default malloc

MEMORY_RELATIVE_MARGIN = 1.15
MEMORY_ABSOLUTE_MARGIN_MIB = 64.0
MEMORY_ABSOLUTE_SHARE = 0.10  # of a small board: 64 MiB would be a fifth of a 512 MB one

USABLE_RATE = 0.8  # of the vendor's network throughput
ROUND_TRIPS = 12  # calls of one round, besides chunks
ROUND_TRIP_S = 0.05
DISK_RESERVE_BYTES = 64 << 20

# Bits a value of an update takes, block scales and codebooks included.
CODEC_BITS = {"float32": 32.0, "float16": 16.0, "int8": 8.5, "codebook4": 4.3, "codebook2": 2.3}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A predicted quantity and its relative standard deviation, None where nobody knows it."""

    value: float
    rel_sigma: float | None = None

    def upper(self, z: float = MARGIN_Z) -> float:
        """The value plus z deviations; the value itself where sigma is unknown."""
        return self.value * (1 + z * (self.rel_sigma or 0.0))


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast a board works: whole-ViT float32 rate on all cores, its sigma, and the rest."""

    vit_gflops: float
    rel_sigma: float
    int8_speedup: float
    scalar_mips: float
    memcpy_gbs: float | None = None
    measured: Speed | None = None


@dataclass(frozen=True, slots=True)
class Speed:
    """What a board's own benchmark says: milliseconds for each unit of the features below."""

    answer: tuple[float, ...]
    answer_sigma: float
    step: tuple[float, ...]
    step_sigma: float


def answer_features(spec: ModelSpec, depth: int) -> tuple[float, ...]:
    """What the time of an answer is linear in: blocks, GFLOP, 1e6 values, 1e6 attention pairs."""
    values = depth * spec.tokens * spec.width
    pairs = depth * spec.heads * spec.tokens**2
    return (float(depth), _gflop(spec, depth), values * 1e-6, pairs * 1e-6)


def step_features(
    spec: ModelSpec, depth: int, models: int, bits: int, batch: int
) -> tuple[float, ...]:
    """What the time of a training step is linear in.

    Blocks; GFLOP of the batch; 1e6 values kept for backward; 1e6 weights; and with two models,
    whose pass through the quantized copy costs as much again twice, 1e6 quantized weights and
    those times bits.
    """
    passes = 3 if models == 2 else 1
    kept = depth * spec.tokens * (16 * spec.width + spec.heads * spec.tokens) * batch
    coded = _coded(spec, depth) * 1e-6 if models == 2 else 0.0
    return (
        float(passes * depth),
        passes * _gflop(spec, depth) * batch,
        passes * kept * 1e-6,
        passes * parameters(spec, depth) * 1e-6,
        coded,
        coded * bits,
    )


def forward_ms(spec: ModelSpec, depth: int, rates: Rates, speedup: float = 1.0) -> Estimate:
    """One forward pass of one image through `depth` blocks and their exits, in milliseconds."""
    arithmetic = _gflop(spec, depth) / (rates.vit_gflops * speedup) * 1e3
    dispatch = depth * BLOCK_DISPATCH_MS * REFERENCE_MIPS / rates.scalar_mips
    return Estimate(arithmetic + dispatch, rates.rel_sigma)


def weight_traffic_ms(spec: ModelSpec, depth: int, rates: Rates) -> float:
    """Least time to read the int8 weights once, 0 where the board's copy rate is unknown."""
    if rates.memcpy_gbs is None:
        return 0.0
    return packed_size(spec, depth, 8) / (2 * rates.memcpy_gbs * 1e9) * 1e3


def answer_ms(spec: ModelSpec, depth: int, rates: Rates) -> Estimate:
    """One answer that leaves at the last exit: int8 stages, one call each, in milliseconds.

    Bits below 8 change nothing: the kernels are int8 and codes are expanded when loaded.
    """
    if speed := rates.measured:
        return Estimate(_dot(speed.answer, answer_features(spec, depth)), speed.answer_sigma)
    calls = len(spec.exits_within(depth)) * STAGE_CALL_MS * REFERENCE_MIPS / rates.scalar_mips
    time = forward_ms(spec, depth, rates, rates.int8_speedup).value + calls
    return Estimate(max(time, weight_traffic_ms(spec, depth, rates)), rates.rel_sigma)


def train_step_ms(
    spec: ModelSpec, depth: int, models: int, bits: int, batch: int, rates: Rates
) -> Estimate:
    """One training step of `batch` rows, float32, in milliseconds; bits matter once measured."""
    if speed := rates.measured:
        features = step_features(spec, depth, models, bits, batch)
        return Estimate(_dot(speed.step, features), speed.step_sigma)
    forward = forward_ms(spec, depth, rates)
    value = forward.value * TRAIN_OVER_FORWARD * STEP_PASSES[models] * batch
    return Estimate(value, rates.rel_sigma)


def train_steps(samples: int, batch: int, epochs: int) -> int:
    """Steps of a round; a short last batch costs as much as a full one."""
    return math.ceil(samples / batch) * epochs


def activation_mib(spec: ModelSpec, depth: int, batch: int) -> float:
    """Float32 values that one pass keeps for backward: 16 D + H T a token and block."""
    values = spec.tokens * batch * (16 * spec.width + spec.heads * spec.tokens) * depth
    return 4 * values / 2**20


def client_peak_mib(spec: ModelSpec, depth: int, models: int, batch: int) -> Estimate:
    """Peak resident memory of a training client in MiB, before any safety margin."""
    weights = WEIGHT_COPIES[models] * 4 * parameters(spec, depth) / 2**20
    kept = ACTIVATION_FACTOR[models] * activation_mib(spec, depth, batch)
    return Estimate(CLIENT_BASE_MIB + GRAPH_MIB_PER_BLOCK[models] * depth + weights + kept)


def memory_to_reserve_mib(peak_mib: Quantity, available_mib: int) -> Quantity:
    """What must be free for that peak: 15 % more, and 64 MiB or a tenth of a small board."""
    reserve = min(MEMORY_ABSOLUTE_MARGIN_MIB, MEMORY_ABSOLUTE_SHARE * available_mib)
    return peak_mib * MEMORY_RELATIVE_MARGIN + reserve


def download_bytes(spec: ModelSpec, depth: int) -> int:
    """Shared weights of one round, float32."""
    return 4 * parameters(spec, depth)


def update_bytes(spec: ModelSpec, depth: int, codec: str) -> int:
    """One coded update, before zstd."""
    return math.ceil(parameters(spec, depth) * CODEC_BITS[codec] / 8)


def transfer_s(payload_bytes: Quantity, rate_mbps: float) -> Quantity:
    """Seconds to move one round's bytes over a link of this vendor throughput."""
    return 8 * payload_bytes / (USABLE_RATE * rate_mbps * 1e6) + ROUND_TRIPS * ROUND_TRIP_S


def energy_j(busy_s: Quantity, busy_w: float) -> Quantity:
    """What a board draws above idle while it is busy; radio and cable are within `busy_w`."""
    return busy_s * busy_w


def disk_bytes(spec: ModelSpec, depth: int, bits: int) -> int:
    """Free bytes needed: the sub-model twice (atomic swap), the training state, a reserve."""
    state = 4 * parameters(spec, depth) * STATE_COPIES
    return 2 * packed_size(spec, depth, bits) + state + DISK_RESERVE_BYTES


@lru_cache(maxsize=4096)
def packed_size(spec: ModelSpec, depth: int, bits: int) -> int:
    """Bytes of the packed sub-model."""
    return packed_bytes(spec, depth, bits)


@lru_cache(maxsize=1024)
def parameters(spec: ModelSpec, depth: int) -> int:
    """Weights of the sub-model."""
    return parameter_count(spec, depth)


@lru_cache(maxsize=1024)
def _gflop(spec: ModelSpec, depth: int) -> float:
    return 2 * forward_macs(spec, depth) / 1e9


@lru_cache(maxsize=1024)
def _coded(spec: ModelSpec, depth: int) -> int:
    shapes = tensor_shapes(spec, depth)
    return sum(math.prod(shapes[name]) for name in quantized_tensors(spec, depth))


def _dot(weights: tuple[float, ...], features: tuple[float, ...]) -> float:
    return sum(weight * feature for weight, feature in zip(weights, features, strict=True))

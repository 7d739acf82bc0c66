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

from devices.speed import (
    Speed,
    answer_features,
    dot,
    gflop,
    parameters,
    spilled,
    step_features,
    trained_parameters,
)
from devices.trained import TRAINED
from reefleet.model import ModelSpec, kept_values, packed_bytes

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

# Work of one training step in units of one model's: two models add the quantized pass and the
# centers; measured 3.3 at 4 bits and 4.3 at 8.
STEP_PASSES = {1: 1.0, 2: 3.5}
# Float32 copies of the weights that a device keeps of its training state on disk.
STATE_COPIES = 11
KEPT_SUBMODELS = 2

# What answers a request, and what it takes beside int8 stages of onnxruntime where a board's own
# benchmark did not time it.
RUNTIMES = ("onnxruntime-int8", "onnxruntime-float", "litert-int8")
FLOAT_OVER_INT8 = 1.9
LITERT_OVER_ONNX = 0.76
RATIO_SIGMA = 0.25

# Peak of a whole client: python, onnxruntime, grpc and cryptography; then by models a session's own
# structures a block, copies of the weights and of what is kept for backward. One model counts the
# personal fit after the rounds, which holds more. Fitted to 33 programs of six networks; fitted to
# half of them, the other half is met within 2 % (median) and 10 %.
CLIENT_BASE_MIB = 89.5
GRAPH_MIB_PER_BLOCK = {1: 4.9, 2: 5.9}
WEIGHT_COPIES = {1: 15.3, 2: 18.4}
ACTIVATION_FACTOR = {1: 2.7, 2: 4.0}  # no arena, freed memory kept

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


def forward_ms(spec: ModelSpec, depth: int, rates: Rates, speedup: float = 1.0) -> Estimate:
    """One forward pass of one image through `depth` blocks and their exits, in milliseconds."""
    arithmetic = gflop(spec, depth) / (rates.vit_gflops * speedup) * 1e3
    dispatch = depth * BLOCK_DISPATCH_MS * REFERENCE_MIPS / rates.scalar_mips
    return Estimate(arithmetic + dispatch, rates.rel_sigma)


def weight_traffic_ms(spec: ModelSpec, depth: int, rates: Rates) -> float:
    """Least time to read the int8 weights once, 0 where the board's copy rate is unknown."""
    if rates.memcpy_gbs is None:
        return 0.0
    return packed_size(spec, depth, 8) / (2 * rates.memcpy_gbs * 1e9) * 1e3


def answer_ms(
    spec: ModelSpec, depth: int, rates: Rates, runtime: str = "onnxruntime-int8"
) -> Estimate:
    """One answer that leaves at the last exit: stages, one call each, in milliseconds.

    Bits below 8 change nothing: the kernels are int8 and codes are expanded when loaded.
    """
    if speed := rates.measured:
        return _measured_answer(spec, depth, speed, runtime)
    calls = len(spec.exits_within(depth)) * STAGE_CALL_MS * REFERENCE_MIPS / rates.scalar_mips
    speedup = 1.0 if runtime == "onnxruntime-float" else rates.int8_speedup
    time = forward_ms(spec, depth, rates, speedup).value + calls
    if runtime == "litert-int8":
        time *= LITERT_OVER_ONNX
    return Estimate(max(time, weight_traffic_ms(spec, depth, rates)), rates.rel_sigma)


def _measured_answer(spec: ModelSpec, depth: int, speed: Speed, runtime: str) -> Estimate:
    features = answer_features(spec, depth)
    if runtime == "onnxruntime-float" and speed.answer_float:
        return Estimate(dot(speed.answer_float, features), speed.answer_sigma)
    ratio = {"onnxruntime-float": FLOAT_OVER_INT8, "litert-int8": LITERT_OVER_ONNX}.get(runtime)
    if ratio is None:
        return Estimate(dot(speed.answer, features), speed.answer_sigma)
    sigma = math.hypot(speed.answer_sigma, RATIO_SIGMA)
    return Estimate(ratio * dot(speed.answer, features), sigma)


def train_step_ms(  # noqa: PLR0913  # what a step is made of
    spec: ModelSpec,
    depth: int,
    models: int,
    bits: float,
    batch: int,
    rates: Rates,
    *,
    trained: str = "full",
) -> Estimate:
    """One training step of `batch` rows, float32, in milliseconds; bits matter once measured."""
    if speed := rates.measured:
        features = step_features(spec, depth, models, bits, batch, trained)
        return Estimate(dot(speed.step, spilled(features, speed.cache_mb)), speed.step_sigma)
    forward = forward_ms(spec, depth, rates)
    value = forward.value * TRAINED[trained].passes * STEP_PASSES[models] * batch
    return Estimate(value, rates.rel_sigma)


def train_steps(samples: int, batch: int, epochs: float) -> int:
    """Steps of so many epochs; a short last batch costs as much as a full one."""
    return math.ceil(math.ceil(samples / batch) * epochs)


def activation_mib(spec: ModelSpec, depth: int, batch: int) -> float:
    """Float32 values that one pass keeps for backward."""
    return 4 * kept_values(spec, depth) * batch / 2**20


def client_peak_mib(
    spec: ModelSpec, depth: int, models: int, batch: int, trained: str = "full"
) -> Estimate:
    """Peak resident memory of a training client in MiB, before any safety margin.

    With one model the personal fit after the rounds counts too, which trains everything.
    """
    weights = WEIGHT_COPIES[models] * 4 * parameters(spec, depth) / 2**20
    share = TRAINED[trained].kept if models == 2 else 1.0
    kept = ACTIVATION_FACTOR[models] * activation_mib(spec, depth, batch) * share
    return Estimate(CLIENT_BASE_MIB + GRAPH_MIB_PER_BLOCK[models] * depth + weights + kept)


def memory_to_reserve_mib(peak_mib: Quantity, available_mib: int) -> Quantity:
    """What must be free for that peak: 15 % more, and 64 MiB or a tenth of a small board."""
    reserve = min(MEMORY_ABSOLUTE_MARGIN_MIB, MEMORY_ABSOLUTE_SHARE * available_mib)
    return peak_mib * MEMORY_RELATIVE_MARGIN + reserve


def memory_slack(peak_mib: float, available_mib: int, share: float) -> float:
    """The factor on a peak from which it no longer fits into a share of the free memory."""
    room = share * available_mib - memory_to_reserve_mib(0.0, available_mib)
    return max(1.0, room / (MEMORY_RELATIVE_MARGIN * peak_mib))


def download_bytes(spec: ModelSpec, depth: int) -> int:
    """Shared weights of one round, float32."""
    return 4 * parameters(spec, depth)


def update_bytes(spec: ModelSpec, depth: int, codec: str, trained: str = "full") -> int:
    """One coded update of what was trained, before zstd."""
    return math.ceil(trained_parameters(spec, depth, trained) * CODEC_BITS[codec] / 8)


def transfer_s(payload_bytes: Quantity, rate_mbps: float) -> Quantity:
    """Seconds to move one round's bytes over a link of this vendor throughput."""
    return 8 * payload_bytes / (USABLE_RATE * rate_mbps * 1e6) + ROUND_TRIPS * ROUND_TRIP_S


def energy_j(busy_s: Quantity, busy_w: float) -> Quantity:
    """What a board draws above idle while it is busy; radio and cable are within `busy_w`."""
    return busy_s * busy_w


def disk_bytes(spec: ModelSpec, depth: int, packed: int) -> int:
    """Free bytes needed: the packed sub-model twice (atomic swap), training state, a reserve."""
    state = 4 * parameters(spec, depth) * STATE_COPIES
    return KEPT_SUBMODELS * packed + state + DISK_RESERVE_BYTES


@lru_cache(maxsize=4096)
def packed_size(spec: ModelSpec, depth: int, bits: int) -> int:
    """Bytes of the packed sub-model."""
    return packed_bytes(spec, depth, bits)

"""What a sub-model costs on a board: time, memory, bytes. Pure; a prior until a board has run it.

::

    answer    max(F(d) / (R * s8) + d * k_block + e * k_call,  bytes / (2 * memcpy))
    training  3 * passes * (F(d) / R + d * k_block)      a sample
    memory    base + h + graph * d * passes + copies * P + g * activations
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from reefleet.model import ModelSpec, forward_macs, packed_bytes, parameter_count

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
# Passes held in memory at once. One model: its personal fit later keeps x and Q(x).
MEMORY_PASSES = {1: 2, 2: 3}
# Float32 copies of the weights: state in and out, momentum in and out, gradient, quantized copy.
WEIGHT_COPIES = {1: 6, 2: 11}

# Fitted to eight compiled programs (depth 2 and 6, one and two models, batch 32): -3 to +6 %.
CLIENT_BASE_MIB = 75.0  # python, onnxruntime, grpc, cryptography
TRAIN_HEAP_MIB = 12.0
GRAPH_MIB_PER_BLOCK = 2.6  # a session's own structures, for one pass through one block
ACTIVATION_FACTOR = 2.0  # no arena, default malloc

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
    calls = len(spec.exits_within(depth)) * STAGE_CALL_MS * REFERENCE_MIPS / rates.scalar_mips
    time = forward_ms(spec, depth, rates, rates.int8_speedup).value + calls
    return Estimate(max(time, weight_traffic_ms(spec, depth, rates)), rates.rel_sigma)


def train_sample_ms(spec: ModelSpec, depth: int, models: int, rates: Rates) -> Estimate:
    """One sample of one training step, float32, in milliseconds."""
    forward = forward_ms(spec, depth, rates)
    return Estimate(forward.value * TRAIN_OVER_FORWARD * STEP_PASSES[models], rates.rel_sigma)


def train_round_s(sample_ms: Estimate, samples: int, batch: int, epochs: int) -> Estimate:
    """Local training of one round in seconds; a short last batch costs as much as a full one."""
    rows = math.ceil(samples / batch) * batch * epochs
    return Estimate(sample_ms.value * rows / 1e3, sample_ms.rel_sigma)


def activation_mib(spec: ModelSpec, depth: int, batch: int) -> float:
    """Float32 values that one pass keeps for backward: 16 D + H T a token and block."""
    values = spec.tokens * batch * (16 * spec.width + spec.heads * spec.tokens) * depth
    return 4 * values / 2**20


def client_peak_mib(spec: ModelSpec, depth: int, models: int, batch: int) -> Estimate:
    """Peak resident memory of a training client in MiB, before any safety margin."""
    passes = MEMORY_PASSES[models]
    weights = 4 * parameters(spec, depth) * WEIGHT_COPIES[models] / 2**20
    graph = TRAIN_HEAP_MIB + GRAPH_MIB_PER_BLOCK * depth * passes
    activations = ACTIVATION_FACTOR * passes * activation_mib(spec, depth, batch)
    return Estimate(CLIENT_BASE_MIB + graph + weights + activations)


def memory_to_reserve_mib(peak: Estimate, available_mib: int) -> float:
    """What must be free for that peak: 15 % more, and 64 MiB or a tenth of a small board."""
    reserve = min(MEMORY_ABSOLUTE_MARGIN_MIB, MEMORY_ABSOLUTE_SHARE * available_mib)
    return peak.value * MEMORY_RELATIVE_MARGIN + reserve


def download_bytes(spec: ModelSpec, depth: int) -> int:
    """Shared weights of one round, float32."""
    return 4 * parameters(spec, depth)


def update_bytes(spec: ModelSpec, depth: int, codec: str) -> int:
    """One coded update, before zstd."""
    return math.ceil(parameters(spec, depth) * CODEC_BITS[codec] / 8)


def transfer_s(payload_bytes: int, rate_mbps: float) -> float:
    """Seconds to move one round's bytes over a link of this vendor throughput."""
    return 8 * payload_bytes / (USABLE_RATE * rate_mbps * 1e6) + ROUND_TRIPS * ROUND_TRIP_S


def disk_bytes(spec: ModelSpec, depth: int, bits: int) -> int:
    """Free bytes needed: the sub-model twice (atomic swap), the training state, a reserve."""
    state = 4 * parameters(spec, depth) * WEIGHT_COPIES[2]
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

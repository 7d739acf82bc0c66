"""Which sub-model a device gets: the best that fits its budget, and why not the next better one.

Pure and exhaustive: every (exit depth, bits, models, batch) is held against hard constraints with
margins, and the first that fits in order of expected quality wins: deeper, then more bits, then
a personal model beside the shared one, then a larger batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from devices import cost
from devices.capability import Capability, capability_of
from devices.profile import DeviceProfile
from reefleet.errors import ConfigError, NoFeasiblePlan
from reefleet.model import ModelSpec
from reefleet.plan import SubmodelPlan
from reefleet.settings import within

# From these vendor rates on, an upload may be as exact as that; slower links send fewer bits.
FLOAT16_MBPS = 800.0
INT8_MBPS = 80.0
CODEBOOK_BITS = 4


@dataclass(frozen=True, slots=True)
class Budget:
    """What an operator grants a device. Shares are of what the device has free.

    `latency_ms` bounds one answer at full depth (None: unbounded), `model_share` the packed
    sub-model in memory, `memory_share` the training client, `round_deadline_s` the download,
    local training and upload of one round. `default_samples` counts where a device does not say.
    """

    latency_ms: float | None = None
    memory_share: float = within(0.75, 0.01, 1.0)
    model_share: float = within(0.02, 1e-6, 1.0)
    storage_share: float = within(0.5, 0.01, 1.0)
    round_deadline_s: float = within(600.0, 0.001, 1e6)
    local_epochs: int = within(1, 1, 1000)
    default_samples: int = within(1000, 1, 10**9)
    min_bits: int = within(2, 1, 8)
    max_bits: int = within(8, 1, 8)
    max_models: int = within(2, 1, 2)
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)

    def __post_init__(self) -> None:
        """Refuse a budget that no device can meet, naming the value."""
        if self.latency_ms is not None and not self.latency_ms > 0:
            msg = f"latency_ms is {self.latency_ms}; it must be positive"
            raise ConfigError(msg)
        if self.min_bits > self.max_bits:
            msg = f"min_bits {self.min_bits} is above max_bits {self.max_bits}"
            raise ConfigError(msg)
        if not self.batch_sizes or not all(1 <= size <= 1024 for size in self.batch_sizes):
            msg = f"batch_sizes {self.batch_sizes} must hold sizes from 1 to 1024"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One choice; fields run from the weightiest to the least, so that tuples sort by quality."""

    exit_depth: int
    bits: int
    models: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class Constraint:
    """One bound and what a candidate needs of it, margins included. `setting` is what to relax."""

    what: str
    need: float
    limit: float
    unit: str
    setting: str
    granted: float

    @property
    def ratio(self) -> float:
        """Need over limit; above 1 the candidate does not fit."""
        return self.need / self.limit if self.limit > 0 else float("inf")

    @property
    def broken(self) -> bool:
        """True where the candidate does not fit."""
        return self.need > self.limit

    def refusal(self) -> str:
        """What broke and by how much."""
        over = f"{_figure(self.need - self.limit)} {self.unit} too much"
        return f"{self.what} {_figure(self.need)} of {_figure(self.limit)} {self.unit}, {over}"

    def relaxation(self) -> str:
        """The least change of the budget that would let the candidate fit."""
        wanted = self.granted * self.ratio
        if self.setting.endswith("_share") and wanted > 1:
            return f"the board is too small: {self.what} {_figure(self.need)} {self.unit}"
        return f"raise {self.setting} from {_figure(self.granted)} to {_rounded_up(wanted):g}"


def plan_for(profile: DeviceProfile, spec: ModelSpec, budget: Budget) -> SubmodelPlan:
    """The best plan that fits; raises NoFeasiblePlan or UnknownBoard, ConfigError for the spec."""
    device = capability_of(profile)
    for candidate in _candidates(spec, budget):
        constraints = constraints_of(device, spec, budget, candidate)
        if not any(constraint.broken for constraint in constraints):
            return _plan(device, spec, budget, candidate)
    raise _nothing_fits(device, spec, budget)


def constraints_of(
    device: Capability, spec: ModelSpec, budget: Budget, candidate: Candidate
) -> tuple[Constraint, ...]:
    """Every bound of the budget against one candidate."""
    depth, models = candidate.exit_depth, candidate.models
    peak = cost.client_peak_mib(spec, depth, models, candidate.batch_size)
    available = device.memory_available_mib
    found = [
        Constraint(
            "training takes",
            cost.memory_to_reserve_mib(peak, available),
            budget.memory_share * available,
            "MiB of memory",
            "memory_share",
            budget.memory_share,
        ),
        Constraint(
            "the packed sub-model takes",
            cost.packed_size(spec, depth, candidate.bits) / 1024,
            budget.model_share * available * 1024,
            "KiB",
            "model_share",
            budget.model_share,
        ),
        Constraint(
            "a round takes",
            _round_s(device, spec, budget, candidate),
            budget.round_deadline_s,
            "s",
            "round_deadline_s",
            budget.round_deadline_s,
        ),
    ]
    if budget.latency_ms is not None:
        need = cost.answer_ms(spec, depth, device.rates).upper()
        limit = budget.latency_ms
        found.append(Constraint("an answer takes", need, limit, "ms", "latency_ms", limit))
    if device.storage_free_bytes is not None:
        need = cost.disk_bytes(spec, depth, candidate.bits) / 2**20
        limit = budget.storage_share * device.storage_free_bytes / 2**20
        share = budget.storage_share
        found.append(
            Constraint("files take", need, limit, "MiB of storage", "storage_share", share)
        )
    return tuple(found)


def _round_s(device: Capability, spec: ModelSpec, budget: Budget, candidate: Candidate) -> float:
    depth = candidate.exit_depth
    samples = device.train_samples or budget.default_samples
    sample = cost.train_sample_ms(spec, depth, candidate.models, device.rates)
    training = cost.train_round_s(sample, samples, candidate.batch_size, budget.local_epochs)
    codec = _codec(device, candidate.bits)
    payload = cost.download_bytes(spec, depth) + cost.update_bytes(spec, depth, codec)
    return training.upper() + cost.transfer_s(payload, device.network_mbps)


def _codec(device: Capability, bits: int) -> str:
    if device.network_mbps >= FLOAT16_MBPS:
        return "float16"
    if device.network_mbps < INT8_MBPS and bits <= CODEBOOK_BITS:
        return "codebook4"
    return "int8"


def _candidates(spec: ModelSpec, budget: Budget) -> Iterator[Candidate]:
    """All choices, best first."""
    bits = range(budget.max_bits, budget.min_bits - 1, -1)
    models = range(budget.max_models, 0, -1)
    batches = sorted(set(budget.batch_sizes), reverse=True)
    for depth, width, count, batch in product(reversed(spec.exits), bits, models, batches):
        yield Candidate(depth, width, count, batch)


def _easiest(spec: ModelSpec, budget: Budget) -> Candidate:
    return Candidate(spec.exits[0], budget.min_bits, 1, min(budget.batch_sizes))


def _plan(device: Capability, spec: ModelSpec, budget: Budget, chosen: Candidate) -> SubmodelPlan:
    codec = _codec(device, chosen.bits)
    why = (
        _choice(device, spec, budget, chosen),
        *_refusals(device, spec, budget, chosen),
        _codec_line(device, chosen.bits, codec),
        _basis_line(device),
    )
    return SubmodelPlan(
        exit_depth=chosen.exit_depth,
        bits=chosen.bits,
        batch_size=chosen.batch_size,
        local_epochs=budget.local_epochs,
        models=chosen.models,
        codec=codec,
        why=why,
    )


def _choice(device: Capability, spec: ModelSpec, budget: Budget, chosen: Candidate) -> str:
    constraints = constraints_of(device, spec, budget, chosen)
    tightest = max(constraints, key=lambda constraint: constraint.ratio)
    spent = f"{_figure(tightest.need)} of {_figure(tightest.limit)} {tightest.unit}"
    return (
        f"chosen: depth {chosen.exit_depth} of {spec.depth}, {_bits(chosen.bits)}, "
        f"{_models(chosen.models)}, batch {chosen.batch_size}; "
        f"the tightest bound: {tightest.what} {spent}"
    )


def _refusals(
    device: Capability, spec: ModelSpec, budget: Budget, chosen: Candidate
) -> Iterator[str]:
    """One line for each better neighbour, in its easiest form, with the bounds it breaks."""
    depth, bits, models = chosen.exit_depth, chosen.bits, chosen.models
    least, small = budget.min_bits, min(budget.batch_sizes)
    neighbours = [
        (f"depth {deeper}", Candidate(deeper, least, 1, small))
        for deeper in spec.exits
        if deeper > depth
    ][:1]
    if bits < budget.max_bits:
        neighbours.append((_bits(bits + 1), Candidate(depth, bits + 1, 1, small)))
    if models < budget.max_models:
        neighbours.append((_models(models + 1), Candidate(depth, bits, models + 1, small)))
    for batch in sorted(set(budget.batch_sizes)):
        if batch > chosen.batch_size:
            neighbours.append((f"batch {batch}", Candidate(depth, bits, models, batch)))
            break
    for name, neighbour in neighbours:
        broken = _broken(device, spec, budget, neighbour)
        yield f"not {name}: {'; '.join(constraint.refusal() for constraint in broken)}"


def _codec_line(device: Capability, bits: int, codec: str) -> str:
    link = "cable" if device.wired else "radio"
    rate = f"{device.network_mbps:.0f} Mbit/s by {link}"
    if codec == "float16":
        return f"uploads as {codec}: {rate} needs no coarser code"
    if codec == "int8":
        return f"uploads as {codec}: {rate} is too slow for float16 to be free"
    return f"uploads as {codec}: {rate} is slow, and its own weights have {_bits(bits)}"


def _basis_line(device: Capability) -> str:
    sigma = f"{device.rates.rel_sigma * 100:.0f} %"
    line = f"times are {device.basis}, sigma {sigma}, taken {cost.MARGIN_Z} sigma high"
    return "; ".join((line, *(f"assumed {what}" for what in device.assumed)))


def _nothing_fits(device: Capability, spec: ModelSpec, budget: Budget) -> NoFeasiblePlan:
    easiest = _easiest(spec, budget)
    broken = _broken(device, spec, budget, easiest)
    refused = "; ".join(constraint.refusal() for constraint in broken)
    relaxed = " and ".join(constraint.relaxation() for constraint in broken)
    msg = (
        f"no sub-model fits {device.board}: even depth {easiest.exit_depth} with "
        f"{_bits(easiest.bits)} and batch {easiest.batch_size} breaks the budget "
        f"({refused}); {relaxed}"
    )
    return NoFeasiblePlan(msg)


def _broken(
    device: Capability, spec: ModelSpec, budget: Budget, candidate: Candidate
) -> list[Constraint]:
    """The bounds that a candidate breaks, worst first."""
    constraints = constraints_of(device, spec, budget, candidate)
    broken = [constraint for constraint in constraints if constraint.broken]
    return sorted(broken, key=lambda constraint: -constraint.ratio)


def _bits(count: int) -> str:
    return "1 bit" if count == 1 else f"{count} bits"


def _models(count: int) -> str:
    return "one model" if count == 1 else "two models"


def _rounded_up(value: float) -> float:
    """The next number of three significant digits that is not below `value`."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{math.ceil(value / step * (1 + 1e-9)) * step:.3g}")


def _figure(value: float) -> str:
    """Three significant digits, never in powers of ten for the sizes met here."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"

"""The budget's hard bounds against every candidate at once, margins included."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from coordinator.planner.options import CODECS, LOAD, MODELS, Choice, Figures, Options, placed
from coordinator.planner.text import figure, rounded_up
from devices import cost
from devices.capability import Capability
from devices.cost import Rates
from devices.speed import Speed, step_features, step_ms
from reefleet.model import ModelSpec

# From these vendor rates on, an upload may be as exact as that; slower links send fewer bits.
FLOAT16_MBPS = 800.0
INT8_MBPS = 80.0
CODEBOOK_BITS = 4


@dataclass(frozen=True, slots=True)
class Caution:
    """Factors on predicted time and memory that a device's own rounds have taught."""

    time: float = 1.0
    memory: float = 1.0


TRUST = Caution()


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
        return self.need / self.limit if self.limit > 0 else math.inf

    @property
    def broken(self) -> bool:
        """True where the candidate does not fit."""
        return self.need > self.limit

    @property
    def mendable(self) -> bool:
        """True where a larger setting would let the candidate fit; no share can be above all."""
        return not self.setting.endswith("_share") or self.granted * self.ratio <= 1

    def refusal(self) -> str:
        """What broke and by how much."""
        over = f"{figure(self.need - self.limit)} {self.unit} too much"
        return f"{self.what} {figure(self.need)} of {figure(self.limit)} {self.unit}, {over}"

    def relaxation(self) -> str:
        """The least change of the budget that would let the candidate fit."""
        if not self.mendable:
            return f"the board is too small: {self.what} {figure(self.need)} {self.unit}"
        wanted = rounded_up(self.granted * self.ratio)
        return f"raise {self.setting} from {figure(self.granted)} to {wanted:g}"


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """One constraint for all candidates; `needs` are figures as `Options` has them."""

    what: str
    unit: str
    setting: str
    granted: float
    limit: float
    needs: Figures

    def ratios(self) -> Figures:
        """Need over limit, shaped as the needs; infinite where no setting could mend it."""
        if self.limit <= 0:
            return np.full_like(self.needs, np.inf)
        ratio: Figures = self.needs / self.limit
        if self.setting.endswith("_share"):
            ratio = np.where(self.granted * ratio > 1, np.inf, ratio)
        return ratio

    def of(self, options: Options, candidate: int) -> Constraint:
        """This bound against one candidate, by its place in the options."""
        need = options.at(self.needs, candidate)
        return Constraint(self.what, need, self.limit, self.unit, self.setting, self.granted)


def fitting(bounds: Sequence[Bound], options: Options) -> NDArray[np.bool_]:
    """Which candidates keep every bound, from the best."""
    kept = np.ones(options.shape, bool)
    for bound in bounds:
        kept &= bound.needs <= bound.limit
    ranked: NDArray[np.bool_] = kept.ravel()[options.order]
    return ranked


def bounds_of(device: Capability, options: Options, caution: Caution = TRUST) -> tuple[Bound, ...]:
    """Every bound that the budget sets and the device's figures can be held to."""
    return (
        *_memory(device, options, caution),
        *_round(device, options, caution),
        *_answer(device, options),
        *_storage(device, options),
    )


def allowed(device: Capability, options: Options) -> NDArray[np.bool_]:
    """Candidates that can be built, with codecs no finer than the link bears without thought."""
    return options.possible & _no_finer(options, finest_codec(device, 1), finest_codec(device, 8))


def finest_codec(device: Capability, bits: int) -> str:
    """The most exact upload codec that the device's link and its own bits make worthwhile."""
    if device.network_mbps >= FLOAT16_MBPS:
        return "float16"
    if device.network_mbps < INT8_MBPS and bits <= CODEBOOK_BITS:
        return "codebook4"
    return "int8"


def round_seconds(device: Capability, options: Options, caution: Caution = TRUST) -> Figures:
    """Upper bound of one round in seconds."""
    moved = cost.transfer_s(options.payload_bytes, device.network_mbps)
    total: Figures = (_training_s(device, options) + moved) * caution.time
    return total


def round_joules(device: Capability, options: Options) -> Figures | None:
    """Energy of one round above idle; None where nobody knows the board's draw."""
    if device.busy_w is None:
        return None
    return cost.energy_j(round_seconds(device, options), device.busy_w)


def _memory(device: Capability, options: Options, caution: Caution) -> Iterator[Bound]:
    available, budget = device.memory_available_mib, options.budget
    yield Bound(
        "training takes",
        "MiB of memory",
        "memory_share",
        budget.memory_share,
        budget.memory_share * available,
        cost.memory_to_reserve_mib(options.peak_mib * caution.memory, available),
    )
    yield Bound(
        "the packed sub-model takes",
        "KiB",
        "model_share",
        budget.model_share,
        budget.model_share * available * 1024,
        options.packed_kib,
    )


def _round(device: Capability, options: Options, caution: Caution) -> Iterator[Bound]:
    budget = options.budget
    limit = budget.round_deadline_s
    needs = round_seconds(device, options, caution)
    yield Bound("a round takes", "s", "round_deadline_s", limit, limit, needs)
    if (most := budget.round_mib) is not None:
        mib = options.payload_bytes / 2**20
        yield Bound("a round moves", "MiB", "round_mib", most, most, mib)
    joules = round_joules(device, options)
    if (most := budget.energy_j) is not None and joules is not None:
        yield Bound("a round draws", "J", "energy_j", most, most, joules)


def _answer(device: Capability, options: Options) -> Iterator[Bound]:
    if (most := options.budget.latency_ms) is not None:
        needs = _answer_ms(options.spec, device.rates, options.budget.runtime)
        yield Bound("an answer takes", "ms", "latency_ms", most, most, needs)


def _storage(device: Capability, options: Options) -> Iterator[Bound]:
    if device.storage_free_bytes is not None:
        share = options.budget.storage_share
        limit = share * device.storage_free_bytes / 2**20
        yield Bound(
            "files take",
            "MiB of storage",
            "storage_share",
            share,
            limit,
            options.disk_mib,
        )


def _training_s(device: Capability, options: Options) -> Figures:
    """Upper bound of local training."""
    budget = options.budget
    samples = device.train_samples or budget.default_samples
    efforts = np.array(budget.efforts)
    steps = np.ceil(np.ceil(samples / np.array(budget.batches))[:, None] * efforts)
    speed = device.rates.measured
    one = _measured_ms(options, speed) if speed else _step_ms(options, device.rates)
    seconds: Figures = one * placed(steps, Choice.BATCH, Choice.EPOCHS) / 1e3
    return seconds


@lru_cache(maxsize=64)
def _no_finer(options: Options, coarse: str, fine: str) -> NDArray[np.bool_]:
    few = np.array([width.bits <= CODEBOOK_BITS for width in options.widths])
    first = np.where(few, CODECS.index(coarse), CODECS.index(fine))
    kept: NDArray[np.bool_] = options.rows[Choice.CODEC] >= first[options.rows[Choice.WIDTH]]
    return kept


@lru_cache(maxsize=4096)
def _step_ms(options: Options, rates: Rates) -> Figures:
    """Upper bound of a step by a board's prior."""
    spec, budget = options.spec, options.budget
    loads = (spec.exits, MODELS[: budget.max_models], budget.trained, budget.batches)
    extents = tuple(map(len, loads))
    found = [
        cost.train_step_ms(spec, d, m, 8, b, rates, trained=t).upper()
        for d, m, t, b in product(*loads)
    ]
    return placed(np.reshape(found, extents), *LOAD)


def _measured_ms(options: Options, speed: Speed) -> Figures:
    """As `_step_ms`; a measured board also knows what bits cost."""
    found = step_ms(speed, _features(options)) * (1 + cost.MARGIN_Z * speed.step_sigma)
    return placed(found, *LOAD, Choice.WIDTH)


@lru_cache(maxsize=64)
def _features(options: Options) -> Figures:
    """Features of every step, on the last axis."""
    spec, budget = options.spec, options.budget
    loads = (MODELS[: budget.max_models], budget.trained, budget.batches)
    found = [
        step_features(spec, d, m, width.mean[e], b, t)
        for (e, d), m, t, b in product(enumerate(spec.exits), *loads)
        for width in options.widths
    ]
    return np.reshape(found, (len(spec.exits), *map(len, loads), len(options.widths), -1))


@lru_cache(maxsize=4096)
def _answer_ms(spec: ModelSpec, rates: Rates, runtime: str) -> Figures:
    found = [cost.answer_ms(spec, depth, rates, runtime).upper() for depth in spec.exits]
    return placed(found, Choice.DEPTH)

"""From the stored updates of a round to the model after it: shortened, folded, stepped.

Updates are taken in the store's order and one at a time, so the result depends on nothing but what
is stored. An update s versions behind counts (1 + s) ** -p of its length (FedBuff, Nguyen et al.
2022, section 3.2).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from coordinator import records as r
from coordinator.round_policy import RoundPolicy
from coordinator.versions import Model, Versions
from reefleet.aggregation.krum import Krum
from reefleet.aggregation.mean import HolderMean
from reefleet.aggregation.robust import TrimmedMean, median
from reefleet.model import Shape
from reefleet.wire.packed import PackedFile

MOST_THREADS = 4  # more would only wait for memory

Scaled = tuple[r.Update, float]  # an update, and how much of its length counts


@dataclass(frozen=True, slots=True)
class Folded:
    """A model and what its optimizer remembers, both after `updates` updates."""

    model: Model
    memory: Model
    updates: int


def fold(
    versions: Versions, policy: RoundPolicy, current: r.Round, updates: list[r.Update]
) -> Folded | None:
    """What `updates` make of the round's base version; None where there are none."""
    if not updates:
        return None
    model = versions.load(current.base_version)
    scales = _scales(versions, policy, current, updates)
    moves = _moves(versions, policy, model, list(zip(updates, scales, strict=True)))
    memory = versions.load_memory(current.base_version)
    moved, kept = policy.optimizer.step(model, moves, memory)
    for update in updates:  # nobody reads them again
        versions.blobs.set_aside(update.artifact.sha256)
    return Folded(moved, kept, len(updates))


def _moves(
    versions: Versions,
    policy: RoundPolicy,
    model: PackedFile,
    updates: list[Scaled],
) -> Model:
    if policy.rule == "mean":
        return _mean(versions, model, updates)
    robust = _robust_rule(policy)
    gathered = robust.init(model)
    for update, scale in updates:
        gathered = robust.fold(gathered, _opened(versions, update, scale))
    return robust.moves(gathered)


def _mean(versions: Versions, model: PackedFile, updates: list[Scaled]) -> Model:
    """The mean move, a part of the tensors on each processor."""
    rule = HolderMean()

    def part(names: frozenset[str]) -> Model:
        state = rule.init(model.only(names))
        for update, scale in updates:
            # One tensor is read at a time, so that a round needs two models' memory and no more.
            opened = _opened(versions, update, scale).only(names)
            state = rule.fold(state, opened, float(update.samples))
        return rule.moves(state)

    shares = _shares(model.shapes, min(MOST_THREADS, os.cpu_count() or 1))
    with ThreadPoolExecutor(len(shares)) as pool:
        return {name: move for found in pool.map(part, shares) for name, move in found.items()}


def _shares(shapes: Mapping[str, Shape], count: int) -> list[frozenset[str]]:
    """All names in `count` parts of about as many values each."""
    shares: list[set[str]] = [set() for _ in range(count)]
    sizes = [0] * count
    for name in sorted(shapes, key=lambda name: math.prod(shapes[name]), reverse=True):
        least = sizes.index(min(sizes))
        shares[least].add(name)
        sizes[least] += math.prod(shapes[name])
    return [frozenset(share) for share in shares if share]


def _opened(versions: Versions, update: r.Update, scale: float) -> PackedFile:
    path = versions.blobs.checked(update.artifact.sha256)
    # Two devices may send equal bytes: a lease tells them apart.
    key = f"{update.device_id} {update.artifact.sha256} {update.lease}"
    return PackedFile(path, key, versions.expected(update), scale)


def _robust_rule(policy: RoundPolicy) -> TrimmedMean | Krum:
    if policy.rule == "krum":
        return Krum(policy.krum_bad_share, policy.krum_keep)
    return TrimmedMean(policy.trim) if policy.rule == "trimmed-mean" else median()


def _scales(
    versions: Versions, policy: RoundPolicy, current: r.Round, updates: list[r.Update]
) -> list[float]:
    clipping = policy.clipping
    recent = []
    if clipping.median_of:
        recent = versions.store.recent_rms(current.number, clipping.median_of)
    scales = []
    for update in updates:
        values = sum(math.prod(shape) for shape in versions.expected(update).values())
        behind = max(0, current.base_version - update.base_version)
        scale = clipping.scale(update.rms, values, recent)
        scales.append(scale * (1 + behind) ** -policy.staleness_power if behind else scale)
    return scales

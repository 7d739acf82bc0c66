"""From the stored updates of a round to the model after it: shortened, folded, stepped.

Updates are taken in the store's order and one at a time, so the result depends on nothing but what
is stored. An update s versions behind counts (1 + s) ** -p of its length (FedBuff, Nguyen et al.
2022, section 3.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from coordinator import records as r
from coordinator.round_policy import RoundPolicy
from coordinator.versions import Model, Tensors, Versions
from reefleet.aggregation.krum import Krum
from reefleet.aggregation.mean import HolderMean
from reefleet.aggregation.robust import TrimmedMean, median
from reefleet.wire.packed import PackedFile


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
    versions: Versions, policy: RoundPolicy, model: Tensors, updates: list[tuple[r.Update, float]]
) -> Model:
    if policy.rule == "mean":
        return _mean(versions, model, updates)
    robust = _robust_rule(policy)
    gathered = robust.init(model)
    for update, scale in updates:
        gathered = robust.fold(gathered, _opened(versions, update, scale))
    return robust.moves(gathered)


def _mean(versions: Versions, model: Tensors, updates: list[tuple[r.Update, float]]) -> Model:
    rule = HolderMean()
    state = rule.init(model)
    for update, scale in updates:
        # One tensor is read at a time, so that a round needs two models' memory and no more.
        state = rule.fold(state, _opened(versions, update, scale), float(update.samples))
    return rule.moves(state)


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

"""Why a device got its plan: the binding bound, the runner-up, and what spoke against the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.planner.bounds import finest_codec
from coordinator.planner.options import Candidate
from coordinator.planner.solve import Decision, broken_bounds, closest
from coordinator.planner.text import bits_text, figure, models_text
from devices import cost
from reefleet.plan import SubmodelPlan


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one depth and bit-width: `reason` is '' for the chosen one."""

    exit_depth: int
    bits: int
    expected_accuracy: float
    fits: bool
    reason: str


def explained(decision: Decision) -> SubmodelPlan:
    """The decision as a plan whose `why` says it all in sentences."""
    chosen = decision.candidate
    why = (
        _choice(decision),
        binding(decision),
        runner_up(decision),
        *_refusals(decision),
        _codec_line(decision),
        *_energy_line(decision),
        _basis_line(decision),
    )
    return SubmodelPlan(
        exit_depth=chosen.exit_depth,
        bits=chosen.bits,
        batch_size=chosen.batch_size,
        local_epochs=chosen.local_epochs,
        models=chosen.models,
        codec=chosen.codec,
        why=why,
    )


def binding(decision: Decision) -> str:
    """Which setting keeps the device from more accuracy, and what raising it would give."""
    accuracy = decision.options.accuracy
    better = decision.open & (accuracy > accuracy[decision.chosen])
    if not better.any():
        return "binding: nothing; no option has a higher expected accuracy"
    nearest = closest(decision.options, decision.bounds, better)
    if not better[nearest]:
        return "binding: the board itself; no setting gives a higher expected accuracy"
    broken = broken_bounds(decision.options, decision.bounds, nearest)
    settings = " and ".join(constraint.setting for constraint in broken)
    raised = " and ".join(constraint.relaxation() for constraint in broken)
    return (
        f"binding: {settings}; {raised} for {_words(decision.options.candidates[nearest])}, "
        f"expected accuracy {accuracy[nearest]:.3f}"
    )


def runner_up(decision: Decision) -> str:
    """The best fitting option of another depth or bit-width."""
    chosen = decision.candidate
    options = decision.options
    other = decision.fitting & (
        (options.bits != chosen.bits) | (options.depth_row != options.depth_row[decision.chosen])
    )
    second = int(other.argmax())
    if not other[second]:
        return "runner-up: none; no other depth or bit-width fits"
    return (
        f"runner-up: {_words(options.candidates[second])}, "
        f"expected accuracy {options.accuracy[second]:.3f}"
    )


def verdicts(decision: Decision) -> tuple[Verdict, ...]:
    """Every depth and bit-width of the options, deepest first, and what spoke against it."""
    options = decision.options
    spec, budget = options.spec, options.budget
    found = []
    for place, depth in reversed(list(enumerate(spec.exits))):
        for bits in reversed(budget.bits):
            among = (options.depth_row == place) & (options.bits == bits)
            fits = decision.fitting & among
            accuracy = options.table.expected(depth, bits)
            chosen = (depth, bits) == (decision.candidate.exit_depth, decision.candidate.bits)
            reason = "" if chosen else _against(decision, among)
            found.append(Verdict(depth, bits, accuracy, bool(fits.any()), reason))
    return tuple(found)


def _choice(decision: Decision) -> str:
    chosen = decision.candidate
    tightest = max(decision.constraints(decision.chosen), key=lambda constraint: constraint.ratio)
    spent = f"{figure(tightest.need)} of {figure(tightest.limit)} {tightest.unit}"
    return (
        f"chosen: depth {chosen.exit_depth} of {decision.options.spec.depth}, "
        f"{bits_text(chosen.bits)}, {models_text(chosen.models)}, batch {chosen.batch_size}; "
        f"expected accuracy {decision.expected_accuracy:.3f} "
        f"({decision.options.table.source}); the tightest bound: {tightest.what} {spent}"
    )


def _refusals(decision: Decision) -> Iterator[str]:
    """One line for each next better value of depth, bits, models, batch and epochs."""
    chosen, options = decision.candidate, decision.options
    budget = options.budget
    same_depth = options.depth_row == options.depth_row[decision.chosen]
    same_size = same_depth & (options.bits == chosen.bits)
    models = np.array([c.models for c in options.candidates])
    batches = np.array([c.batch_size for c in options.candidates])
    if decision.candidate.exit_depth < options.spec.depth:
        place = int(options.depth_row[decision.chosen]) + 1
        name = f"depth {options.spec.exits[place]}"
        yield f"not {name}: {_against(decision, options.depth_row == place)}"
    if chosen.bits < budget.max_bits:
        more = same_depth & (options.bits == chosen.bits + 1)
        yield f"not {bits_text(chosen.bits + 1)}: {_against(decision, more)}"
    if chosen.models < budget.max_models:
        yield f"not two models: {_against(decision, same_size & (models == 2))}"
    for batch in budget.batches:
        if batch > chosen.batch_size:
            larger = same_size & (models == chosen.models) & (batches == batch)
            yield f"not batch {batch}: {_against(decision, larger)}"
            break


def _against(decision: Decision, among: NDArray[np.bool_]) -> str:
    """What the best of some candidates lacks: accuracy where it fits, else what it breaks."""
    options = decision.options
    fitting = decision.fitting & among
    best = int(fitting.argmax())
    if fitting[best]:
        lower = options.accuracy[best] < decision.expected_accuracy
        least = f"{options.accuracy[best]:.4f}"
        return f"fits, but expects {least}" if lower else "fits, but gives up more elsewhere"
    admitted = decision.open & among
    nearest = closest(decision.options, decision.bounds, admitted)
    if not admitted[nearest]:
        nearest = int(admitted.argmax())
    broken = broken_bounds(decision.options, decision.bounds, nearest)
    return "; ".join(constraint.refusal() for constraint in broken)


def _codec_line(decision: Decision) -> str:
    device, chosen = decision.device, decision.candidate
    link = "cable" if device.wired else "radio"
    rate = f"{device.network_mbps:.0f} Mbit/s by {link}"
    if chosen.codec != finest_codec(device, chosen.bits):
        return f"uploads as {chosen.codec}: the budget bears no finer code over {rate}"
    if chosen.codec == "float16":
        return f"uploads as {chosen.codec}: {rate} needs no coarser code"
    if chosen.codec == "int8":
        return f"uploads as {chosen.codec}: {rate} is too slow for float16 to be free"
    own = f"its own weights have {bits_text(chosen.bits)}"
    return f"uploads as {chosen.codec}: {rate} is slow, and {own}"


def _energy_line(decision: Decision) -> Iterator[str]:
    if decision.options.budget.energy_j is not None and decision.device.busy_w is None:
        yield f"energy_j is not applied: nobody knows what {decision.device.board} draws under load"


def _basis_line(decision: Decision) -> str:
    device = decision.device
    sigma = f"{device.rates.rel_sigma * 100:.0f} %"
    line = f"times are {device.basis}, sigma {sigma}, taken {cost.MARGIN_Z} sigma high"
    return "; ".join((line, *(f"assumed {what}" for what in device.assumed)))


def _words(candidate: Candidate) -> str:
    return (
        f"depth {candidate.exit_depth} with {bits_text(candidate.bits)}, "
        f"{models_text(candidate.models)} and batch {candidate.batch_size}"
    )

"""Why a device got its plan: the binding bound, the runner-up, and what spoke against the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coordinator.planner.bounds import finest_codec
from coordinator.planner.options import Candidate, Choice
from coordinator.planner.solve import Decision, broken_bounds, closest, decide
from coordinator.planner.text import bits_text, epochs_text, figure, models_text, width_text
from devices import cost
from reefleet.plan import SubmodelPlan


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one depth and width: `reason` is '' for the chosen one."""

    exit_depth: int
    bits: float
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
        *_effort_line(decision),
        _codec_line(decision),
        *_energy_line(decision),
        *_doubt_line(decision),
        _basis_line(decision),
    )
    return SubmodelPlan(
        exit_depth=chosen.exit_depth,
        bits=chosen.bits,
        batch_size=chosen.batch_size,
        local_epochs=max(1, int(chosen.epochs)),
        models=chosen.models,
        codec=chosen.codec,
        why=why,
        layer_bits=chosen.layer_bits,
        trained=chosen.trained,
        local_steps=local_steps(decision),
    )


def local_steps(decision: Decision) -> int:
    """Steps after which a round's training ends; 0 where it takes whole epochs."""
    chosen, device = decision.candidate, decision.device
    if chosen.epochs >= 1:
        return 0
    samples = device.train_samples or decision.options.budget.default_samples
    return cost.train_steps(samples, chosen.batch_size, chosen.epochs)


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
        f"binding: {settings}; {raised} for {words_of(decision.options.candidates[nearest])}, "
        f"expected accuracy {accuracy[nearest]:.3f}"
    )


def runner_up(decision: Decision) -> str:
    """The best fitting option of another depth or bit-width."""
    options = decision.options
    other = decision.fitting & ~options.alike(decision.chosen, Choice.DEPTH, Choice.WIDTH)
    second = int(other.argmax())
    if not other[second]:
        return "runner-up: none; no other depth or bit-width fits"
    return (
        f"runner-up: {words_of(options.candidates[second])}, "
        f"expected accuracy {options.accuracy[second]:.3f}"
    )


def verdicts(decision: Decision) -> tuple[Verdict, ...]:
    """Every depth and bit-width of the options, deepest first, and what spoke against it."""
    options = decision.options
    depth_rows, width_rows = options.rows[Choice.DEPTH], options.rows[Choice.WIDTH]
    here = (depth_rows[decision.chosen], width_rows[decision.chosen])
    found = []
    for place, depth in reversed(list(enumerate(options.spec.exits))):
        for row, width in reversed(list(enumerate(options.widths))):
            among = (depth_rows == place) & (width_rows == row)
            fits = decision.fitting & among
            reason = "" if (place, row) == here else _against(decision, among)
            accuracy, mean = width.accuracy[place], width.mean[place]
            found.append(Verdict(depth, mean, accuracy, bool(fits.any()), reason))
    return tuple(found)


def _choice(decision: Decision) -> str:
    chosen = decision.candidate
    tightest = max(decision.constraints(decision.chosen), key=lambda constraint: constraint.ratio)
    spent = f"{figure(tightest.need)} of {figure(tightest.limit)} {tightest.unit}"
    return (
        f"chosen: depth {chosen.exit_depth} of {decision.options.spec.depth}, "
        f"{width_text(chosen)}, {models_text(chosen.models)}, batch {chosen.batch_size}; "
        f"expected accuracy {decision.expected_accuracy:.3f} "
        f"({decision.options.table.source}); the tightest bound: {tightest.what} {spent}"
    )


def _refusals(decision: Decision) -> Iterator[str]:
    """One line for each next better value of depth, bits, models, trained set, epochs, batch."""
    options, at = decision.options, decision.chosen
    budget, rows = options.budget, options.rows
    place = [int(row[at]) for row in rows]
    same = {axis: rows[axis] == place[axis] for axis in Choice}
    next_better = {axis: rows[axis] == place[axis] + 1 for axis in Choice}
    sized = same[Choice.DEPTH] & same[Choice.WIDTH]
    trained = sized & same[Choice.MODELS]
    if place[Choice.DEPTH] + 1 < len(options.spec.exits):
        deeper = f"not depth {options.spec.exits[place[Choice.DEPTH] + 1]}"
        yield f"{deeper}: {_against(decision, next_better[Choice.DEPTH])}"
    if place[Choice.WIDTH] + 1 < len(options.widths):
        more = same[Choice.DEPTH] & next_better[Choice.WIDTH]
        words = width_text(options.candidates[int(more.argmax())])
        yield f"not {words}: {_against(decision, more)}"
    if place[Choice.MODELS] + 1 < budget.max_models:
        yield f"not two models: {_against(decision, sized & next_better[Choice.MODELS])}"
    if place[Choice.TRAINED]:
        preferred = budget.trained[place[Choice.TRAINED] - 1]
        among = trained & (rows[Choice.TRAINED] == place[Choice.TRAINED] - 1)
        yield f"not training {preferred}: {_against(decision, among)}"
    if place[Choice.EPOCHS] + 1 < len(budget.efforts):
        more = trained & next_better[Choice.EPOCHS]
        words = epochs_text(budget.efforts[place[Choice.EPOCHS] + 1])
        yield f"not {words}: {_against(decision, more)}"
    if place[Choice.BATCH] + 1 < len(budget.batches):
        larger = trained & same[Choice.TRAINED] & next_better[Choice.BATCH]
        words = f"batch {budget.batches[place[Choice.BATCH] + 1]}"
        yield f"not {words}: {_against(decision, larger)}"


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


def _effort_line(decision: Decision) -> Iterator[str]:
    chosen = decision.candidate
    if steps := local_steps(decision):
        share = epochs_text(chosen.epochs)
        yield f"trains {steps} steps a round, {share}: a whole epoch misses a bound"


def _doubt_line(decision: Decision) -> Iterator[str]:
    """What the margin for uncertain times costs, where it costs accuracy."""
    device = decision.device
    certain = replace(device, rates=replace(device.rates, rel_sigma=0.0, measured=None))
    if device.rates.measured is not None:
        return
    median = decide(certain, decision.options)
    if median.expected_accuracy > decision.expected_accuracy:
        words = words_of(median.candidate)
        yield f"in doubt: were the prior's median right, {words} would fit; probe the board to know"


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


def words_of(candidate: Candidate) -> str:
    """A candidate in words."""
    return (
        f"depth {candidate.exit_depth} with {width_text(candidate)}, "
        f"{models_text(candidate.models)} and batch {candidate.batch_size}"
    )

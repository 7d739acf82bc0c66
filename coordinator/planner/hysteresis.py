"""When a device's plan changes: down at once, up slowly, and never to and fro.

A device's history is a small value folded from its rounds, so that a restart loses nothing and
replaying the same rounds gives the same plans. A missed deadline teaches that the device is slower
than predicted; finished rounds pull the lesson back towards what was measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from coordinator.planner.bounds import TRUST, Caution, bounds_of, round_seconds
from coordinator.planner.options import Candidate, Options, places
from coordinator.planner.solve import Decision, decide
from devices.capability import Capability
from devices.cost import memory_slack
from reefleet.errors import NoFeasiblePlan

# A better plan must fit with so much to spare, for so many rounds, and be worth so much.
HEADROOM = 1.2
STEADY_ROUNDS = 3
LEAST_GAIN = 0.005  # of accuracy
REST_ROUNDS = 5  # after any change, before the next step up

EWMA = 0.2
LATE_FACTOR = 1.5
MEMORY_FACTOR = 1.3
MOST_CAUTION = 64.0
FULL_TRUST = 0.02  # caution this close to 1 is none


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one round ended for a device; `seconds` is what its work took, where it finished."""

    end: Literal["done", "late", "lost", "memory"]
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What a device's rounds have taught. `steady` counts rounds in which more would have fit."""

    caution: Caution = TRUST
    steady: int = 0
    since_change: int = REST_ROUNDS


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a plan was expected to do without caution: its seconds, of how many, and its memory.

    `memory_slack` is the factor on its memory from which it would no longer fit.
    """

    seconds: float
    deadline_s: float
    memory_slack: float = 1.0


def expectation(device: Capability, options: Options, candidate: int) -> Expectation:
    """What one of the options is expected to do on a device."""
    peak, budget = options.at(options.peak_mib, candidate), options.budget
    slack = memory_slack(peak, device.memory_available_mib, budget.memory_share)
    seconds = options.at(round_seconds(device, options), candidate)
    return Expectation(seconds, budget.round_deadline_s, slack)


def observe(history: History, outcome: Outcome, expected: Expectation) -> History:
    """The history after one round with a plan of which so much was expected.

    Late or lost: at least as much caution as makes this plan miss the deadline. Out of memory: as
    much as makes it not fit. Done: caution moves a fifth of the way to what was measured, or to
    none.
    """
    predicted_s, deadline_s = expected.seconds, expected.deadline_s
    caution = history.caution
    if outcome.end in {"late", "lost"}:
        missed = 1.05 * deadline_s / predicted_s if predicted_s > 0 else 1.0
        factor = min(max(caution.time * LATE_FACTOR, missed), MOST_CAUTION)
        caution = replace(caution, time=factor)
    elif outcome.end == "memory":
        factor = max(caution.memory * MEMORY_FACTOR, 1.05 * expected.memory_slack)
        caution = replace(caution, memory=min(factor, MOST_CAUTION))
    else:
        seen = 1.0
        if outcome.seconds is not None and predicted_s > 0:
            seen = max(1.0, outcome.seconds / predicted_s)
        caution = Caution(_towards(caution.time, seen), _towards(caution.memory, 1.0))
    return replace(history, caution=caution, since_change=history.since_change + 1)


def settle(
    device: Capability, options: Options, current: Candidate | None, history: History
) -> tuple[Decision, History]:
    """The plan to go on with, and the history after choosing it; raises NoFeasiblePlan.

    Without caution something must fit; with it the smallest sub-model always may go on.
    """
    held = place_of(options, current)
    best = _decide(device, options, history.caution)
    if held is None or not _fits(best, held):
        return best, replace(history, steady=0, since_change=0)
    spare = _with_headroom(device, options, history.caution)
    gain = 0.0 if spare is None else spare.expected_accuracy - float(options.accuracy[held])
    if spare is None or gain < LEAST_GAIN:
        return replace(best, chosen=held), replace(history, steady=0)
    steady = history.steady + 1
    if steady < STEADY_ROUNDS or history.since_change < REST_ROUNDS:
        return replace(best, chosen=held), replace(history, steady=steady)
    return spare, replace(history, steady=0, since_change=0)


def follow(
    device: Capability, options: Options, outcomes: Iterable[Outcome]
) -> tuple[Decision, History]:
    """The plan and history after all of a device's rounds so far, from the first plan on."""
    decision, history = settle(device, options, None, History())
    history = replace(history, since_change=REST_ROUNDS)
    for outcome in outcomes:
        history = observe(history, outcome, expectation(device, options, decision.chosen))
        decision, history = settle(device, options, decision.candidate, history)
    return decision, history


def place_of(options: Options, candidate: Candidate | None) -> int | None:
    """Where a candidate stands among the options; None where it is none of them any more."""
    return None if candidate is None else places(options).get(candidate)


def _towards(value: float, goal: float) -> float:
    moved = value + EWMA * (goal - value)
    return 1.0 if abs(moved - 1.0) < FULL_TRUST else moved


def _fits(decision: Decision, candidate: int) -> bool:
    return bool(decision.fitting[candidate])


def _decide(device: Capability, options: Options, caution: Caution) -> Decision:
    try:
        return decide(device, options, caution)
    except NoFeasiblePlan:
        trusting = decide(device, options)  # raises where the budget itself is too tight
        rounds = options.ranked(round_seconds(device, options))
        memory = options.ranked(options.peak_mib)
        fitting = [i for i, fits in enumerate(trusting.fitting.tolist()) if fits]
        least = min(fitting, key=lambda i: (rounds[i], memory[i], i))
        only = np.arange(len(options.candidates)) == least
        bounds = bounds_of(device, options, caution)
        return replace(trusting, chosen=least, fitting=only, bounds=bounds)


def _with_headroom(device: Capability, options: Options, caution: Caution) -> Decision | None:
    """The best choice were everything a fifth dearer; None where that leaves nothing."""
    spare = Caution(caution.time * HEADROOM, caution.memory * HEADROOM)
    try:
        return decide(device, options, spare)
    except NoFeasiblePlan:
        return None

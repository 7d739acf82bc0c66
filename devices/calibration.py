"""A board's own speed from its benchmark: non-negative least squares of relative errors.

Two depths tell what a block costs, three geometries what it costs it for: dispatch, arithmetic,
values moved, weights. The fit is linear, so it extends to any depth, width, batch and bit-width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from devices import cost
from devices.cost import Speed
from devices.probe_models import PROBES
from devices.profile import DeviceProfile, Timing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Medians on networks that were not fitted, on a busy machine: 5 % for answers, 14 % for steps.
ANSWER_SIGMA = 0.10
STEP_SIGMA = 0.18
LEAST_ANSWERS, LEAST_STEPS = 4, 6


def calibrate(profile: DeviceProfile) -> Speed | None:
    """The speed that a profile's timings show; None where they are too few to tell.

    Processor time is stretched where control groups grant less than the threads would use.
    """
    known = [timing for timing in profile.timings if timing.probe in PROBES]
    answers = [timing for timing in known if timing.work == "answer"]
    steps = [timing for timing in known if timing.work != "answer"]
    if len(answers) < LEAST_ANSWERS or len(steps) < LEAST_STEPS:
        return None
    stretch = max(1.0, profile.threads / profile.cpus) if profile.cpus else 1.0
    answer, answer_sigma = _fitted(
        [_answer_row(t) for t in answers], answers, stretch, ANSWER_SIGMA
    )
    step, step_sigma = _fitted([_step_row(t) for t in steps], steps, stretch, STEP_SIGMA)
    return Speed(answer, answer_sigma, step, step_sigma)


def _answer_row(timing: Timing) -> tuple[float, ...]:
    return cost.answer_features(PROBES[timing.probe], timing.depth)


def _step_row(timing: Timing) -> tuple[float, ...]:
    _, _, bits = timing.work.rpartition("-2-")
    models = 2 if timing.work.startswith("train-2-") else 1
    width = int(bits) if models == 2 else 8
    return cost.step_features(PROBES[timing.probe], timing.depth, models, width, timing.batch)


def _fitted(
    rows: Sequence[tuple[float, ...]],
    timings: Sequence[Timing],
    stretch: float,
    least_sigma: float,
) -> tuple[tuple[float, ...], float]:
    """Weights of the features in milliseconds, and the relative sigma of what they predict."""
    import numpy as np

    taken = np.array([timing.ms * stretch for timing in timings])
    relative = np.array(rows) / taken[:, None]
    weights = nonnegative(relative, np.ones(len(taken)))
    spread = float(np.sqrt(np.mean((relative @ weights - 1) ** 2)))
    noise = sum(timing.rel_sigma for timing in timings) / len(timings)
    sigma = math.hypot(max(least_sigma, spread), min(noise, 1.0) / math.sqrt(len(timings)))
    return tuple(float(weight) for weight in weights), sigma


def nonnegative(matrix: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The x >= 0 of least |matrix x - goal|: Lawson and Hanson's active sets, for a few columns."""
    import numpy as np

    columns = matrix.shape[1]
    x = np.zeros(columns)
    active = np.zeros(columns, bool)
    for _ in range(3 * columns):
        gradient = matrix.T @ (goal - matrix @ x)
        gradient[active] = -np.inf
        best = int(gradient.argmax())
        if gradient[best] <= 1e-10:
            break
        active[best] = True
        while True:
            trial = np.zeros(columns)
            trial[active] = np.linalg.lstsq(matrix[:, active], goal, rcond=None)[0]
            falling = active & (trial <= 0)
            if not falling.any():
                break
            share = np.min(x[falling] / np.maximum(x[falling] - trial[falling], 1e-30))
            x += share * (trial - x)
            active &= x > 1e-15
            x[~active] = 0.0
        x = trial
    return x

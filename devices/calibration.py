"""A board's own speed from its benchmark: non-negative least squares of relative errors.

Two depths tell what a block costs, three geometries what it costs it for: dispatch, arithmetic,
values moved, weights. The fit is linear, so it extends to any depth, width, batch and bit-width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from devices.probe_models import PROBES
from devices.profile import DeviceProfile, Timing
from devices.speed import Speed, answer_features, spilled, step_features

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Medians on networks that were not fitted, on a busy machine, are half of these.
ANSWER_SIGMA = 0.10
STEP_SIGMA = 0.12
LEAST_ANSWERS, LEAST_STEPS = 4, 8
# Working sets from which a step may get slower: the private caches of all known boards and more.
CACHES_MB = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def calibrate(profile: DeviceProfile) -> Speed | None:
    """The speed that a profile's timings show; None where they are too few to tell.

    Processor time is stretched where control groups grant less than the threads would use.
    """
    known = [timing for timing in profile.timings if timing.probe in PROBES]
    if len(known) < LEAST_ANSWERS + LEAST_STEPS:
        return None
    stretch = max(1.0, profile.threads / profile.cpus) if profile.cpus else 1.0
    return _calibrated(tuple(known), stretch)


@lru_cache(maxsize=16384)  # a review asks for every device after every round
def _calibrated(known: tuple[Timing, ...], stretch: float) -> Speed | None:
    answers = _Fit.of(known, "answer", stretch)
    steps = _Fit.of(known, "train", stretch)
    if len(answers.timings) < LEAST_ANSWERS or len(steps.timings) < LEAST_STEPS:
        return None
    floats = _Fit.of(known, "float", stretch)
    answer, answer_spread = answers.weights(answers.rows(_answer_row))
    found = [(*steps.weights(steps.rows(partial(_step_row, mb))), mb) for mb in CACHES_MB]
    step, step_spread, cache_mb = min(found, key=lambda fit: fit[1])
    answer_float = floats.weights(floats.rows(_answer_row))[0] if floats.timings else ()
    return Speed(
        answer,
        answers.sigma(max(ANSWER_SIGMA, answer_spread)),
        step,
        steps.sigma(max(STEP_SIGMA, step_spread)),
        cache_mb,
        answer_float,
    )


def _answer_row(timing: Timing) -> tuple[float, ...]:
    return answer_features(PROBES[timing.probe], timing.depth)


def _step_row(cache_mb: float, timing: Timing) -> tuple[float, ...]:
    _, _, bits = timing.work.rpartition("-2-")
    models = 2 if timing.work.startswith("train-2-") else 1
    width = int(bits) if models == 2 else 8
    spec = PROBES[timing.probe]
    return spilled(step_features(spec, timing.depth, models, width, timing.batch), cache_mb)


@dataclass(frozen=True, slots=True)
class _Fit:
    """Timings of one kind of work, stretched."""

    timings: tuple[Timing, ...]
    stretch: float

    @classmethod
    def of(cls, timings: Sequence[Timing], kind: str, stretch: float) -> _Fit:
        """Those whose work is of a kind."""
        return cls(tuple(t for t in timings if t.work.partition("-")[0] == kind), stretch)

    def rows(self, features: Callable[[Timing], tuple[float, ...]]) -> list[tuple[float, ...]]:
        """What each is to be explained by."""
        return [features(timing) for timing in self.timings]

    def weights(self, rows: Sequence[tuple[float, ...]]) -> tuple[tuple[float, ...], float]:
        """Milliseconds of a unit of each feature, and the relative spread about what they say."""
        import numpy as np

        taken = np.array([timing.ms * self.stretch for timing in self.timings])
        relative = np.array(rows) / taken[:, None]
        found = nonnegative(relative, np.ones(len(taken)))
        spread = float(np.sqrt(np.mean((relative @ found - 1) ** 2)))
        return tuple(float(weight) for weight in found), spread

    def sigma(self, spread: float) -> float:
        """The relative sigma of what the weights predict: their spread, and the timings' noise."""
        noise = sum(timing.rel_sigma for timing in self.timings) / len(self.timings)
        return math.hypot(spread, min(noise, 1.0) / math.sqrt(len(self.timings)))


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

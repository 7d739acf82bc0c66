"""A speed that is known is found again from timings made with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from devices import catalog, cost
from devices.calibration import calibrate, nonnegative
from devices.capability import capability_of
from devices.cost import Rates
from devices.probe_models import DEPTHS, PROBES, STEPS
from devices.profile import DeviceProfile, Timing
from devices.speed import Speed
from reefleet.model import ModelSpec

TRUE = Speed(
    (0.05, 1.9, 0.2, 1.8), 0.1, (0.2, 10.0, 2.5, 0.4, 0.18, 0.5, 30.0, 7.0), 0.1, cache_mb=2.0
)
RATES = Rates(1.0, 0.1, 1.0, 1.0, measured=TRUE)
DIGITS = ModelSpec(8, 2, 1, 64, 4, 6, 10, (2, 4, 6))


def timings(noise: float = 0.0) -> tuple[Timing, ...]:
    rng = np.random.default_rng(0)
    found = []
    for name, spec in PROBES.items():
        for depth in DEPTHS:
            ms = cost.answer_ms(spec, depth, RATES).value
            found.append(Timing("answer", name, depth, 1, ms, 0.02))
    for name, depth, batch, models, bits in STEPS:
        ms = cost.train_step_ms(PROBES[name], depth, models, bits, batch, RATES).value
        work = "train" if models == 1 else f"train-2-{bits}"
        found.append(Timing(work, name, depth, batch, ms, 0.02))
    return tuple(replace(t, ms=t.ms * float(np.exp(noise * rng.normal()))) for t in found)


def test_a_board_s_speed_is_found_from_its_timings() -> None:
    speed = calibrate(DeviceProfile("", timings=timings()))
    assert speed is not None
    assert speed.answer == pytest.approx(TRUE.answer, rel=1e-3)
    assert speed.step == pytest.approx(TRUE.step, rel=1e-3)
    assert speed.cache_mb == TRUE.cache_mb
    assert speed.step_sigma >= 0.1


def test_noise_widens_the_uncertainty_and_hardly_moves_the_prediction() -> None:
    quiet = calibrate(DeviceProfile("", timings=timings()))
    noisy = calibrate(DeviceProfile("", timings=timings(0.4)))
    assert quiet
    assert noisy
    assert noisy.step_sigma > quiet.step_sigma
    found = cost.train_step_ms(DIGITS, 6, 1, 8, 16, replace(RATES, measured=noisy)).value
    assert found == pytest.approx(cost.train_step_ms(DIGITS, 6, 1, 8, 16, RATES).value, rel=0.5)


def test_too_few_timings_leave_the_prior() -> None:
    assert calibrate(DeviceProfile("", timings=timings()[:9])) is None
    assert calibrate(DeviceProfile("rpi-4b")) is None


def test_a_processor_quota_stretches_time() -> None:
    free = calibrate(DeviceProfile("", timings=timings()))
    held = calibrate(DeviceProfile("", timings=timings(), cpus=0.25))
    assert free
    assert held
    assert held.answer == pytest.approx([4 * each for each in free.answer])


def test_a_measured_board_is_planned_by_its_own_speed_with_a_smaller_margin() -> None:
    profile = catalog.reference_profile("rpi-4b")
    prior = capability_of(profile)
    own = capability_of(replace(profile, timings=timings()))
    assert own.rates.rel_sigma < prior.rates.rel_sigma
    assert own.basis == f"the device's own benchmark of {len(timings())} runs"


def test_least_squares_without_negative_weights() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(30, 4))
    goal = matrix @ np.array([1.0, 0.0, 2.0, 0.0]) + 0.3 * matrix @ np.array([0, -1.0, 0, 0])
    found = nonnegative(matrix, goal)
    assert (found >= 0).all()
    assert found[1] == 0
    gradient = matrix.T @ (goal - matrix @ found)
    assert (gradient <= 1e-8).all()

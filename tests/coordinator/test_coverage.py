"""Blocks without a holder are said once and counted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.coverage import Coverage
from coordinator.metrics import CoverageMetrics
from coordinator.records import Device
from reefleet.plan import SubmodelPlan


def a_cohort(*depths: int) -> list[Device]:
    return [
        Device(str(place), "1", "", 0.0, plan=SubmodelPlan(depth, 8, 4, 1, 1, "int8"))
        for place, depth in enumerate(depths)
    ]


def test_a_lack_of_holders_is_said_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    coverage = Coverage()
    for cohort in (a_cohort(1, 3), a_cohort(1, 2), a_cohort(2, 2), a_cohort(3)):
        coverage.look(cohort, 3)
    said = [(record.levelname, record.__dict__["blocks"]) for record in caplog.records]
    assert said == [("WARNING", [3]), ("INFO", [])]
    assert (coverage.rounds, coverage.blocks) == (2, ())


def test_the_figures_are_exposed() -> None:
    coverage = Coverage()
    coverage.look(a_cohort(1), 3)
    samples = {s.name: s.value for m in CoverageMetrics(coverage).collect() for s in m.samples}
    assert samples["reefleet_blocks_unheld"] == 2
    assert samples["reefleet_rounds_uncovered_total"] == 1


def test_a_round_that_opens_is_looked_at(a_run: Callable[..., Any]) -> None:
    run = a_run(min_devices=1)
    run.add_device("a", SubmodelPlan(1, 8, 4, 1, 1, "float32"))
    run.rounds.advance()
    assert run.rounds.coverage.blocks == (2,)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reefleet.errors import NonFiniteUpdate
from reefleet.simulation import study as module
from reefleet.simulation.config import Experiment
from reefleet.simulation.study import spread, study
from reefleet.simulation.trial import Trial
from reefleet.simulation.variants import Variant

EXPERIMENT = Experiment("x", ("fedavg",), seeds=(3, 4), rates=(0.1, 0.2, 0.4))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """Runs that were made; 0.2 is best on validation, 0.1 on test, 0.4 diverges."""
    seen: list[tuple[float, int]] = []

    def run(trial: Trial, *_: Any) -> dict[str, Any]:
        seen.append((trial.rate, trial.seed))
        if trial.rate > 0.3:
            msg = "too fast"
            raise NonFiniteUpdate(msg)
        return {"rate": trial.rate, "validation": trial.rate, "test": 1 - trial.rate}

    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(module.Grounds, "of", lambda *_: None)
    return seen


def test_the_rate_is_chosen_on_validation_data_with_the_first_seed(
    ran: list[tuple[float, int]], tmp_path: Path
) -> None:
    results = study(EXPERIMENT, tmp_path, tmp_path, lambda _: None)
    assert [figures["rate"] for figures in results["fedavg"]] == [0.2, 0.2]
    assert ran == [(0.1, 3), (0.2, 3), (0.4, 3), (0.2, 4)]


def test_a_method_that_diverges_at_every_rate_is_an_error(
    ran: list[tuple[float, int]], tmp_path: Path
) -> None:
    alone = Experiment("x", ("fedavg",), rates=(0.4,))
    with pytest.raises(NonFiniteUpdate, match="too fast"):
        study(alone, tmp_path, tmp_path, lambda _: None)
    assert ran == [(0.4, 0)]


@pytest.mark.parametrize(
    ("rates", "tried"), [((0.05, 0.1), [0.05, 0.1, 0.2, 0.4]), ((0.2, 0.4), [0.2, 0.4, 0.1])]
)
def test_rates_are_tried_outwards_until_the_best_lies_inside(
    ran: list[tuple[float, int]], tmp_path: Path, rates: tuple[float, ...], tried: list[float]
) -> None:
    wider = Experiment("x", ("fedavg",), rates=rates, widen=5)
    results = study(wider, tmp_path, tmp_path, lambda _: None)
    assert [rate for rate, _ in ran] == tried
    assert results["fedavg"][0]["rate"] == 0.2


def test_a_variant_is_a_row_of_its_own(ran: list[tuple[float, int]], tmp_path: Path) -> None:
    variant = Variant("slow", "fedavg", Experiment("x", rates=(0.1,), seeds=(9,)))
    results = study(EXPERIMENT, tmp_path, tmp_path, lambda _: None, variants=[variant])
    assert list(results) == ["fedavg", "slow"]
    assert ran[-1] == (0.1, 9)


def test_spread_is_mean_and_sample_deviation() -> None:
    assert spread([1.0, 3.0]) == pytest.approx((2.0, 2**0.5))
    assert spread([5.0]) == (5.0, 0.0)

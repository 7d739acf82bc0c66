"""A fleet that trains part of the model: what is taken, what is planned, what comes first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from coordinator.planner import Budget
from coordinator.planning import Planning
from coordinator.records import Planned
from coordinator.updates import UpdatePolicy, Updates
from devices.profile import DeviceProfile
from reefleet.errors import ConfigError, TensorMismatch
from reefleet.geometry.trained import holding
from reefleet.model import ModelContract, sent_shapes, tensor_shapes
from reefleet.plan import SubmodelPlan
from reefleet.wire.checkpoint import check, completed, initial
from reefleet.wire.codecs import encode_update


@pytest.fixture
def frozen(a_run: Callable[..., Any]) -> Any:
    """A run whose devices send the exits alone."""
    run = a_run(2, 1)
    run.versions = replace(run.versions, trained="frozen")
    run.updates = Updates(run.store, run.versions, UpdatePolicy(), run.time.clock(), run.policy)
    run.rounds.advance()
    return run


def commit(run: Any, values: dict[str, Any]) -> bool:
    work = run.work("a")
    data, _ = encode_update(values, "float32", {})
    taken: bool = run.updates.commit("a", work.lease, run.upload(work, data), 10, {})
    return taken


def test_an_update_of_the_exits_alone_is_taken(frozen: Any, delta: Any) -> None:
    whole = delta(2, 0)
    sent = sent_shapes(frozen.versions.spec, 2, "frozen")
    assert commit(frozen, {name: whole[name] for name in sent}) is False
    (update,) = frozen.store.updates(1)
    assert frozen.versions.expected(update) == sent
    assert set(sent) < set(tensor_shapes(frozen.versions.spec, 2))


def test_an_update_that_holds_more_is_refused(frozen: Any, delta: Any) -> None:
    with pytest.raises(TensorMismatch, match="blocks"):
        commit(frozen, delta(2, 0))


class Notes:
    """A store and a workshop that write down what is asked of them."""

    def __init__(self) -> None:
        self.plans: list[SubmodelPlan] = []

    def set_plans(self, planned: Sequence[Planned]) -> None:
        self.plans += [one.plan for one in planned]

    def key(self, _plan: SubmodelPlan) -> str:
        return "0" * 64

    def want(self, _plan: SubmodelPlan) -> None:
        pass


@pytest.mark.parametrize(("trained", "models"), [("full", 2), ("frozen", 1)])
def test_only_a_whole_model_is_trained_beside_a_personal_one(
    trained: str, models: int, contract: ModelContract
) -> None:
    notes = cast("Any", Notes())
    planning = Planning(notes, notes, contract.spec, Budget(), trained=trained)
    device = cast("Any", SimpleNamespace(device_id="a", plan=None, planned_for=""))
    planning.report(device, DeviceProfile("jetson-orin-nano"))
    assert [(plan.trained, plan.models) for plan in notes.plans] == [(trained, models)]


def test_a_first_model_is_completed_with_adapters_that_do_nothing(contract: ModelContract) -> None:
    plain = initial(contract.spec, 3)
    held = holding(contract.spec, "lora")
    whole = completed(plain, held, 5)
    check(whole, held, "the first model")
    assert all(np.array_equal(whole[name], value) for name, value in plain.items())
    assert not any(value.any() for name, value in whole.items() if name.endswith(".b"))
    assert holding(held, "lora") == held
    assert holding(contract.spec, "frozen") == contract.spec
    with pytest.raises(ConfigError, match="holds 'lora' already; it cannot hold 'ssf'"):
        holding(held, "ssf")

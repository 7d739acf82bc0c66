"""Deployments over a store, with a clock that is turned by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from coordinator import records as r
from coordinator.config import DeploymentPolicy
from coordinator.deployments import Deployments, Outcome
from reefleet.errors import InputError, Rejected, WireError
from reefleet.report import EarlyExitReport
from reefleet.wire.checkpoint import initial

MakeRun = Callable[..., Any]
EARLY = EarlyExitReport(0.9, 0.9, 1.5, 1.0, 2.0, 100, (0.5, 0.0), (0.5, 0.5))


class Field:
    """A run of ten devices with versions 0 and 1, and its deployments."""

    def __init__(self, run: Any, **policy: float) -> None:
        self.run = run
        for name in "abcdefghij":
            run.add_device(name)
        model = run.versions.keep(initial(run.versions.spec, 1))
        run.store.add_version(r.Version(1, model, run.time.now))
        self.policy = DeploymentPolicy(**policy)
        self.open()

    def open(self) -> None:
        run = self.run
        self.deployments = Deployments(run.versions, self.policy, run.presence, run.time.clock())

    def given(self) -> list[str]:
        """Devices with an open deployment."""
        work = (self.run.store.open_assignment(name) for name in "abcdefghij")
        return [one.device_id for one in work if one and one.kind == r.DEPLOY]

    def answer(self, name: str, outcome: str) -> None:
        work = self.run.store.open_assignment(name)
        done = Outcome(outcome, 0.9, 0.8, EARLY)
        self.deployments.take_report(name, work.lease, done)

    def state(self) -> str:
        return str(self.run.store.last_deployments(1)[0].state)


@pytest.fixture
def field(a_run: MakeRun) -> Field:
    return Field(a_run())


def test_all_devices_get_a_version_at_once(field: Field) -> None:
    begun = field.deployments.deploy(1, 1.0)
    assert (begun.number, begun.state, field.given()) == (1, r.ROLLING, list("abcdefghij"))
    for name in "abcdefghij":
        field.answer(name, r.INSTALLED)
    field.deployments.advance()
    assert field.state() == r.DONE


def test_canaries_are_a_share_of_the_devices_and_the_same_ones_after_a_restart(
    field: Field,
) -> None:
    field.deployments.deploy(1, 0.3)
    canaries = field.given()
    assert len(canaries) == 3
    field.open()
    field.deployments.advance()
    assert field.given() == canaries
    assert field.state() == r.CANARY


def test_when_enough_canaries_keep_it_everyone_gets_it(field: Field) -> None:
    field.deployments.deploy(1, 0.5)
    first, *others = field.given()
    field.answer(first, r.KEPT)
    for name in others:
        field.answer(name, r.INSTALLED)
    field.deployments.advance()
    assert field.state() == r.ROLLING
    field.deployments.advance()
    assert len(field.given()) == 5
    counts = field.run.store.deployment_counts(1)
    assert (counts.devices, counts.installed, counts.kept) == (10, 4, 1)


def test_too_few_good_canaries_halt_it_and_the_good_ones_go_back(field: Field) -> None:
    field.deployments.deploy(0, 1.0)
    for name in "abcdefghij":
        field.answer(name, r.INSTALLED)
    field.deployments.deploy(1, 0.2)
    good, bad = field.given()
    field.answer(good, r.INSTALLED)
    field.answer(bad, r.KEPT)
    field.deployments.advance()
    halted, back = field.run.store.last_deployments(2)
    assert (halted.state, halted.reason) == (r.HALTED, "1 of 2 canaries kept it")
    assert (back.version, back.is_rollback, field.given()) == (0, True, [good])
    field.answer(good, r.RESTORED)
    field.deployments.advance()
    assert (field.state(), field.given()) == (r.DONE, [])


def test_a_silent_canary_counts_against_it_after_the_deadline(field: Field) -> None:
    field.deployments.deploy(1, 0.2)
    field.answer(field.given()[0], r.INSTALLED)
    field.deployments.advance()
    assert field.state() == r.CANARY
    field.run.time.pass_s(field.policy.canary_deadline_s)
    field.deployments.advance()
    assert field.run.store.last_deployments(1)[0].reason == "1 of 2 canaries kept it"
    assert field.given() == []


def test_a_rollback_goes_to_the_devices_that_took_it_or_still_may(field: Field) -> None:
    field.deployments.deploy(0, 1.0)
    for name in "abcdefghij":
        field.answer(name, r.INSTALLED)
    field.deployments.deploy(1, 1.0)
    for name in "abc":
        field.answer(name, r.INSTALLED)
    field.answer("d", r.KEPT)
    back = field.deployments.rollback()
    assert (back.version, back.previous, field.given()) == (0, 1, list("abcefghij"))
    field.deployments.advance()
    assert field.given() == list("abcefghij")


def test_a_halted_canary_that_is_still_at_it_goes_back_too(field: Field) -> None:
    field.deployments.deploy(0, 1.0)
    for name in "abcdefghij":
        field.answer(name, r.INSTALLED)
    field.deployments.deploy(1, 0.2)
    silent, other = field.given()
    field.answer(other, r.KEPT)
    field.run.time.pass_s(field.policy.canary_deadline_s)
    field.deployments.advance()
    assert (field.state(), field.given()) == (r.ROLLING, [silent])


def test_a_rollback_that_concerns_nobody_halts_it(field: Field) -> None:
    field.deployments.deploy(0, 1.0)
    for name in "abcdefghij":
        field.answer(name, r.INSTALLED)
    field.deployments.deploy(1, 0.1)
    (only,) = field.given()
    field.answer(only, r.KEPT)
    assert field.deployments.rollback().state == r.HALTED


def test_there_is_no_way_back_from_nothing(field: Field) -> None:
    with pytest.raises(Rejected, match="nothing has been deployed"):
        field.deployments.rollback()
    field.deployments.deploy(1, 1.0)
    field.answer("a", r.INSTALLED)
    with pytest.raises(Rejected, match="replaced no version"):
        field.deployments.rollback()


def test_a_rollback_before_anybody_took_it_halts_it(field: Field) -> None:
    field.deployments.deploy(1, 0.2)
    assert field.deployments.rollback().state == r.HALTED
    assert (field.state(), field.given()) == (r.HALTED, [])


@pytest.mark.parametrize(("version", "share"), [(7, 1.0), (1, 0.0), (1, 1.5)])
def test_what_cannot_be_deployed_is_refused(field: Field, version: int, share: float) -> None:
    with pytest.raises(InputError):
        field.deployments.deploy(version, share)
    assert field.run.store.last_deployments(1) == []


def test_a_later_deployment_ends_the_one_before(field: Field) -> None:
    field.deployments.deploy(0, 1.0)
    field.deployments.deploy(1, 1.0)
    ended, begun = field.run.store.last_deployments(2)
    assert (ended.state, begun.state) == (r.ENDED, r.ROLLING)
    assert {field.run.store.open_assignment(name).round for name in "abcdefghij"} == {2}


def test_a_device_that_comes_later_gets_what_the_others_have(field: Field) -> None:
    field.deployments.deploy(1, 1.0)
    field.run.add_device("k")
    field.deployments.advance()
    assert field.run.store.open_assignment("k").kind == r.DEPLOY


def test_while_paused_nobody_is_given_more(field: Field) -> None:
    field.deployments.deploy(1, 1.0)
    field.run.store.set_fact(r.PAUSED, "yes")
    field.run.add_device("k")
    field.deployments.advance()
    assert field.run.store.open_assignment("k") is None


def test_a_report_counts_once_and_only_from_its_device(field: Field) -> None:
    field.deployments.deploy(1, 1.0)
    work = field.run.store.open_assignment("a")
    done = Outcome(r.INSTALLED, 0.9, None, EARLY)
    with pytest.raises(Rejected):
        field.deployments.take_report("b", work.lease, done)
    field.deployments.take_report("a", work.lease, done)
    field.deployments.take_report("a", work.lease, done)
    assert field.run.store.deployment_counts(1).installed == 1


@pytest.mark.parametrize("accuracy", [math.nan, math.inf, -0.1, 1.1])
def test_an_accuracy_that_is_none_is_refused(field: Field, accuracy: float) -> None:
    field.deployments.deploy(1, 1.0)
    lease = field.run.store.open_assignment("a").lease
    for told in ((accuracy, None), (0.5, accuracy)):
        with pytest.raises(WireError, match="not between 0 and 1"):
            field.deployments.take_report("a", lease, Outcome(r.INSTALLED, *told, EARLY))
    assert field.run.store.deployment_counts(1).taken == 0


def test_a_version_that_devices_may_go_back_to_is_not_retired(field: Field) -> None:
    field.deployments.deploy(0, 1.0)
    field.deployments.deploy(1, 1.0)
    for number in (2, 3, 4):
        model = field.run.versions.keep(initial(field.run.versions.spec, number))
        field.run.store.add_version(r.Version(number, model, field.run.time.now))
    field.run.store.retire(1)
    assert [v.is_retired for v in field.run.store.last_versions(5)] == [
        False,
        False,
        True,
        True,
        False,
    ]


def test_a_deployment_does_not_stop_a_round(field: Field) -> None:
    field.deployments.deploy(1, 1.0)
    field.run.rounds.advance()
    assert field.run.store.current_round() is not None
    field.answer("a", r.INSTALLED)
    assert field.run.work("a").kind == r.FEDERATE

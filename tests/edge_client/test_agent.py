from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from devices.profile import DeviceProfile
from edge_client.agent import Agent
from edge_client.attempt import Attempts
from edge_client.client import Client
from edge_client.federate import federate
from edge_client.outbox import Entry
from edge_client.stopping import StopFlag, Stopped
from edge_client.task import PERSONALIZE, Task, Wait
from reefleet.errors import ChecksumMismatch, NotEnrolled, OutOfMemory, Rejected, TlsFailure

PROFILE = DeviceProfile("rpi-4b")


class QuietFlag(StopFlag):
    """Counts its waits and ends none of them late."""

    def __init__(self, patience: int = 50) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.patience = patience

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        if len(self.waits) >= self.patience:
            self.raise_flag()
        self.check()

    def idle(self, seconds: float) -> None:
        self.wait(seconds)


@pytest.fixture
def flag() -> QuietFlag:
    return QuietFlag()


def test_a_run_is_worked_through_to_its_end(
    kit: SimpleNamespace, tmp_path: Path, flag: QuietFlag
) -> None:
    coordinator, task = kit.a_coordinator()
    coordinator.tasks = [
        Wait(0.1),
        task,
        replace(task, lease="lease-2", round=2),
        replace(task, kind=PERSONALIZE, lease="last", round=4),
    ]
    Agent(kit.a_client(tmp_path, coordinator), PROFILE, flag).run()
    assert coordinator.profiles == [PROFILE]
    assert [commit[0] for commit in coordinator.commits] == ["lease-1", "lease-2"]
    assert [report[0] for report in coordinator.reports] == ["last"]
    assert flag.waits == [0.1]


def test_the_training_graph_is_opened_once_for_all_rounds(
    kit: SimpleNamespace, tmp_path: Path, flag: QuietFlag, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_client import runtime

    opened: list[str] = []
    plain = runtime.open_session

    def counting(graph: bytes, label: str, *rest: object, **options: object) -> object:
        opened.append(label)
        return plain(graph, label, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(runtime, "open_session", counting)
    coordinator, task = kit.a_coordinator()
    coordinator.tasks = [replace(task, lease=f"l{n}", round=n) for n in (1, 2, 3)]
    Agent(kit.a_client(tmp_path, coordinator), PROFILE, flag).run()
    assert sorted(opened) == ["predict.onnx", "train.onnx"]


def test_work_left_by_a_crash_is_pushed_before_new_work(
    kit: SimpleNamespace, tmp_path: Path, flag: QuietFlag
) -> None:
    coordinator, task = kit.a_coordinator()
    left = federate(kit.a_client(tmp_path, coordinator), task)
    order: list[str] = []
    ask = coordinator.next_task
    coordinator.next_task = lambda: (order.append("ask"), ask())[1]
    commit = coordinator.commit_update
    coordinator.commit_update = lambda *given: (order.append("commit"), commit(*given))[1]
    Agent(kit.a_client(tmp_path, coordinator), PROFILE, flag).run()
    assert order == ["commit", "ask"]
    assert coordinator.commits[0][:2] == (left.lease, left.update.sha256)


def test_failed_work_is_tried_again_after_a_pause(
    kit: SimpleNamespace, tmp_path: Path, flag: QuietFlag
) -> None:
    coordinator, task = kit.a_coordinator()
    coordinator.tasks = [replace(task, signature=b""), task]
    Agent(kit.a_client(tmp_path, coordinator), PROFILE, flag).run()
    assert [commit[0] for commit in coordinator.commits] == ["lease-1"]
    assert len(flag.waits) == 1


def test_a_coordinator_that_forgot_the_device_is_told_again(
    kit: SimpleNamespace, tmp_path: Path, flag: QuietFlag
) -> None:
    coordinator, task = kit.a_coordinator()
    coordinator.tasks = [task]
    ask, unknown = coordinator.next_task, Rejected("report the profile first")

    def forgetful() -> object:
        if len(coordinator.profiles) < 2:
            raise unknown
        return ask()

    coordinator.next_task = forgetful
    Agent(kit.a_client(tmp_path, coordinator), PROFILE, flag).run()
    assert len(coordinator.commits) == 1


def test_work_that_keeps_failing_ends_a_client_that_was_told_to_end(
    kit: SimpleNamespace, tmp_path: Path, flag: QuietFlag
) -> None:
    coordinator, task = kit.a_coordinator()
    coordinator.tasks = [replace(task, signature=b"")] * 10
    with pytest.raises(ChecksumMismatch):
        Agent(kit.a_client(tmp_path, coordinator, failures=3), PROFILE, flag).run()
    assert len(coordinator.tasks) == 7


def test_a_resident_client_outlives_failures_and_the_end_of_a_run(
    kit: SimpleNamespace, tmp_path: Path, flag: QuietFlag
) -> None:
    coordinator, task = kit.a_coordinator()
    coordinator.tasks = [replace(task, signature=b"")] * 10
    client = kit.a_client(tmp_path, coordinator)
    client.config = replace(client.config, until_finished=False, idle_s=7.0)
    Agent(client, PROFILE, flag).run()
    assert flag.waits[-1] == 7.0
    assert len(flag.waits) == flag.patience


@pytest.mark.parametrize("error", [NotEnrolled("revoked"), TlsFailure("another fleet")])
def test_a_device_that_is_not_wanted_ends(
    kit: SimpleNamespace, tmp_path: Path, flag: QuietFlag, error: Exception
) -> None:
    coordinator, _ = kit.a_coordinator()

    def refuse() -> None:
        raise error

    coordinator.next_task = refuse
    with pytest.raises(type(error)):
        Agent(kit.a_client(tmp_path, coordinator), PROFILE, flag).run()


def test_work_that_the_memory_is_too_small_for_is_given_up(
    kit: SimpleNamespace, tmp_path: Path, flag: QuietFlag, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator, task = kit.a_coordinator()
    coordinator.tasks = [task, replace(task, lease="lease-2", round=2)]
    work = [OutOfMemory("the graph train.onnx failed to run"), None]

    def done(client: Client, task: Task) -> Entry:
        if error := work.pop(0):
            raise error
        return federate(client, task)

    monkeypatch.setattr("edge_client.work.federate", done)
    client = kit.a_client(tmp_path, coordinator)
    Agent(client, PROFILE, flag).run()
    assert coordinator.abandoned == [(task.lease, "memory")]
    assert [commit[0] for commit in coordinator.commits] == ["lease-2"]
    assert client.attempts.verdict() is None


def test_a_client_that_was_killed_for_memory_gives_that_work_up_when_it_is_back(
    kit: SimpleNamespace, tmp_path: Path, flag: QuietFlag, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Attempts, "verdict", lambda _: ("lease-0", "memory"))
    coordinator, task = kit.a_coordinator()
    coordinator.tasks = [task]
    Agent(kit.a_client(tmp_path, coordinator), PROFILE, flag).run()
    assert coordinator.abandoned == [("lease-0", "memory")]
    assert len(coordinator.commits) == 1


def test_a_stop_between_two_steps_ends_cleanly(kit: SimpleNamespace, tmp_path: Path) -> None:
    flag = QuietFlag()
    coordinator, task = kit.a_coordinator()
    coordinator.tasks = [task]
    client = kit.a_client(tmp_path, coordinator)
    steps: list[int] = []

    def check() -> None:
        steps.append(1)
        if len(steps) == 15:  # past the downloads, inside the training
            flag.raise_flag()
        flag.check()

    client.check = check
    Agent(client, PROFILE, flag).run()
    assert coordinator.commits == []
    assert client.outbox.pending() == []


def test_a_signal_ends_a_wait_at_once() -> None:
    flag = StopFlag()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        flag.listen()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            flag.wait(600)
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
        flag.close()


def test_a_wait_without_a_stop_runs_out() -> None:
    flag = StopFlag()
    flag.wait(0.01)
    flag.raise_flag()
    flag.raise_flag()
    with pytest.raises(Stopped):
        flag.check()
    flag.close()


def test_a_client_that_worked_long_ago_wants_to_start_anew(
    kit: SimpleNamespace, tmp_path: Path, flag: QuietFlag
) -> None:
    coordinator, task = kit.a_coordinator()
    coordinator.tasks = [Wait(0.1), task, Wait(0.1), Wait(0.1)]
    client = kit.a_client(tmp_path, coordinator, anew_after_s=0.0)
    assert Agent(client, PROFILE, flag).run()
    assert [commit[0] for commit in coordinator.commits] == ["lease-1"]


@pytest.mark.parametrize("worked", [True, False])
def test_a_client_goes_on_as_it_is_that_worked_just_now_or_never(
    kit: SimpleNamespace, tmp_path: Path, flag: QuietFlag, *, worked: bool
) -> None:
    coordinator, task = kit.a_coordinator()
    coordinator.tasks = [*([task] if worked else []), Wait(0.1)]
    client = kit.a_client(tmp_path, coordinator, anew_after_s=3600.0 if worked else 0.0)
    assert not Agent(client, PROFILE, flag).run()
    assert coordinator.tasks == []

"""A coordinator killed at each named point of a round makes the very models of one left alone."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coordinator import faults
from coordinator.records import COMMITTED
from edge_client.task import PERSONALIZE, Task
from reefleet.errors import CoordinatorUnavailable
from reefleet.report import DeviceMetrics, EarlyExitReport
from tests.integration.conftest import UNEVEN, WITHOUT_TORCH
from tests.integration.fleet import DEEP_BOARD, SHALLOW_BOARD, SMALL, Rules, Site, a_contract
from tests.integration.running import until
from tests.integration.speaker import Device

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BOARDS = {"a": DEEP_BOARD, "b": SHALLOW_BOARD}
OPTIMIZER = '[rounds.optimizer]\nname = "fedavgm"\n'  # something to remember between versions
ASYNC = 'mode = "async"\nbuffer = 2\n'

IN_A_ROUND = [
    "upload.announced",
    "upload.chunk-appended",
    "upload.before-finish",
    "upload.finished",
    "update.before-commit",
    "update.committed",
    "round.stop.before-commit",
    "round.stop.committed",
    "round.close.folded",
    "round.close.model-kept",
    "round.close.before-commit",
    "round.close.committed",
    "cut.before-commit",
    "round.close.cut",
    "round.open.before-commit",
    "round.open.committed",
]
ASYNCHRONOUS = [
    "async.work.before-commit",
    "async.work.committed",
    "update.late.committed",
    "async.stop.before-commit",
    "async.stop.committed",
    "round.close.before-commit",
]
AT_THE_ENDS = [
    "first-version.before-commit",
    "personal.before-commit",
    "personal.committed",
    "personal-report.before-commit",
    "personal-report.committed",
]


@dataclass
class Fleet:
    """A coordinator that dies where it is asked to, and two devices that outlive it."""

    site: Site
    asked: Path
    devices: dict[str, Device]
    deaths: int = 0

    def arm(self, *points: str) -> None:
        """Have the coordinator killed when it comes by each of the points, one after another."""
        self.asked.write_text("\n".join(f"{point} 1" for point in points))

    @property
    def is_armed(self) -> bool:
        return self.asked.exists()

    def insist(self, call: Callable[[], Any]) -> Any:
        """Call until it is answered; a coordinator that was killed is started again."""
        while True:
            try:
                return call()
            except CoordinatorUnavailable:  # noqa: PERF203
                self.revive()

    def start(self) -> None:
        """Start the coordinator, again where it is killed before it listens."""
        program = self.site.coordinator
        starts = len(program.told()) if program.output.exists() else 0
        while True:
            program.start()
            until(lambda: len(program.told()) > starts or program.code is not None, "a start")
            if told := program.told()[starts:]:
                break
            self._mourn()
        self.site.fleet_port = told[0]["fleet_port"]
        self.site.enrollment_port = told[0]["enrollment_port"]

    def revive(self) -> None:
        """Start a killed coordinator again; devices find it as they do after a loss."""
        until(lambda: self.site.coordinator.code is not None, "the end of the coordinator")
        self._mourn()
        self.start()
        for device in self.devices.values():
            device.connect(self.site.fleet_port)

    def _mourn(self) -> None:
        assert self.site.coordinator.code == -signal.SIGKILL
        self.deaths += 1

    def next_task(self, name: str) -> Task:
        """The next task of a device, waited for."""
        device = self.devices[name]

        def asked() -> Task | None:
            answer = self.insist(lambda: device.session.next_task())  # noqa: PLW0108 - made anew
            return answer if isinstance(answer, Task) else None

        found = until(asked, f"a task for {name}")
        assert found is not None
        return found

    def work_through(self, number: int) -> str:
        """Both devices do round `number`; the digest of the version that it makes."""
        for name, device in self.devices.items():
            task = self.next_task(name)
            assert task.round == number
            data = device.coded(task)
            self.insist(lambda device=device, task=task, data=data: device.push(task, data))

        def published() -> str:
            found = self.site.version(number)
            is_done = found is not None and not self.is_armed
            for device in self.devices.values():  # who calls is there for the next round
                self.insist(lambda device=device: device.report())
            return found.sha256 if found and is_done else ""

        return until(published, f"version {number} and a kill")


MakeFleet = Callable[..., Fleet]


@pytest.fixture(scope="module")
def a_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeFleet]:
    """Make fleets whose bundles nobody can run."""
    cache = tmp_path_factory.mktemp("stand-ins")
    made: list[Site] = []

    def build(name: str, rounds: int, settings: str = "", armed: Sequence[str] = ()) -> Fleet:
        root = tmp_path_factory.mktemp(name) / "site"
        rules = Rules(len(BOARDS), rounds, UNEVEN, serve=WITHOUT_TORCH)
        site = Site(root, a_contract(SMALL), cache, rules)
        made.append(site)
        text = site.folder.config.read_text()
        text = text.replace("[compile]", f"{settings}{OPTIMIZER}[compile]")
        site.folder.config.write_text(text)
        fleet = Fleet(site, root / "fault", {})
        site.coordinator.environment[faults.VARIABLE] = str(fleet.asked)
        if armed:
            fleet.arm(*armed)
        fleet.start()
        for device, board in BOARDS.items():
            # The first version is published meanwhile, and a fault may be waiting there.
            enrolled = fleet.insist(lambda name=device, board=board: site.enroll(name, board))
            fleet.devices[device] = Device(enrolled, SMALL)
        for speaker in fleet.devices.values():
            fleet.insist(speaker.report)
        return fleet

    yield build
    for site in made:
        site.close()


@pytest.fixture(scope="module")
def undisturbed(a_fleet: MakeFleet) -> list[str]:
    """Digests of the versions of a run in which nothing happened, from version 1."""
    rounds = len(IN_A_ROUND) + 1
    fleet = a_fleet("undisturbed", rounds)
    found = [fleet.work_through(number) for number in range(1, rounds)]
    assert fleet.deaths == 0
    assert len(set(found)) == len(found)
    return found


@pytest.fixture(scope="module")
def fleet(a_fleet: MakeFleet) -> Fleet:
    return a_fleet("killed", len(IN_A_ROUND) + 1)


@pytest.mark.parametrize("point", IN_A_ROUND)
def test_a_kill_at_any_point_of_a_round_changes_no_bit_of_its_model(
    fleet: Fleet, undisturbed: list[str], point: str
) -> None:
    number, deaths = fleet.site.latest() + 1, fleet.deaths
    fleet.arm(point)
    assert fleet.work_through(number) == undisturbed[number - 1]
    assert fleet.deaths == deaths + 1
    assert [update.device_id for update in fleet.site.updates(number)] == ["a", "b"]


def test_kills_of_an_asynchronous_run_change_no_bit_of_its_models(
    a_fleet: MakeFleet, undisturbed: list[str]
) -> None:
    fleet = a_fleet("asynchronous", len(ASYNCHRONOUS) + 1, ASYNC)
    for number, point in enumerate(ASYNCHRONOUS, start=1):
        fleet.arm(point)
        assert fleet.work_through(number) == undisturbed[number - 1], point
        assert fleet.deaths == number
        assert [update.device_id for update in fleet.site.updates(number)] == ["a", "b"]


def test_kills_before_the_first_and_after_the_last_round_change_nothing(
    a_fleet: MakeFleet, undisturbed: list[str]
) -> None:
    fleet = a_fleet("ends", 1, armed=AT_THE_ENDS)
    for name, device in fleet.devices.items():
        task = fleet.next_task(name)
        data = device.coded(task)
        fleet.insist(lambda device=device, task=task, data=data: device.push(task, data))
    for name, device in fleet.devices.items():
        last = fleet.next_task(name)
        assert last.kind == PERSONALIZE
        fleet.insist(lambda device=device, last=last: report_of(device, last))
    assert not fleet.is_armed
    assert fleet.deaths == len(AT_THE_ENDS)
    assert fleet.site.version(1).sha256 == undisturbed[0]
    with fleet.site.store() as store:
        assert [work.state for work in store.assignments(PERSONALIZE, 2)] == [COMMITTED] * 2
        assert [report.device_id for report in store.reports()] == ["a", "b"]


def report_of(device: Device, task: Task) -> None:
    device.session.report_personal(task.lease, DeviceMetrics(), EarlyExitReport())

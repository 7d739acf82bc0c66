"""A coordinator killed in the middle of a round goes on with what it had acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from reefleet.errors import CoordinatorUnavailable
from tests.integration.fleet import DEEP_BOARD, SHALLOW_BOARD, Site
from tests.integration.proxy import Proxy, Way
from tests.integration.speaker import Device, artifact_of

pytestmark = pytest.mark.integration

BOARDS = {"a": DEEP_BOARD, "b": SHALLOW_BOARD, "c": DEEP_BOARD}


@dataclass
class Round:
    """Three devices that have their work of round 1; `sent` is what each will have pushed."""

    site: Site
    devices: dict[str, Device]

    def __post_init__(self) -> None:
        self.tasks = {name: device.task() for name, device in self.devices.items()}
        self.data = {name: self.devices[name].coded(task) for name, task in self.tasks.items()}

    def push(self, name: str) -> bool:
        return self.devices[name].push(self.tasks[name], self.data[name])


MakeRound = Callable[..., Round]


@pytest.fixture(scope="module")
def a_round(a_silent_site: Callable[..., Site]) -> MakeRound:
    """Open a round with two deep devices and a shallow one."""

    def build(name: str, database: str = "") -> Round:
        site = a_silent_site(name, devices=3, database=database)
        spec = site.contract.spec
        devices = {n: Device(site.enroll(n, board), spec) for n, board in BOARDS.items()}
        for device in devices.values():
            device.report()
        return Round(site, devices)

    return build


@pytest.fixture(scope="module")
def undisturbed(a_round: MakeRound) -> str:
    """Digest of version 1 of a run in which nothing happened."""
    twin = a_round("undisturbed")
    for name in BOARDS:
        assert twin.push(name) is False
    return version_1(twin.site)


def version_1(site: Site) -> str:
    return site.wait_for_version(1).sha256


def kill_between_two_updates(opened: Round) -> None:
    opened.site.coordinator.kill()


def kill_in_the_middle_of_an_upload(opened: Round) -> None:
    device, task, data = opened.devices["c"], opened.tasks["c"], opened.data["c"]
    announced = artifact_of(data)
    assert device.session.open_update(task.lease, announced) == 0
    device.put(task.lease, announced, 0, data[: len(data) // 2])
    opened.site.coordinator.kill()


def kill_before_the_last_answer_leaves(opened: Round) -> None:
    device, task, data = opened.devices["c"], opened.tasks["c"], opened.data["c"]
    proxy = Proxy(opened.site.fleet_port)
    device.connect(proxy.port)
    sent = device.send(task, data)

    def kill(way: Way, size: int) -> int:
        durable = {update.device_id for update in opened.site.updates()}
        if way is Way.UP or "c" not in durable:
            return size
        opened.site.coordinator.kill()
        return 0

    proxy.gate = kill
    with pytest.raises(CoordinatorUnavailable):
        device.commit(task, sent)
    proxy.close()


@pytest.mark.parametrize(
    ("kill", "repeated", "kind"),
    [
        (kill_between_two_updates, False, "sqlite"),
        (kill_in_the_middle_of_an_upload, False, "sqlite"),
        (kill_before_the_last_answer_leaves, True, "sqlite"),
        (kill_in_the_middle_of_an_upload, False, "postgresql"),
        (kill_before_the_last_answer_leaves, True, "postgresql"),
    ],
)
def test_the_round_closes_with_the_same_updates_and_the_same_version(
    a_round: MakeRound,
    undisturbed: str,
    kill: Callable[[Round], None],
    repeated: bool,
    kind: str,
    request: pytest.FixtureRequest,
) -> None:
    server = request.getfixturevalue("postgresql") if kind == "postgresql" else None
    opened = a_round("killed", server.database() if server else "")
    site = opened.site
    assert site.folder.state.exists() is (kind == "sqlite")
    assert {task.plan.exit_depth for task in opened.tasks.values()} == {1, 2}
    durable = [opened.push(name) for name in ("a", "b")]
    assert durable == [False, False]
    kill(opened)
    site.start()
    for device in opened.devices.values():
        device.connect(site.fleet_port)
    assert opened.push("c") is repeated
    assert opened.push("a") is True
    assert version_1(site) == site.recomputed(1) == undisturbed
    sent = {name: artifact_of(data).sha256 for name, data in opened.data.items()}
    assert {u.device_id: u.artifact.sha256 for u in site.updates()} == sent


def test_a_lease_outlives_the_coordinator(a_round: MakeRound) -> None:
    opened = a_round("leases")
    opened.push("b")
    opened.site.coordinator.kill()
    opened.site.start()
    for name in ("a", "c"):
        opened.devices[name].connect()
        assert opened.devices[name].task().lease == opened.tasks[name].lease

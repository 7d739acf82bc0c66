"""A disk that is full, read-only or slow stops uploads, never the answers, and corrupts nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_client.task import Task
from reefleet.errors import RpcError, StoreError, StoreFull
from reefleet.rpc.limits import CHUNK_BYTES
from reefleet.v1 import operator_pb2 as pb
from tests.integration.conftest import WITHOUT_TORCH
from tests.integration.disks import Disk, may_mount
from tests.integration.fleet import DEEP_BOARD, WIDE, Rules, Site, a_contract
from tests.integration.running import until
from tests.integration.speaker import Device, artifact_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Scene:
    """A coordinator on a disk of its own, and two devices that have their work of round 1."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self.disk = disk
        rules = Rules(2, budget="min_bits = 8", serve=WITHOUT_TORCH, folder=disk.place)
        self.site = Site(root / "site", a_contract(WIDE), root / "stand-ins", rules)

    def begin(self) -> None:
        """Bring both devices to where they could push."""
        self.site.start()
        enrolled = {name: self.site.enroll(name, DEEP_BOARD) for name in "ab"}
        self.devices = {name: Device(found, WIDE) for name, found in enrolled.items()}
        for device in self.devices.values():
            device.report()
        self.tasks: dict[str, Task] = {n: d.task() for n, d in self.devices.items()}
        self.data = {n: d.coded(self.tasks[n]) for n, d in self.devices.items()}

    def push(self, name: str) -> bool:
        return self.devices[name].push(self.tasks[name], self.data[name])

    def reads(self, name: str) -> None:
        """Everything that a device and an operator may read is answered."""
        device, task = self.devices[name], self.tasks[name]
        assert device.task().lease == task.lease
        assert next(device.session.fetch(task.weights, 0))[0]
        assert self.site.ask("ListDevices", pb.ListDevicesRequest()).devices

    def trouble(self) -> str:
        return str(self.site.ask("GetStatus", pb.GetStatusRequest()).trouble)

    def restart(self) -> None:
        self.site.start()
        for device in self.devices.values():
            device.connect(self.site.fleet_port)

    def holds(self) -> None:
        """Both updates count, once each, and the version is their mean."""
        assert self.site.wait_for_version(1).sha256 == self.site.recomputed(1)
        sent = {name: artifact_of(data).sha256 for name, data in self.data.items()}
        assert {u.device_id: u.artifact.sha256 for u in self.site.updates()} == sent


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    (tmp_path / "try").mkdir()
    if not may_mount(tmp_path / "try"):
        pytest.skip("mounting a file system takes root")
    monkeypatch.setenv("REEFLEET_COORDINATOR_STORAGE_RESERVE_MIB", "1")
    disk = Disk(tmp_path)
    made = Scene(tmp_path, disk)
    try:
        made.begin()
        yield made
    finally:
        made.site.close()
        disk.close()


def test_a_full_disk_refuses_uploads_answers_the_rest_and_goes_on_by_itself(scene: Scene) -> None:
    assert scene.trouble() == ""
    assert scene.push("a") is False
    half = artifact_of(scene.data["b"])
    device, lease = scene.devices["b"], scene.tasks["b"].lease
    device.session.open_update(lease, half)
    chunk = scene.data["b"][:CHUNK_BYTES]
    held = device.put(lease, half, 0, chunk)
    scene.disk.fill()
    with pytest.raises(StoreFull):
        device.put(lease, half, held, scene.data["b"][held : 2 * held])
    with pytest.raises(StoreFull, match="MiB free") as refused:
        scene.push("b")
    assert refused.value.retry_after_s == StoreFull.retry_after_s
    scene.reads("b")
    assert "uploads are refused" in scene.trouble()
    scene.disk.free()
    assert scene.push("b") is False
    scene.holds()
    until(lambda: not scene.trouble(), "a status without trouble")


def test_a_coordinator_killed_on_a_full_disk_says_why_it_cannot_start(scene: Scene) -> None:
    assert scene.push("a") is False
    scene.disk.fill()
    scene.site.coordinator.kill()
    scene.site.coordinator.start()
    assert scene.site.coordinator.end() == StoreFull.exit_code
    assert "no room on disk" in scene.site.coordinator.log.read_text().splitlines()[-1]
    scene.disk.free()
    scene.restart()
    assert scene.push("b") is False
    scene.holds()


def test_a_disk_that_turned_read_only_is_read_on_and_the_run_survives_its_repair(
    scene: Scene,
) -> None:
    assert scene.push("a") is False
    scene.disk.fail()
    with pytest.raises(StoreFull, match="Read-only file system"):
        scene.push("b")
    scene.reads("b")
    assert "Read-only file system" in scene.trouble()
    with pytest.raises(StoreError):
        scene.site.ask("PauseRounds", pb.PauseRoundsRequest())
    scene.site.coordinator.kill()
    scene.site.coordinator.start()
    assert scene.site.coordinator.end() == StoreError.exit_code
    assert "Read-only file system" in scene.site.coordinator.log.read_text().splitlines()[-1]
    scene.disk.repair()
    scene.restart()
    assert scene.push("b") is False
    scene.holds()


def test_a_slow_disk_slows_uploads_and_keeps_nobody_from_reading(scene: Scene) -> None:
    outcomes: list[bool | RpcError] = []

    def push() -> None:
        try:
            outcomes.append(scene.push("a"))
        except RpcError as error:  # its own deadline: the client would try again
            outcomes.append(error)

    pushing = threading.Thread(target=push)
    with scene.disk.slow(scene.site.coordinator.pid):
        pushing.start()
        until(lambda: list(scene.site.blobs.root.glob("partial/*/*")), "the first chunk")
        for _ in range(5):
            scene.reads("b")
        assert outcomes == []
    pushing.join()
    assert scene.push("a") is (outcomes == [False])
    assert scene.push("b") is False
    scene.holds()

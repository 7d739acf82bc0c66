"""Bad updates over mutual TLS: refused by name, nothing changes, good ones are still taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from coordinator import records as r
from edge_client.task import Artifact, Task
from reefleet.errors import (
    ChecksumMismatch,
    NonFiniteValues,
    PayloadTooLarge,
    ReefleetError,
    Rejected,
    TensorMismatch,
    TruncatedPayload,
)
from reefleet.rpc.limits import CHUNK_BYTES, MAX_MESSAGE_BYTES
from reefleet.rpc.status import translated
from reefleet.v1 import fleet_pb2, fleet_pb2_grpc
from tests.integration.fleet import Site, packed
from tests.integration.speaker import Device, artifact_of

pytestmark = pytest.mark.integration

COHORT = 24  # enough for every test here, and one that never answers and keeps the round open

Delta = Mapping[str, NDArray[np.float32]]


@dataclass
class Cohort:
    """Devices that all have work in one open round; each is handed out once."""

    site: Site
    fresh: list[tuple[Device, Task]]

    def take(self) -> tuple[Device, Task]:
        """A device that has done nothing yet, and its task."""
        assert len(self.fresh) > 1, "COHORT is too small"
        return self.fresh.pop()

    def view(self) -> tuple[Any, ...]:
        """What a refusal may not change: accepted updates, rounds, versions."""
        with self.site.store() as store:
            updates = {(u.round, u.device_id): u.artifact.sha256 for u in store.updates()}
            return updates, store.rounds(), store.latest_version()

    def expect_a_good_update_to_be_taken(self, device: Device, task: Task) -> None:
        """Push one and see that it is all that has changed."""
        updates, *rest = self.view()
        assert device.push(task) is False
        sent = artifact_of(device.coded(task)).sha256
        now, *after = self.view()
        assert now == {**updates, (1, device.enrolled.device_id): sent}
        assert after == rest
        assert [found.state for found in after[0]] == [r.OPEN]


@pytest.fixture(scope="module")
def cohort(a_silent_site: Callable[..., Site]) -> Cohort:
    site = a_silent_site("cohort", devices=COHORT)
    names = [f"device-{number}" for number in range(COHORT)]
    devices = [Device(site.enroll(name), site.contract.spec) for name in names]
    for device in devices:
        device.report()
    return Cohort(site, [(device, device.task()) for device in devices])


def changed(delta: Delta, name: str, value: Any) -> bytes:
    return packed({**delta, name: np.asarray(value, np.float32)})


def without(delta: Delta, name: str) -> bytes:
    return packed({found: value for found, value in delta.items() if found != name})


BAD_CONTENT: dict[str, tuple[Callable[[Delta], bytes], type[ReefleetError], str]] = {
    "NaN": (
        lambda delta: changed(delta, "head.bias", [0, np.nan, 0]),
        NonFiniteValues,
        "'head.bias' of the update holds NaN",
    ),
    "infinity": (
        lambda delta: changed(delta, "head.bias", [0, np.inf, 0]),
        NonFiniteValues,
        "'head.bias' of the update holds NaN or infinity",
    ),
    "wrong shape": (
        lambda delta: changed(delta, "head.bias", [0, 0]),
        TensorMismatch,
        r"'head.bias' has shape \(2,\), expected \(3,\)",
    ),
    "unknown tensor": (
        lambda delta: changed(delta, "backdoor", [0]),
        TensorMismatch,
        "'backdoor' is unknown",
    ),
    "missing tensor": (
        lambda delta: without(delta, "head.bias"),
        TensorMismatch,
        "'head.bias' is missing",
    ),
    "cut short": (lambda delta: packed(delta)[:-7], TruncatedPayload, "."),
    "too long a step": (
        lambda delta: packed({name: value * np.float32(1e6) for name, value in delta.items()}),
        Rejected,
        "norm",
    ),
}


@pytest.mark.parametrize("case", BAD_CONTENT)
def test_bad_content_is_refused_and_changes_nothing(cohort: Cohort, case: str) -> None:
    made, error, words = BAD_CONTENT[case]
    device, task = cohort.take()
    before = cohort.view()
    with pytest.raises(error, match=words):
        device.push(task, made(device.delta(task)))
    assert cohort.view() == before
    cohort.expect_a_good_update_to_be_taken(*cohort.take())


def test_an_altered_chunk_is_refused_and_may_be_sent_again(cohort: Cohort) -> None:
    device, task = cohort.take()
    before, data = cohort.view(), device.coded(task)
    announced = artifact_of(data)
    altered = data[:100] + bytes([data[100] ^ 1]) + data[101:]
    device.session.open_update(task.lease, announced)
    device.put(task.lease, announced, 0, altered)
    with pytest.raises(ChecksumMismatch, match=announced.sha256):
        device.commit(task, announced)
    assert cohort.view() == before
    cohort.expect_a_good_update_to_be_taken(device, task)


def test_an_update_of_which_a_part_is_missing_is_refused_and_may_go_on(cohort: Cohort) -> None:
    device, task = cohort.take()
    before, data = cohort.view(), device.coded(task)
    announced = artifact_of(data)
    device.session.open_update(task.lease, announced)
    device.put(task.lease, announced, 0, data[:-1])
    with pytest.raises(TruncatedPayload, match=f"only {len(data) - 1} of the {len(data)} bytes"):
        device.commit(task, announced)
    assert cohort.view() == before
    cohort.expect_a_good_update_to_be_taken(device, task)


def test_an_announcement_over_the_bound_is_refused(cohort: Cohort) -> None:
    device, task = cohort.take()
    before = cohort.view()
    with pytest.raises(PayloadTooLarge, match="over the limit"):
        device.session.open_update(task.lease, Artifact("0" * 64, 1 << 30))
    assert cohort.view() == before
    cohort.expect_a_good_update_to_be_taken(device, task)


def test_a_chunk_over_the_bound_is_refused(cohort: Cohort) -> None:
    device, task = cohort.take()
    before = cohort.view()
    with pytest.raises(PayloadTooLarge, match=str(CHUNK_BYTES)):
        device.put(task.lease, Artifact("0" * 64, 1 << 30), 0, bytes(CHUNK_BYTES + 1))
    assert cohort.view() == before
    cohort.expect_a_good_update_to_be_taken(device, task)


def test_a_message_over_the_bound_is_refused_by_the_coordinator(cohort: Cohort) -> None:
    device, task = cohort.take()
    before = cohort.view()
    request = fleet_pb2.PutUpdateRequest(
        lease=task.lease, sha256="0" * 64, data=bytes(MAX_MESSAGE_BYTES)
    )
    with (
        unbounded_channel(device) as channel,
        pytest.raises(PayloadTooLarge, match="over the size bound"),
        translated(device.enrolled.address),
    ):
        fleet_pb2_grpc.FleetServiceStub(channel).PutUpdate(iter([request]))
    assert cohort.view() == before
    cohort.expect_a_good_update_to_be_taken(device, task)


def unbounded_channel(device: Device) -> grpc.Channel:
    """A channel of a client that keeps no bound of its own."""
    identity = device.enrolled.identity
    credentials = grpc.ssl_channel_credentials(identity.ca, identity.key, identity.certificate)
    options = [("grpc.max_send_message_length", -1)]
    return grpc.secure_channel(device.enrolled.address, credentials, options)


def test_work_of_another_device_is_refused(cohort: Cohort) -> None:
    (device, task), (other, others_task) = cohort.take(), cohort.take()
    before, announced = cohort.view(), artifact_of(device.coded(others_task))
    with pytest.raises(Rejected, match="not federated work of this device"):
        device.session.open_update(others_task.lease, announced)
    with pytest.raises(Rejected, match="not federated work of this device"):
        device.put(others_task.lease, announced, 0, b"x")
    with pytest.raises(Rejected, match="not federated work of this device"):
        device.commit(others_task, announced)
    assert cohort.view() == before
    cohort.expect_a_good_update_to_be_taken(device, task)
    cohort.expect_a_good_update_to_be_taken(other, others_task)

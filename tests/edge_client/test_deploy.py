"""A deployment on the device: the better sub-model stays, and the way back is short."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_client import submodel
from edge_client.deploy import deploy
from edge_client.inference import EarlyExitModel
from edge_client.task import DEPLOY, INSTALLED, KEPT, RESTORED
from reefleet.errors import Rejected


@pytest.fixture
def device(kit: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """A client, and the task of deployment 1 of version 4."""
    coordinator, task = kit.a_coordinator()
    client = kit.a_client(tmp_path, coordinator, kit.device_data(train=60))
    first = replace(task, kind=DEPLOY, lease="first", round=1, base_version=4)
    return SimpleNamespace(client=client, coordinator=coordinator, first=first, root=tmp_path)


def version_of(client: SimpleNamespace) -> int:
    origin = submodel.origin_of(client.submodel)
    assert origin is not None
    return origin.base_version


def test_the_first_deployment_is_installed_and_reported(device: SimpleNamespace) -> None:
    deploy(device.client, device.first)
    ((lease, outcome, accuracy, before),) = device.coordinator.deployments
    assert (lease, outcome, before) == ("first", INSTALLED, None)
    assert accuracy > 0.5
    assert version_of(device.client) == 4


def test_a_deployment_that_is_no_longer_wanted_is_no_failure(device: SimpleNamespace) -> None:
    device.coordinator.refusal = Rejected("deployment 2 came after it")
    deploy(device.client, device.first)
    assert device.coordinator.deployments == []
    assert version_of(device.client) == 4  # the rollback that follows finds it here


def test_a_worse_submodel_is_not_put_in_place(
    kit: SimpleNamespace, device: SimpleNamespace
) -> None:
    deploy(device.client, device.first)
    good = (device.client.submodel / "weights.rft").read_bytes()
    # No epoch of training turns these weights into a classifier.
    spoiled = {name: value * 0 for name, value in kit.weights().items()}
    files = kit.a_coordinator(base=spoiled)
    device.coordinator.files.update(files[0].files)
    worse = replace(files[1], kind=DEPLOY, lease="worse", round=2, base_version=5)
    deploy(device.client, worse)
    _, outcome, accuracy, before = device.coordinator.deployments[-1]
    assert outcome == KEPT
    assert before is not None
    assert accuracy < before
    assert version_of(device.client) == 4
    assert (device.client.submodel / "weights.rft").read_bytes() == good
    assert not (device.root / "submodel.building").exists()


def test_going_back_brings_the_kept_submodel_without_training(
    device: SimpleNamespace,
) -> None:
    deploy(device.client, device.first)
    first = (device.client.submodel / "manifest.json").read_bytes()
    deploy(device.client, replace(device.first, lease="second", round=2, base_version=5))
    assert version_of(device.client) == 5
    device.coordinator.files.clear()  # nothing could be fetched now
    deploy(device.client, replace(device.first, lease="third", round=3, base_version=4))
    assert [outcome for _, outcome, _, _ in device.coordinator.deployments] == [
        INSTALLED,
        INSTALLED,
        RESTORED,
    ]
    assert (device.client.submodel / "manifest.json").read_bytes() == first
    deploy(device.client, replace(device.first, lease="fourth", round=4, base_version=5))
    assert version_of(device.client) == 5


def test_a_client_killed_before_its_report_says_the_same_again(device: SimpleNamespace) -> None:
    deploy(device.client, device.first)
    second = replace(device.first, lease="second", round=2, base_version=5)
    deploy(device.client, second)
    deploy(device.client, second)
    assert device.coordinator.deployments[-1] == device.coordinator.deployments[-2]
    assert submodel.origin_of(submodel.before(device.client.submodel)).base_version == 4  # type: ignore[union-attr]


def test_a_damaged_submodel_in_place_is_replaced(device: SimpleNamespace) -> None:
    deploy(device.client, device.first)
    (device.client.submodel / "weights.rft").write_bytes(b"torn")
    deploy(device.client, replace(device.first, lease="second", round=2, base_version=5))
    _, outcome, _, before = device.coordinator.deployments[-1]
    assert (outcome, before) == (INSTALLED, None)
    assert EarlyExitModel.open(device.client.submodel).manifest.provenance["base_version"] == "5"

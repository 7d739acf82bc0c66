from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_client.delivery import deliver
from edge_client.federate import federate, training_s
from edge_client.outbox import UPDATE_FILE, Entry
from edge_client.stopping import Stopped
from reefleet.errors import (
    ChecksumMismatch,
    DataTooSmall,
    NonFiniteUpdate,
    PayloadTooLarge,
    TensorMismatch,
    UnsupportedVersion,
    WireError,
)
from reefleet.model import tensor_shapes
from reefleet.rpc import identity
from reefleet.wire.codecs import decode_update


def sent(entry: Entry) -> bytes:
    return (entry.folder / UPDATE_FILE).read_bytes()


def test_a_round_learns_from_the_devices_own_data(kit: SimpleNamespace, tmp_path: Path) -> None:
    coordinator, task = kit.a_coordinator()
    data = kit.device_data(train=60)
    losses = []
    base = kit.weights()
    for number in (1, 2, 3):
        coordinator, task = kit.a_coordinator(base=base)
        client = kit.a_client(tmp_path, coordinator, data)
        entry = federate(client, replace(task, lease=f"lease-{number}", round=number))
        losses.append(entry.metrics.loss)
        delta = decode_update(sent(entry), tensor_shapes(kit.SPEC, 2))
        base = {name: value + delta[name] for name, value in base.items()}
        assert deliver(client, entry)
    assert losses[0] > losses[1] > losses[2]


def test_an_update_is_the_difference_from_the_downloaded_weights(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    coordinator, task = kit.a_coordinator()
    client = kit.a_client(tmp_path, coordinator)
    delta = decode_update(sent(federate(client, task)), tensor_shapes(kit.SPEC, 2))
    moved = {name for name, value in delta.items() if value.any()}
    assert moved == set(kit.TRAINED)


def test_work_lost_to_a_crash_is_repeated_bit_for_bit(kit: SimpleNamespace, tmp_path: Path) -> None:
    digests = []
    for run in ("one", "two"):
        coordinator, task = kit.a_coordinator()
        digests.append(federate(kit.a_client(tmp_path / run, coordinator), task).update.sha256)
    assert digests[0] == digests[1]


def test_a_stop_during_training_leaves_nothing_behind(kit: SimpleNamespace, tmp_path: Path) -> None:
    coordinator, task = kit.a_coordinator()
    client = kit.a_client(tmp_path, coordinator)
    client.prepare(task)

    def stop() -> None:
        raise Stopped

    client.check = stop
    with pytest.raises(Stopped):
        federate(client, task)
    assert client.outbox.pending() == []
    assert not (tmp_path / "personal").exists()


def test_diverged_training_is_not_offered(kit: SimpleNamespace, tmp_path: Path) -> None:
    broken = kit.weights()
    broken["head.bias"][:] = 3e38
    broken["head.weight"][:] = 3e38
    coordinator, task = kit.a_coordinator(base=broken)
    client = kit.a_client(tmp_path, coordinator)
    with pytest.raises(NonFiniteUpdate):
        federate(client, task)
    assert client.outbox.pending() == []


def test_a_wrong_signature_is_refused_before_the_manifest_is_read(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    coordinator, task = kit.a_coordinator()
    manifest = coordinator.files[task.manifest.sha256]
    foreign = identity.sign(identity.new_manifest_key(), manifest)
    client = kit.a_client(tmp_path, coordinator)
    with pytest.raises(ChecksumMismatch):
        federate(client, replace(task, signature=foreign))
    assert [digest for digest, _ in coordinator.fetched] == [task.manifest.sha256]


def resigned(kit: SimpleNamespace, task: object, coordinator: object, manifest: bytes) -> object:
    digest = kit.sha256_hex(manifest)
    coordinator.files[digest] = manifest
    return replace(
        task,
        manifest=kit.Artifact(digest, len(manifest)),
        signature=identity.sign(kit.KEY, manifest),
    )


def test_a_manifest_of_a_newer_format_is_refused(kit: SimpleNamespace, tmp_path: Path) -> None:
    coordinator, task = kit.a_coordinator()
    manifest = coordinator.files[task.manifest.sha256].replace(b'"format":1', b'"format":2')
    newer = resigned(kit, task, coordinator, manifest)
    with pytest.raises(UnsupportedVersion, match="format 2"):
        federate(kit.a_client(tmp_path, coordinator), newer)


def test_a_manifest_for_another_plan_is_refused(kit: SimpleNamespace, tmp_path: Path) -> None:
    coordinator, task = kit.a_coordinator()
    other = replace(task, plan=replace(task.plan, bits=4))
    with pytest.raises(WireError, match="another plan"):
        federate(kit.a_client(tmp_path, coordinator), other)


def test_a_manifest_whose_state_is_no_tensor_of_the_model_is_refused(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    program = kit.a_program("shared", file="train.onnx")
    odd = kit.m.StateTensor("shared/secret", "shared", (3,), "weights", "secret")
    programs = {"federate": replace(program, state=(*program.state, odd))}
    coordinator, task = kit.a_coordinator(programs=programs)
    with pytest.raises(TensorMismatch, match="secret"):
        federate(kit.a_client(tmp_path, coordinator), task)


def test_a_file_over_the_bound_is_refused_before_its_first_byte(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    coordinator, task = kit.a_coordinator()
    huge = replace(task, weights=kit.Artifact("0" * 64, 1 << 40))
    with pytest.raises(PayloadTooLarge):
        federate(kit.a_client(tmp_path, coordinator), huge)
    assert "0" * 64 not in [digest for digest, _ in coordinator.fetched]


def test_weights_of_another_model_are_refused(kit: SimpleNamespace, tmp_path: Path) -> None:
    base = kit.weights()
    base["head.bias"] = np.zeros(4, np.float32)
    coordinator, task = kit.a_coordinator(base=base)
    with pytest.raises(TensorMismatch, match=r"head\.bias"):
        federate(kit.a_client(tmp_path, coordinator), task)


def test_a_device_without_training_data_says_so(kit: SimpleNamespace, tmp_path: Path) -> None:
    coordinator, task = kit.a_coordinator()
    client = kit.a_client(tmp_path, coordinator, kit.device_data(train=0))
    with pytest.raises(DataTooSmall, match="train"):
        federate(client, task)


def test_weights_of_past_rounds_do_not_fill_the_card(kit: SimpleNamespace, tmp_path: Path) -> None:
    coordinator, task = kit.a_coordinator()
    client = kit.a_client(tmp_path, coordinator)
    federate(client, task)
    assert not client.blobs.has(task.weights.sha256)
    assert client.blobs.has(task.manifest.sha256)


def test_the_second_round_fetches_only_the_new_weights(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    coordinator, task = kit.a_coordinator()
    client = kit.a_client(tmp_path, coordinator)
    deliver(client, federate(client, task))
    coordinator.fetched.clear()
    federate(client, replace(task, lease="lease-2", round=2))
    assert {digest for digest, _ in coordinator.fetched} == {task.weights.sha256}


def test_two_model_rounds_carry_personal_state_and_report_it(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    plan = replace(kit.PLAN, models=2)
    coordinator, task = kit.a_coordinator(plan)
    client = kit.a_client(tmp_path, coordinator)
    entry = federate(client, task)
    stored = client.personal.state(task.manifest.sha256)
    steps = stored["statistic/steps"].copy()
    assert len(entry.metrics.personal_accuracy) == 2
    assert f"centers/{kit.CODED}" in stored
    assert steps.max() > 0
    deliver(client, entry)
    federate(client, replace(task, lease="lease-2", round=2))
    assert (client.personal.state(task.manifest.sha256)["statistic/steps"] > steps).all()


def test_what_is_done_when_time_runs_out_is_pushed_and_counts_for_as_much_less(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    samples = []
    for deadline_s in (600, 0):
        coordinator, task = kit.a_coordinator()
        client = kit.a_client(tmp_path / str(deadline_s), coordinator, kit.device_data(train=60))
        entry = federate(client, replace(task, deadline_s=deadline_s))
        samples.append((entry.samples, entry.metrics.steps, entry.metrics.steps_asked))
    (whole, steps, asked), (part, one, same) = samples
    assert (whole, steps) == (60, asked)
    assert (part, one, same) == (max(1, 60 // asked), 1, asked)


def test_the_plan_s_local_steps_end_a_round_without_another_bundle(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    coordinator, task = kit.a_coordinator()
    client = kit.a_client(tmp_path, coordinator)
    short = replace(task, plan=replace(task.plan, local_steps=2))
    assert federate(client, short).metrics.steps == 2


@pytest.mark.parametrize(
    ("fetched_s", "passed_s", "left_s"), [(0, 0, 85), (5, 10, 75), (20, 25, 35), (60, 70, -20)]
)
def test_time_is_kept_for_pushing_the_more_the_slower_the_link(
    fetched_s: float, passed_s: float, left_s: float
) -> None:
    assert training_s(100.0, fetched_s, passed_s) == pytest.approx(left_s)


def test_another_turn_in_the_same_round_trains_on_another_order(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    digests = []
    for turn in (0, 0, 1):
        coordinator, task = kit.a_coordinator()
        client = kit.a_client(tmp_path / str(len(digests)), coordinator)
        digests.append(federate(client, replace(task, turn=turn)).update.sha256)
    assert digests[0] == digests[1] != digests[2]


def test_a_chain_that_the_coordinator_names_needs_no_other_bundle(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    coordinator, task = kit.a_coordinator()
    plan = replace(task.plan, codec="clip:0.001,int8")
    entry = federate(kit.a_client(tmp_path, coordinator), replace(task, plan=plan))
    delta = decode_update(sent(entry), tensor_shapes(kit.SPEC, 2))
    assert 0 < sum(float(np.square(value).sum()) for value in delta.values()) ** 0.5 < 0.0011

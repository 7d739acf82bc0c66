from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_client.delivery import ATTEMPTS, deliver, deliver_all
from edge_client.federate import federate
from edge_client.outbox import ENTRY_FILE, UPDATE_FILE, Outbox
from edge_client.personal import RESIDUAL_FILE, STATE_FILE
from reefleet.errors import ChecksumMismatch, CoordinatorUnavailable, Rejected
from reefleet.report import DeviceMetrics

TWO_MODELS = {"models": 2, "codec": "int8"}


def a_finished_round(kit: SimpleNamespace, state: Path) -> tuple[object, object, object]:
    """A client whose round is trained, adopted and in the outbox, not yet pushed."""
    coordinator, task = kit.a_coordinator(replace(kit.PLAN, **TWO_MODELS))
    client = kit.a_client(state, coordinator)
    return client, coordinator, federate(client, task)


def restarted(kit: SimpleNamespace, client: object, coordinator: object) -> object:
    return kit.a_client(client.config.state, coordinator)


def test_a_finished_round_is_complete_on_disk(kit: SimpleNamespace, tmp_path: Path) -> None:
    client, _, entry = a_finished_round(kit, tmp_path)
    assert client.outbox.pending() == [entry]
    names = {path.name for path in entry.folder.iterdir()}
    assert names == {UPDATE_FILE, ENTRY_FILE, RESIDUAL_FILE}  # the state is adopted already
    assert (tmp_path / "personal" / STATE_FILE).exists()
    assert not (tmp_path / "personal" / RESIDUAL_FILE).exists()


def test_a_crash_before_the_entry_is_visible_leaves_nothing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    building = outbox.begin("lease-1")
    (building / STATE_FILE).write_bytes(b"half")
    (building / UPDATE_FILE).write_bytes(b"half")
    assert outbox.pending() == []
    assert list((tmp_path / "outbox").iterdir()) == []


def test_a_crash_before_the_state_is_adopted_adopts_it_at_the_restart(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    client, coordinator, entry = a_finished_round(kit, tmp_path)
    adopted = tmp_path / "personal" / STATE_FILE
    expected = adopted.read_bytes()
    adopted.rename(entry.state_file)  # as if the process had died before the move
    deliver_all(restarted(kit, client, coordinator))
    assert adopted.read_bytes() == expected
    assert len(coordinator.commits) == 1


def test_a_crash_before_the_push_pushes_at_the_restart(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    client, coordinator, entry = a_finished_round(kit, tmp_path)
    deliver_all(restarted(kit, client, coordinator))
    assert [commit[:2] for commit in coordinator.commits] == [(entry.lease, entry.update.sha256)]
    assert client.outbox.pending() == []
    assert (tmp_path / "personal" / RESIDUAL_FILE).exists()


def test_a_crash_between_the_answer_and_the_residual_pushes_once_more(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    client, coordinator, entry = a_finished_round(kit, tmp_path)
    shutil.copytree(entry.folder, tmp_path / "kept")
    deliver(client, entry)
    shutil.rmtree(tmp_path / "personal")
    (tmp_path / "kept").rename(entry.folder)
    deliver_all(restarted(kit, client, coordinator))
    assert len({commit[:2] for commit in coordinator.commits}) == 1  # the same update, repeated
    assert (tmp_path / "personal" / RESIDUAL_FILE).exists()
    assert client.outbox.pending() == []


def test_a_crash_between_the_residual_and_the_removal_keeps_the_residual(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    client, coordinator, entry = a_finished_round(kit, tmp_path)
    shutil.copytree(entry.folder, tmp_path / "kept")
    deliver(client, entry)
    residual = (tmp_path / "personal" / RESIDUAL_FILE).read_bytes()
    (tmp_path / "kept").rename(entry.folder)
    entry.residual_file.unlink()
    deliver_all(restarted(kit, client, coordinator))
    assert (tmp_path / "personal" / RESIDUAL_FILE).read_bytes() == residual
    assert client.outbox.pending() == []


def test_a_crash_during_the_removal_is_finished_at_the_restart(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    client, coordinator, entry = a_finished_round(kit, tmp_path)
    hidden = entry.folder.with_name(f".{entry.lease}")
    entry.folder.rename(hidden)
    (hidden / ENTRY_FILE).unlink()
    deliver_all(restarted(kit, client, coordinator))
    assert coordinator.commits == []
    assert list(entry.folder.parent.iterdir()) == []


def test_a_push_that_is_cut_goes_on_where_it_stopped(kit: SimpleNamespace, tmp_path: Path) -> None:
    client, coordinator, entry = a_finished_round(kit, tmp_path)
    data = (entry.folder / UPDATE_FILE).read_bytes()
    coordinator.held = data[:1000]  # what an earlier process brought over
    assert deliver(client, entry)
    assert coordinator.bytes_up == len(data) - 1000


def test_a_late_update_is_dropped_and_its_residual_with_it(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    client, coordinator, entry = a_finished_round(kit, tmp_path)
    coordinator.refusal = Rejected("round 1 is closed")
    assert not deliver(client, entry)
    assert client.outbox.pending() == []
    assert not (tmp_path / "personal" / RESIDUAL_FILE).exists()
    assert (tmp_path / "personal" / STATE_FILE).exists()


def test_a_coordinator_that_is_away_costs_nothing(kit: SimpleNamespace, tmp_path: Path) -> None:
    client, coordinator, entry = a_finished_round(kit, tmp_path)
    coordinator.refusal = CoordinatorUnavailable("nobody")
    with pytest.raises(CoordinatorUnavailable):
        deliver(client, entry)
    assert client.outbox.pending() == [entry]


def test_an_upload_that_keeps_arriving_altered_is_given_up(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    client, coordinator, entry = a_finished_round(kit, tmp_path)
    tries, altered = [], ChecksumMismatch("altered")

    def commit(*_: object) -> bool:
        tries.append(1)
        coordinator.held = b""
        raise altered

    coordinator.commit_update = commit
    assert not deliver(client, entry)
    assert len(tries) == ATTEMPTS


def test_an_update_altered_on_disk_is_not_pushed(kit: SimpleNamespace, tmp_path: Path) -> None:
    client, coordinator, entry = a_finished_round(kit, tmp_path)
    (entry.folder / UPDATE_FILE).write_bytes(b"other")
    assert not deliver(client, entry)
    assert coordinator.commits == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": 2}', b"\xff"])
def test_a_damaged_entry_is_removed_and_does_not_stop_the_client(
    tmp_path: Path, content: bytes
) -> None:
    outbox = Outbox(tmp_path)
    (tmp_path / "lease-9").mkdir()
    (tmp_path / "lease-9" / ENTRY_FILE).write_bytes(content)
    assert outbox.pending() == []
    assert list(tmp_path.iterdir()) == []


def test_older_rounds_go_first(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for lease, number in (("a", 3), ("b", 1), ("c", 2)):
        outbox.begin(lease)
        outbox.commit(lease, [b"update"], DeviceMetrics(), round_number=number, samples=1)
    assert [entry.lease for entry in outbox.pending()] == ["b", "c", "a"]


def test_what_coding_lost_is_sent_with_the_next_update(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    client, _, entry = a_finished_round(kit, tmp_path)
    deliver(client, entry)
    shapes = {name: value.shape for name, value in kit.weights().items()}
    residual = client.personal.residual(shapes)
    assert any(np.abs(value).max() > 0 for value in residual.values())
    assert client.personal.residual({"head.bias": (7,)}) == {}

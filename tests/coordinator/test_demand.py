"""Who still needs work, on both databases; a quiet fleet is not read again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from coordinator import records as r
from coordinator.store import Store
from coordinator.store.address import Address
from reefleet.plan import SubmodelPlan

PLAN = SubmodelPlan(2, 4, 8, 1, 1, "int8", ())
BLOB = r.Artifact("ab" * 32, 3)
KIND, NUMBER = r.PERSONALIZE, 9


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, an_address: Callable[[str], Address]) -> Iterator[Store]:
    store = Store(an_address(request.param))
    store.add_version(r.Version(0, BLOB, 1.0))
    store.add_bundle(r.Bundle("key", BLOB, b"signature", (BLOB,)))
    with store.held():
        yield store
    store.close()


def enroll(store: Store, name: str, bundle_key: str = "key") -> None:
    token = r.Token(name.ljust(64, "0"), name, 10.0)
    store.add_token(token)
    device = r.Device(name, "1f", "cd" * 32, 5.0)
    store.enroll(device, r.Enrollment(token.sha256, name, name, b"certificate", 5.0))
    store.set_plan(name, {"board": "rpi-4b"}, PLAN, "x", bundle_key)


def hand_out(store: Store, name: str, kind: str = KIND, number: int = NUMBER) -> str:
    lease = f"{kind}-{number}-{name}"
    store.add_assignment(r.Assignment(lease, kind, number, name, PLAN, 0, BLOB, b"", BLOB, 7.0))
    return lease


def without(store: Store) -> list[str]:
    return [device.device_id for device in store.ready_without(KIND, NUMBER)]


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """What the database is asked inside the block."""
    said: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        said.append(statement)

    event.listen(store._engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(store._engine, "before_cursor_execute", note)


def test_work_is_wanted_by_ready_devices_that_never_had_it(store: Store) -> None:
    for name in ("b", "a", "revoked", "busy-elsewhere", "done"):
        enroll(store, name)
    enroll(store, "compiling", "another key")
    store.revoke("revoked", 6.0)
    hand_out(store, "busy-elsewhere", KIND, NUMBER - 1)
    hand_out(store, "done")
    assert without(store) == ["a", "b", "busy-elsewhere"]


def test_a_device_that_comes_late_is_found_though_all_had_work(store: Store) -> None:
    enroll(store, "a")
    hand_out(store, "a")
    assert without(store) == []
    enroll(store, "b")
    assert without(store) == ["b"]


def test_a_device_whose_bundle_is_made_later_is_found(store: Store) -> None:
    enroll(store, "a", "later")
    assert without(store) == []
    store.add_bundle(r.Bundle("later", BLOB, b"signature", (BLOB,)))
    assert without(store) == ["a"]


def test_a_quiet_fleet_is_not_read_again(store: Store) -> None:
    enroll(store, "a")
    hand_out(store, "a")
    store.ready_without(KIND, NUMBER)
    enroll(store, "idle")
    hand_out(store, "idle")
    store.ready_without(KIND, NUMBER)
    store.device("idle")
    store.rounds_closed()
    with statements(store) as said:
        store.set_seen({"idle": 8.0})
        writing = len(said)
        assert without(store) == []
        assert store.rounds_closed() == 0
        found = store.device("idle")
    assert said[writing:] == []
    assert found is not None
    assert found.last_seen_at == 8.0


def test_an_idle_device_asks_no_database_until_work_is_handed_out(store: Store) -> None:
    enroll(store, "a")
    assert store.open_assignment("a") is None
    with statements(store) as said:
        assert store.open_assignment("a") is None
    assert said == []
    lease = hand_out(store, "a")
    found = store.open_assignment("a")
    assert found is not None
    assert found.lease == lease


def test_a_look_for_garbage_lets_an_idle_device_go_on_asking_no_database(store: Store) -> None:
    enroll(store, "a")
    store.device("a")
    assert store.open_assignment("a") is None
    store.retire(1)
    store.rounds_closed()  # asked once for all devices
    with statements(store) as said:
        assert store.device("a") is not None
        assert store.rounds_closed() == 0
        assert store.open_assignment("a") is None
    assert said == []


def test_a_round_is_found_by_devices_that_were_idle(store: Store) -> None:
    enroll(store, "a")
    assert (store.open_assignment("a"), store.rounds_closed()) == (None, 0)
    work = r.Assignment("l", r.FEDERATE, 1, "a", PLAN, 0, BLOB, b"", BLOB, 7.0)
    store.add_round(r.Round(1, 0, r.OPEN, 1, 2.0, 3.0), [work])
    assert store.open_assignment("a") == work
    store.stop_round(1, "deadline")
    store.close_round(1, 9.0, None)
    assert (store.open_assignment("a"), store.rounds_closed()) == (None, 1)


def test_a_deployment_is_found_by_devices_that_were_idle(store: Store) -> None:
    enroll(store, "a")
    assert store.open_assignment("a") is None
    work = r.Assignment("l", r.DEPLOY, 1, "a", PLAN, 0, BLOB, b"", BLOB, 7.0)
    store.begin_deployment(r.Deployment(1, 0, 1.0, r.ROLLING, 5.0), [work])
    assert store.open_assignment("a") == work


def test_work_counts_as_open_until_it_ends_and_as_an_update_when_it_ended_so(
    store: Store,
) -> None:
    for name in ("a", "b"):
        enroll(store, name)
    work = [
        r.Assignment(name, r.FEDERATE, 1, name, PLAN, 0, BLOB, b"", BLOB, 7.0)
        for name in ("a", "b")
    ]
    store.add_round(r.Round(1, 0, r.OPEN, 1, 2.0, 3.0), work)
    assert store.standing(1) == (0, True)
    store.accept("a", r.Update(1, "a", BLOB, 11, 2, {}, 4.0, lease="a"))
    assert store.standing(1) == (1, True)
    store.refuse(r.Refusal(1, "b", "", "too long", 4.0), "b")
    assert store.standing(1) == (1, False)
    assert not store.has_open_work(r.DEPLOY, 1)


def test_who_looks_on_sees_what_another_process_writes(tmp_path: Path) -> None:
    serving, looking = Store(tmp_path / "state.db"), Store(tmp_path / "state.db")
    with serving.held():
        assert (looking.latest_version(), looking.current_round()) == (None, None)
        serving.add_version(r.Version(0, r.Artifact("0" * 64, 1), 0.0))
        found = looking.latest_version()
    serving.close()
    looking.close()
    assert found is not None
    assert found.number == 0

"""The store: what goes in comes out, in one transaction, also after the file is opened again."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator import records as r
from coordinator.config import CoordinatorConfig
from coordinator.folder import Folder
from coordinator.state import state_address
from coordinator.store import Store
from coordinator.store.address import Address, address_of
from reefleet.errors import ConfigError, InputError, Rejected, StoreError
from reefleet.plan import SubmodelPlan
from tests.postgresql import Server

AnAddress = Callable[[str], Address]

PLAN = SubmodelPlan(2, 4, 8, 1, 1, "int8", ("because", "of this"))
DIGEST = "ab" * 32


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, an_address: AnAddress) -> Any:
    store = Store(an_address(request.param))
    yield store
    store.close()


def with_device(store: Store, name: str = "a") -> Any:
    token = r.Token(name * 64, name, 10.0)
    store.add_token(token)
    store.enroll(r.Device(name, "1f", DIGEST, 5.0), traded(token, name))


def traded(token: r.Token, request: str) -> Any:
    return r.Enrollment(token.sha256, request, token.device_id, b"certificate", 5.0)


def an_assignment(
    name: str = "a", number: int = 1, lease: str = "l", kind: str = r.FEDERATE
) -> Any:
    artifact = r.Artifact(DIGEST, 3)
    return r.Assignment(lease, kind, number, name, PLAN, 0, artifact, b"sig", artifact, 7.0)


def with_round(store: Store) -> Any:
    with_device(store)
    store.add_version(r.Version(0, r.Artifact(DIGEST, 3), 1.0))
    store.add_round(r.Round(1, 0, r.OPEN, 1, 2.0, 3.0), [an_assignment()])


def test_everything_is_there_after_opening_it_again(store: Store) -> None:
    with_round(store)
    store.set_plan("a", {"board": "rpi-4b"}, PLAN, "x", "key")
    store.set_upload("l", r.Artifact(DIGEST, 9))
    update = r.Update(
        1, "a", r.Artifact(DIGEST, 9), 11, 2, {"loss": 0.5}, 4.0, lease="l", rms=0.5, folded_in=1
    )
    store.accept("l", update)
    store.close()
    again = Store(store.address)
    device = again.device("a")
    assert (device.serial, device.fingerprint, device.enrolled_at) == ("1f", DIGEST, 5.0)
    assert (device.profile, device.plan) == ({"board": "rpi-4b"}, PLAN)
    assert again.current_round() == r.Round(1, 0, r.OPEN, 1, 2.0, 3.0)
    assert again.updates(1) == [update]
    assert again.upload_of("l").announced == r.Artifact(DIGEST, 9)
    assert again.assignment("l").plan == PLAN
    again.close()


def test_a_token_is_used_once_even_by_two_at_the_same_time(store: Store) -> None:
    with_device(store)
    token = r.Token("b" * 64, "a", 10.0)
    store.add_token(token)
    outcomes = []

    def enroll(serial: str) -> Any:
        try:
            store.enroll(r.Device("a", serial, DIGEST, 5.0), traded(token, serial))
            outcomes.append(serial)
        except Rejected:
            outcomes.append("refused")

    threads = [threading.Thread(target=enroll, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes).count("refused") == 3


def test_a_refused_write_leaves_no_part_of_itself(store: Store) -> None:
    with_round(store)
    update = r.Update(1, "a", r.Artifact(DIGEST, 9), 11, 2, {}, 4.0)
    store.accept("l", update)
    with pytest.raises(Rejected):
        store.accept("l", update)
    bad = an_assignment("nobody", 2, "m")
    with pytest.raises(StoreError):
        store.add_round(r.Round(2, 0, r.OPEN, 1, 2.0, 3.0), [bad])
    assert [found.number for found in store.rounds()] == [1]


def test_no_update_enters_a_round_that_has_stopped(store: Store) -> None:
    with_round(store)
    store.stop_round(1, "deadline")
    with pytest.raises(Rejected):
        store.accept("l", r.Update(1, "a", r.Artifact(DIGEST, 9), 11, 2, {}, 4.0))
    assert store.updates() == []
    assert store.assignment("l").reason == "round 1 closed without it (deadline)"


def test_a_round_and_its_version_are_closed_together(store: Store) -> None:
    with_round(store)
    store.stop_round(1, "quorum")
    store.close_round(1, 9.0, r.Version(1, r.Artifact("cd" * 32, 3), 9.0))
    (closed,) = store.rounds()
    assert (closed.state, closed.result_version, closed.closed_at) == (r.CLOSED, 1, 9.0)
    assert store.latest_version().number == 1
    assert store.current_round() is None


def test_a_value_that_no_database_can_keep_is_refused_as_input(an_address: AnAddress) -> None:
    store = Store(an_address("postgresql"))
    with pytest.raises(InputError):
        store.set_fact("x", "\0")
    store.close()


def test_a_server_that_restarted_serves_on(an_address: AnAddress, postgresql: Server) -> None:
    store = Store(an_address("postgresql"))
    store.set_fact("x", "1")
    postgresql.stop()
    try:
        with pytest.raises(StoreError, match="cannot be read or written"):
            store.fact("x")
    finally:
        postgresql.start()
    assert store.fact("x") == "1"
    store.close()


def test_a_killed_server_has_kept_what_was_acknowledged(
    an_address: AnAddress, postgresql: Server
) -> None:
    store = Store(an_address("postgresql"))
    store.set_fact("x", "1")
    postgresql.stop(signal.SIGQUIT)  # as a crash: it recovers from its log
    postgresql.start()
    assert store.fact("x") == "1"
    store.close()


def test_one_coordinator_at_a_time_serves_a_server_s_database(an_address: AnAddress) -> None:
    one = Store(an_address("postgresql"))
    other = Store(one.address)
    with one.held(), pytest.raises(StoreError, match="another coordinator"), other.held():
        pass
    with other.held():
        pass
    one.close()
    other.close()


def test_a_password_is_in_nothing_that_is_shown(tmp_path: Path) -> None:
    url = "postgresql+psycopg://reef:S3cret@127.0.0.1:1/none"
    address = address_of(url, tmp_path)
    with pytest.raises(StoreError) as failed:
        Store(address)
    shown = [repr(address), address.shown, str(failed.value), repr(failed.value.__cause__)]
    shown.append(repr(CoordinatorConfig(database=url)))
    assert not any("S3cret" in text for text in shown)
    with pytest.raises(ConfigError) as refused:
        address_of("mysql://reef:S3cret@host/name", tmp_path)
    assert "S3cret" not in str(refused.value)


def test_a_password_is_taken_from_its_own_file(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.database_password.parent.mkdir()
    folder.database_password.write_text("S3cret\n")
    url = "postgresql+psycopg://reef@host/name"
    address = state_address(folder, CoordinatorConfig(database=url))
    assert address.url.password == "S3cret"


def test_a_file_waits_for_the_disk_and_knows_its_references(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    with store._read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    store.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"noise" * 1000)
    with pytest.raises(StoreError):
        Store(tmp_path / "state.db")


def test_facts_are_kept_and_replaced(store: Store) -> None:
    assert store.fact("x") is None
    store.set_fact("x", "1")
    store.set_fact("x", "2")
    assert store.fact("x") == "2"

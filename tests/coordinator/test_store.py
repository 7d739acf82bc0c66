"""The store: what goes in comes out, in one transaction, also after the file is opened again."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from coordinator import records as r
from coordinator.store import Store
from reefleet.errors import Rejected, StoreError, UnsupportedVersion
from reefleet.plan import SubmodelPlan

PLAN = SubmodelPlan(2, 4, 8, 1, 1, "int8", ("because", "of this"))
DIGEST = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = Store(tmp_path / "state.db")
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


def test_everything_is_there_after_opening_the_file_again(store: Store, tmp_path: Path) -> None:
    with_round(store)
    store.set_plan("a", {"board": "rpi-4b"}, PLAN, "x", "key")
    store.set_upload("l", r.Artifact(DIGEST, 9))
    update = r.Update(1, "a", r.Artifact(DIGEST, 9), 11, 2, {"loss": 0.5}, 4.0)
    store.accept("l", update)
    store.close()
    again = Store(tmp_path / "state.db")
    device = again.device("a")
    assert (device.serial, device.fingerprint, device.enrolled_at) == ("1f", DIGEST, 5.0)
    assert (device.profile, device.plan) == ({"board": "rpi-4b"}, PLAN)
    assert again.current_round() == r.Round(1, 0, r.OPEN, 1, 2.0, 3.0)
    assert again.updates(1) == [update]
    assert again.upload("l") == r.Artifact(DIGEST, 9)
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


def test_the_database_waits_for_the_disk_and_knows_its_references(store: Store) -> None:
    with store._read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_file_of_a_newer_program_is_refused(store: Store, tmp_path: Path) -> None:
    store.close()
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(UnsupportedVersion):
        Store(tmp_path / "state.db")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"noise" * 1000)
    with pytest.raises(StoreError):
        Store(tmp_path / "state.db")


def test_facts_are_kept_and_replaced(store: Store) -> None:
    assert store.fact("x") is None
    store.set_fact("x", "1")
    store.set_fact("x", "2")
    assert store.fact("x") == "2"


# The tables that format 2 changed, as format 1 had them.
FORMAT_1 = """
CREATE TABLE tokens (sha256 VARCHAR(64) PRIMARY KEY, device_id VARCHAR(63) NOT NULL,
  expires_at FLOAT NOT NULL, used_at FLOAT, request_sha256 TEXT DEFAULT '' NOT NULL,
  certificate BLOB NOT NULL);
CREATE TABLE devices (device_id VARCHAR(63) PRIMARY KEY, serial VARCHAR(64) NOT NULL,
  fingerprint VARCHAR(64) NOT NULL, enrolled_at FLOAT NOT NULL, last_seen_at FLOAT, profile TEXT,
  plan TEXT, planned_for TEXT DEFAULT '' NOT NULL, bundle_key TEXT DEFAULT '' NOT NULL,
  failure TEXT DEFAULT '' NOT NULL);
CREATE TABLE versions (number INTEGER PRIMARY KEY, sha256 VARCHAR(64) NOT NULL,
  size_bytes INTEGER NOT NULL, created_at FLOAT NOT NULL);
INSERT INTO versions VALUES (0, 'v', 3, 1.0);
INSERT INTO tokens VALUES ('t1', 'a', 9.0, 5.0, 'q', x'01'), ('t2', 'b', 9.0, NULL, '', x'');
INSERT INTO devices (device_id, serial, fingerprint, enrolled_at) VALUES ('a', '1f', 'f', 5.0);
PRAGMA user_version = 1;
"""


def test_a_file_of_the_first_format_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as old:
        old.executescript(FORMAT_1)
    old.close()
    store = Store(path)
    assert store.token("t2") == r.Token("t2", "b", 9.0, 1)
    assert store.enrollments("t1") == [r.Enrollment("t1", "q", "a", b"\x01", 5.0)]
    assert store.enrollments("t2") == []
    assert store.device("a") == r.Device("a", "1f", "f", 5.0)
    assert store.latest_version() == r.Version(0, r.Artifact("v", 3), 1.0)
    store.close()
    Store(path).close()

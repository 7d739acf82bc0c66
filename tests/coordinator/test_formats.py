"""A database of any earlier format is brought up to date, on both kinds, and loses nothing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from coordinator import records as r
from coordinator.store import Store, formats
from coordinator.store.address import Address, file_address
from coordinator.store.engine import open_engine
from coordinator.store.schema import REVISION, metadata
from reefleet.errors import StoreError, UnsupportedVersion
from reefleet.plan import SubmodelPlan

STATES = Path(__file__).parent / "states"
ADDRESSES = ("sqlite", "postgresql")
PLAN = SubmodelPlan(2, 4, 8, 1, 1, "int8", ("because", "of this"))

AnAddress = Callable[[str], Address]


def a_file(path: Path, number: int) -> Path:
    """A state file as a program of format `number` wrote it."""
    with sqlite3.connect(path) as old:
        old.executescript((STATES / f"format_{number}.sql").read_text())
    old.close()
    return path


def digest(letter: str) -> str:
    return letter * 64


def test_a_file_of_the_first_format_is_brought_up_to_date(tmp_path: Path) -> None:
    path = a_file(tmp_path / "old.db", 1)
    store = Store(path)
    assert store.token("t2") == r.Token("t2", "b", 9.0, 1)
    assert store.enrollments("t1") == [r.Enrollment("t1", "q", "a", b"\x01", 5.0)]
    assert store.enrollments("t2") == []
    assert store.device("a") == r.Device("a", "1f", "f", 5.0)
    assert store.latest_version() == r.Version(0, r.Artifact("v", 3), 1.0)
    store.close()
    Store(path).close()


def test_a_file_of_the_second_format_keeps_its_whole_run(tmp_path: Path) -> None:
    store = Store(a_file(tmp_path / "old.db", 2))
    assert [device.device_id for device in store.ready()] == ["a", "b"]
    assert store.device("a").plan == PLAN
    assert store.updates(1) == [
        r.Update(1, "a", r.Artifact(digest("5"), 9), 11, 2, {"loss": 0.5}, 4.0, "l1", folded_in=1)
    ]
    assert store.round_counts(1, 1)[1].loss == pytest.approx(0.5)
    assert [one.reason for one in store.refusals()] == ["too long"]
    assert store.current_round() == r.Round(2, 1, r.OPEN, 1, 7.0, 30.0)
    assert store.open_assignment("a").lease == "l3"
    assert store.may_fetch("a", digest("2"))
    assert store.token(digest("c")).uses == 5
    assert store.fact("contract") == "abc"
    assert store.last_deployments(1) == []
    store.close()


@pytest.mark.parametrize("kind", ADDRESSES)
def test_the_migrations_make_the_very_tables_that_the_program_works_on(
    kind: str, an_address: AnAddress
) -> None:
    engine = open_engine(an_address(kind))
    with engine.begin() as connection:
        formats.upgrade(connection)
        assert formats.REVISION == REVISION
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == REVISION
        assert compare_metadata(context, metadata) == []
    engine.dispose()


@pytest.mark.parametrize("kind", ADDRESSES)
def test_a_new_database_is_at_the_newest_revision(kind: str, an_address: AnAddress) -> None:
    at = an_address(kind)
    Store(at).close()
    engine = open_engine(at)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == REVISION
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_newest_revision_is_the_one_that_the_program_names() -> None:
    assert ScriptDirectory(str(formats.MIGRATIONS)).get_current_head() == REVISION


@pytest.mark.parametrize("kind", ADDRESSES)
def test_a_database_of_a_newer_program_is_refused_and_stays_as_it_is(
    kind: str, an_address: AnAddress
) -> None:
    at = an_address(kind)
    Store(at).close()
    engine = open_engine(at)
    with engine.begin() as connection:
        formats.stamp(connection, "9999")
    with pytest.raises(UnsupportedVersion, match="newer Reefleet"):
        Store(at)
    with engine.begin() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == "9999"
    engine.dispose()


def test_a_program_from_before_migrations_refuses_a_file_of_today(tmp_path: Path) -> None:
    Store(tmp_path / "state.db").close()
    with sqlite3.connect(tmp_path / "state.db") as connection:
        (number,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    assert number > 2


@pytest.mark.parametrize("kind", ADDRESSES)
def test_a_database_of_another_program_is_left_alone(kind: str, an_address: AnAddress) -> None:
    at = an_address(kind)
    engine = open_engine(at)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE orders (number INTEGER)")
    with pytest.raises(StoreError, match="another program"):
        Store(at)
    assert inspect(engine).get_table_names() == ["orders"]
    engine.dispose()


def test_an_upgrade_that_fails_takes_all_of_itself_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = a_file(tmp_path / "old.db", 2)
    engine = open_engine(file_address(path))

    def fail(connection: Any) -> None:
        formats_upgrade(connection, "0003")
        message = "the power fails here"
        raise StoreError(message)

    formats_upgrade = formats.upgrade
    monkeypatch.setattr(formats, "upgrade", fail)
    with pytest.raises(StoreError):
        Store(path)
    assert "deployments" not in inspect(engine).get_table_names()
    assert "loss" not in {column["name"] for column in inspect(engine).get_columns("updates")}
    engine.dispose()
    monkeypatch.undo()
    store = Store(path)
    assert store.current_round() is not None
    store.close()


def test_alembic_is_loaded_only_where_something_has_to_be_migrated(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from coordinator.store import Store; "
        "Store(Path(sys.argv[1])).close(); print('alembic' in sys.modules)"
    )
    said = {}
    for name, number in (("new.db", 0), ("old.db", 2)):
        path = tmp_path / name if not number else a_file(tmp_path / name, number)
        for start in ("first", "second"):
            done = subprocess.run(
                [sys.executable, "-c", code, str(path)],
                check=True,
                capture_output=True,
                text=True,
                cwd=Path(__file__).parents[2],
            )
            said[name, start] = done.stdout.strip()
    assert said == {
        ("new.db", "first"): "False",
        ("new.db", "second"): "False",
        ("old.db", "first"): "True",
        ("old.db", "second"): "False",
    }

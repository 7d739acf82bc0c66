"""One SQLite file through SQLAlchemy: WAL, synchronous=FULL, foreign keys, short transactions.

Writers take the database's lock at their start, so that two of them never have to be untangled.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from coordinator.store.schema import SCHEMA_VERSION, UPGRADES, metadata
from reefleet.errors import StoreError, StoreFull, UnsupportedVersion

_BUSY_S = 10
_POOL = 24  # at least the threads that may ask at once


class Database:
    """The file and its connections; the halves of the store build on it."""

    def __init__(self, path: Path) -> None:
        self._writing = threading.Lock()
        self._engine = _open_engine(path)
        try:
            with self._write() as connection:
                _prepare(connection, path)
        except (StoreError, UnsupportedVersion):
            self.close()
            raise

    def close(self) -> None:
        """Give the file back."""
        self._engine.dispose()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._writing, translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with translated(), self._engine.connect() as connection:
            yield connection.execution_options(reading=True)

    def _one(self, query: Select[Any]) -> Row[Any] | None:
        with self._read() as connection:
            return connection.execute(query).first()

    def _all(self, query: Select[Any]) -> list[Row[Any]]:
        with self._read() as connection:
            return list(connection.execute(query))


def dump(values: Mapping[str, Any]) -> str:
    """JSON text of a column; NaN has no place in it."""
    return json.dumps(values, sort_keys=True, allow_nan=False)


def _open_engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": _BUSY_S},
        pool_size=_POOL,
        max_overflow=_POOL,
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver's guess
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _prepare(connection: Connection, path: Path) -> None:
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found > SCHEMA_VERSION:
        msg = f"{path} was written by a newer Reefleet (format {found}); update this one"
        raise UnsupportedVersion(msg)
    if found < SCHEMA_VERSION:
        metadata.create_all(connection)
        for version in range(found or SCHEMA_VERSION, SCHEMA_VERSION):
            for statement in UPGRADES[version]:
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


@contextmanager
def translated() -> Iterator[None]:
    """Around work with the file: raise StoreFull or StoreError for what the library raises."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause = getattr(error, "orig", None) or error
        if "full" in str(cause):
            msg = "no room on disk for the coordinator's state; free some space"
            raise StoreFull(msg) from error
        msg = f"the coordinator's state cannot be read or written: {cause}"
        raise StoreError(msg) from error

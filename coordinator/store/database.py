"""One database through SQLAlchemy, in short transactions; the halves of the store build on it."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, Table, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, SQLAlchemyError

from coordinator.store import copying, formats
from coordinator.store.address import POSTGRESQL, Address, file_address
from coordinator.store.engine import SERVING_LOCK, open_engine, reading
from reefleet.errors import InputError, ReefleetError, StoreError, StoreFull

_DISK_FULL = "53100"  # SQLSTATE
REMEMBERED = 16_384  # rows; a device takes some 4 KiB, and beyond them asks the database

_Found = TypeVar("_Found")


class Database:
    """The database and its connections, from its making, or a file's, to `close`."""

    def __init__(self, at: Address | Path) -> None:
        self.address = at if isinstance(at, Address) else file_address(at)
        self._writing = threading.Lock()
        # What was read of devices, of work to hand out, and of what all devices share (the round,
        # the newest version, cuts, bundles); forgotten with any write to them.
        self._remembered: dict[str, Any] = {}
        self._remembered_work: dict[str, Any] = {}
        self._remembered_run: dict[tuple[object, ...], Any] = {}
        self._is_alone = False
        self._engine = open_engine(self.address)
        try:
            with self._write() as connection:
                formats.prepare(connection, self.address.shown)
        except ReefleetError:
            self.close()
            raise

    def close(self) -> None:
        """Give the database back."""
        self._engine.dispose()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep coordinators on other machines out; raises StoreError where one is serving.

        A file is held by its folder. Who holds the state is alone in writing it, and may remember.
        """
        if not self.address.is_postgresql:
            yield from self._alone()
            return
        with translated(), self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            lock = text("SELECT pg_try_advisory_lock(:key)")
            taken = bool(connection.scalar(lock, {"key": SERVING_LOCK}))
            if not taken:
                msg = f"another coordinator is serving {self.address.shown}; stop it first"
                raise StoreError(msg)
            try:
                yield from self._alone()
            finally:
                _let_go(connection)

    def _alone(self) -> Iterator[None]:
        self._is_alone = True
        try:
            yield
        finally:
            self._is_alone = False

    def load(self, other: Database) -> None:
        """Take over all rows of another database; raises StoreError where there are rows here."""
        with self._write() as connection, other._read() as source:
            if not copying.is_empty(connection):
                msg = f"{self.address.shown} holds a coordinator's state already; empty it first"
                raise StoreError(msg)
            copying.copy_rows(source, connection)

    @contextmanager
    def _write(
        self, *, of_devices: bool = True, of_work: bool = True, of_run: bool = True
    ) -> Iterator[Connection]:
        """A transaction; one that leaves devices and what they may fetch alone can say so.

        So can one that hands out no work, and one that leaves alone what all devices share.
        """
        try:
            with self._writing, translated(), self._engine.begin() as connection:
                yield connection
        finally:
            if of_devices:
                self._remembered = {}
            if of_work:
                self._remembered_work = {}
            if of_run:
                self._remembered_run = {}

    def _shared(self, find: Callable[[], _Found], *key: object) -> _Found:
        """What `find` gave for this key since the last write to what all devices share."""
        if not self._is_alone:  # who looks on is not told of writes
            return find()
        remembered = self._remembered_run  # of this moment: a write puts another in its place
        if key in remembered:
            found: _Found = remembered[key]
            return found
        found = find()
        if len(remembered) < REMEMBERED:
            remembered[key] = found
        return found

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with translated(), self._engine.connect() as connection:
            yield connection.execution_options(**reading(self.address))

    def _one(self, query: Select[Any], **values: object) -> Row[Any] | None:
        with self._read() as connection:
            return connection.execute(query, values).first()

    def _all(self, query: Select[Any]) -> list[Row[Any]]:
        with self._read() as connection:
            return list(connection.execute(query))


def _let_go(connection: Connection) -> None:
    try:
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": SERVING_LOCK})
    except SQLAlchemyError:
        connection.invalidate()  # the server is gone, and the lock with it


def upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert into `table` that can say what to do about a row that is there."""
    is_postgresql = connection.dialect.name == POSTGRESQL
    return postgresql.insert(table) if is_postgresql else sqlite.insert(table)


def dump(values: Mapping[str, Any]) -> str:
    """JSON text of a column; NaN has no place in it."""
    return json.dumps(values, sort_keys=True, allow_nan=False)


@contextmanager
def translated() -> Iterator[None]:
    """Around work with the database: raise StoreFull, StoreError or InputError for its errors."""
    try:
        yield
    except DataError as error:
        msg = f"a value cannot be kept: {_said(error.orig)}"
        raise InputError(msg) from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause = getattr(error, "orig", None) or error
        if "full" in str(cause) or getattr(cause, "sqlstate", "") == _DISK_FULL:
            msg = "no room on disk for the coordinator's state; free some space"
            raise StoreFull(msg) from error
        msg = f"the coordinator's state cannot be read or written: {_said(cause)}"
        raise StoreError(msg) from error


def _said(cause: BaseException | None) -> str:
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__

"""Engines: how each kind of database is opened so that transactions mean the same in both.

A writer takes the database's one lock at its start, so that two of them never have to be
untangled; a reader sees one moment. SQLite: WAL, synchronous=FULL, foreign keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import NoSuchModuleError

from coordinator.store.address import Address
from reefleet.errors import RuntimeUnavailable

BUSY_S = 10
POOL = 24  # at least the threads that may ask at once
WRITERS_LOCK = 0x7265_6566_0001  # advisory locks of PostgreSQL are numbers: "reef" and which
SERVING_LOCK = 0x7265_6566_0002

# What makes a connection's next transaction a reading one.
_READING: Mapping[bool, Mapping[str, Any]] = {
    False: {"reading": True},
    True: {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
}


def reading(address: Address) -> Mapping[str, Any]:
    """Execution options of a connection that only reads."""
    return _READING[address.is_postgresql]


def open_engine(address: Address) -> Engine:
    """An engine that connects when it is used; raises RuntimeUnavailable without the driver."""
    try:
        return _postgresql(address) if address.is_postgresql else _sqlite(address)
    except (ImportError, NoSuchModuleError) as error:
        msg = "PostgreSQL needs the psycopg package; run: pip install 'reefleet[postgresql]'"
        raise RuntimeUnavailable(msg) from error


def _sqlite(address: Address) -> Engine:
    engine = create_engine(
        address.url,
        connect_args={"timeout": BUSY_S},
        pool_size=POOL,
        max_overflow=POOL,
    )
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver's guess
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    is_reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")


def _postgresql(address: Address) -> Engine:
    engine = create_engine(
        address.url,
        connect_args={"connect_timeout": BUSY_S, "application_name": "reefleet-coordinator"},
        pool_size=POOL,
        max_overflow=POOL,
        pool_pre_ping=True,  # the server may have restarted since a connection was last used
    )
    event.listen(engine, "connect", _configure_postgresql)
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _configure_postgresql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        # "Durable when it returns" must not depend on how a server was tuned.
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') = 'off'"
        )
        cursor.execute(f"SET lock_timeout = '{BUSY_S}s'")
    connection.commit()


def _begin_postgresql(connection: Connection) -> None:
    if not connection.get_execution_options().get("postgresql_readonly"):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})")

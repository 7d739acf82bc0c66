"""Formats of the state: a new database is made in the newest, an older one brought up to it.

Revisions are those of `migrations/versions`. Alembic is imported only where one has to be applied.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select

from coordinator.store.address import POSTGRESQL
from coordinator.store.schema import REVISION, metadata
from reefleet.errors import StoreError, UnsupportedVersion

MIGRATIONS = Path(__file__).parent / "migrations"
# Files from before migrations said their format here; a program of then refuses what is above 2.
_BEFORE = {1: "0001", 2: "0002"}
_SINCE = 3

# Alembic's own table, as it makes it.
_revisions = Table(
    "alembic_version", MetaData(), Column("version_num", String(32), primary_key=True)
)


def prepare(connection: Connection, shown: str) -> None:
    """Make the tables, or bring them up to date, in the transaction of `connection`.

    Raises UnsupportedVersion for a database of a newer program, StoreError for somebody else's.
    """
    found = _found(connection, shown)
    if found == REVISION:
        return
    if found is None:
        metadata.create_all(connection)
        stamp(connection, REVISION)
    elif found > REVISION or not found.isdigit():
        msg = f"{shown} was written by a newer Reefleet (format {found}); update this one"
        raise UnsupportedVersion(msg)
    else:
        upgrade(connection)
    if connection.dialect.name != POSTGRESQL:
        connection.exec_driver_sql(f"PRAGMA user_version = {_SINCE}")


def stamp(connection: Connection, revision: str) -> None:
    """Say that the tables are those of `revision`."""
    _revisions.create(connection, checkfirst=True)
    connection.execute(_revisions.delete())
    connection.execute(_revisions.insert().values(version_num=revision))


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Apply what is missing up to `revision`."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _found(connection: Connection, shown: str) -> str | None:
    """The revision of the tables, None where there are none."""
    tables = set(inspect(connection).get_table_names())
    if _revisions.name in tables:
        return connection.scalar(select(_revisions.c.version_num))
    if not tables:
        return None
    if connection.dialect.name != POSTGRESQL:
        number = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if number > max(_BEFORE):
            return f"{number}, of no revision"
        if number in _BEFORE:
            stamp(connection, _BEFORE[number])
            return _BEFORE[number]
    msg = f"{shown} holds tables of another program; give the coordinator a database of its own"
    raise StoreError(msg)

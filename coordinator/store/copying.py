"""All rows of one database into another, empty one, of either kind."""

from __future__ import annotations

from sqlalchemy import Connection, Table, func, insert, select, text

from coordinator.store.address import POSTGRESQL
from coordinator.store.schema import metadata

ROWS = 1000  # at once


def is_empty(connection: Connection) -> bool:
    """Whether no table has a row."""
    tables = metadata.sorted_tables
    return all(connection.execute(select(table).limit(1)).first() is None for table in tables)


def copy_rows(source: Connection, target: Connection) -> None:
    """Copy every row, a bounded number at a time."""
    for table in metadata.sorted_tables:  # what is referred to comes first
        found = source.execution_options(yield_per=ROWS).execute(select(table))
        for rows in found.partitions():
            target.execute(insert(table), [dict(row._mapping) for row in rows])  # noqa: SLF001  # the name for mappings of rows
        if target.dialect.name == POSTGRESQL:
            _go_on_counting(target, table)


def _go_on_counting(connection: Connection, table: Table) -> None:
    """The next number that the server gives must follow those that were copied."""
    numbered = table.autoincrement_column
    if numbered is None:
        return
    highest = connection.scalar(select(func.max(numbered)))
    if highest is not None:
        sequence = text("SELECT setval(pg_get_serial_sequence(:table, :column), :highest)")
        names = {"table": table.name, "column": numbered.name, "highest": highest}
        connection.execute(sequence, names)

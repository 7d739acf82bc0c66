"""What Alembic runs to apply revisions: on the connection, and in the transaction, of the store."""

from __future__ import annotations

from alembic import context

from coordinator.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # both kinds of database take back half a revision
)
context.run_migrations()

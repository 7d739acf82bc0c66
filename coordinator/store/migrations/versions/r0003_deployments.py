"""Deployments; the loss of an update as a number; indexes for large fleets."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

NAME = sa.String(63).with_variant(sa.String(63, collation="C"), "postgresql")


def upgrade() -> None:
    """Add them."""
    _deployments()
    _loss()
    is_open = sa.text("state = 'open'")
    op.create_index(
        "ix_assignments_open",
        "assignments",
        ["device_id"],
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    op.create_index("ix_refusals_device_id_round", "refusals", ["device_id", "round"])


def _deployments() -> None:
    op.create_table(
        "deployments",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer, sa.ForeignKey("versions.number"), nullable=False),
        sa.Column("share", sa.Float, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("previous", sa.Integer, sa.ForeignKey("versions.number")),
        sa.Column("ended_at", sa.Float),
        sa.Column("is_rollback", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
    )
    op.create_table(
        "deployment_reports",
        sa.Column(
            "deployment",
            sa.Integer,
            sa.ForeignKey("deployments.number"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("device_id", NAME, sa.ForeignKey("devices.device_id"), primary_key=True),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("accuracy", sa.Float, nullable=False),
        sa.Column("accuracy_before", sa.Float),
        sa.Column("early_exit", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )


def _loss() -> None:
    op.add_column("updates", sa.Column("loss", sa.Float))
    updates = sa.table(
        "updates",
        sa.column("round", sa.Integer),
        sa.column("device_id", sa.String),
        sa.column("metrics", sa.Text),
        sa.column("loss", sa.Float),
    )
    c = updates.c
    connection = op.get_bind()
    change = (
        sa.update(updates)
        .where(c.round == sa.bindparam("in_round"), c.device_id == sa.bindparam("of"))
        .values(loss=sa.bindparam("told"))
    )
    told = [
        {"in_round": row.round, "of": row.device_id, "told": json.loads(row.metrics).get("loss")}
        for row in connection.execute(sa.select(c.round, c.device_id, c.metrics))
    ]
    if told:
        connection.execute(change, told)

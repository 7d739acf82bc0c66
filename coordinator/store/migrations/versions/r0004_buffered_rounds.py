"""Updates belong to pieces of work and wait to be folded; server optimizers; codecs of clients."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

NAME = sa.String(63).with_variant(sa.String(63, collation="C"), "postgresql")
COUNT = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_BY_ROUND = ["kind", "round", "device_id"]


def upgrade() -> None:
    """Rebuild both tables, and add the columns."""
    op.add_column("devices", sa.Column("codecs", sa.Text, nullable=False, server_default=""))
    memory = sa.Column("optimizer_sha256", sa.String(64), nullable=False, server_default="")
    op.add_column("versions", memory)
    op.add_column(
        "versions", sa.Column("optimizer_bytes", COUNT, nullable=False, server_default="0")
    )
    _assignments()
    _updates()


def _assignments() -> None:
    """A device may have several pieces of work in one round."""
    if op.get_bind().dialect.name == "sqlite":
        _rebuilt()
    else:
        op.drop_constraint("assignments_kind_round_device_id_key", "assignments", type_="unique")
    op.create_index("ix_assignments_kind_round_device_id", "assignments", _BY_ROUND)


def _rebuilt() -> None:
    """SQLite cannot drop a constraint: the rows go to a new table and come back."""
    op.execute("PRAGMA defer_foreign_keys = ON")
    op.execute("CREATE TEMPORARY TABLE assignments_before AS SELECT * FROM assignments")
    op.drop_table("assignments")
    version = sa.ForeignKey("versions.number")
    op.create_table(
        "assignments",
        sa.Column("lease", sa.String(32), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("device_id", NAME, sa.ForeignKey("devices.device_id"), nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("base_version", sa.Integer, version, nullable=False),
        sa.Column("manifest_sha256", sa.String(64), nullable=False),
        sa.Column("manifest_bytes", COUNT, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("weights_sha256", sa.String(64), nullable=False),
        sa.Column("weights_bytes", COUNT, nullable=False),
        sa.Column("opened_at", sa.Float, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
    )
    op.execute(
        "INSERT INTO assignments (lease, kind, round, device_id, plan, base_version, "
        "manifest_sha256, manifest_bytes, signature, weights_sha256, weights_bytes, opened_at, "
        "state, reason) SELECT lease, kind, round, device_id, plan, base_version, "
        "manifest_sha256, manifest_bytes, signature, weights_sha256, weights_bytes, opened_at, "
        "state, reason FROM assignments_before"
    )
    op.execute("DROP TABLE assignments_before")
    op.create_index("ix_assignments_device_id", "assignments", ["device_id"])
    is_open = sa.text("state = 'open'")
    op.create_index("ix_assignments_open", "assignments", ["device_id"], sqlite_where=is_open)


def _updates() -> None:
    """One update a piece of work; one without `folded_in` waits for the next version."""
    op.rename_table("updates", "updates_before")
    op.create_table(
        "updates",
        sa.Column("lease", sa.String(32), sa.ForeignKey("assignments.lease"), primary_key=True),
        sa.Column("round", sa.Integer, sa.ForeignKey("rounds.number"), nullable=False),
        sa.Column("device_id", NAME, sa.ForeignKey("devices.device_id"), nullable=False),
        sa.Column("base_version", sa.Integer, sa.ForeignKey("versions.number"), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", COUNT, nullable=False),
        sa.Column("samples", COUNT, nullable=False),
        sa.Column("depth", sa.Integer, nullable=False),
        sa.Column("rms", sa.Float, nullable=False, server_default="0"),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("accepted_at", sa.Float, nullable=False),
        sa.Column("loss", sa.Float),
        sa.Column("folded_in", sa.Integer, sa.ForeignKey("rounds.number")),
    )
    op.execute(
        "INSERT INTO updates (lease, round, device_id, base_version, sha256, size_bytes, samples, "
        "depth, metrics, accepted_at, loss, folded_in) "
        "SELECT a.lease, u.round, u.device_id, a.base_version, u.sha256, u.size_bytes, u.samples, "
        "u.depth, u.metrics, u.accepted_at, u.loss, u.round FROM updates_before u "
        "JOIN assignments a ON a.kind = 'federate' AND a.round = u.round "
        "AND a.device_id = u.device_id"
    )
    op.drop_table("updates_before")
    op.create_index("ix_updates_round_device_id", "updates", ["round", "device_id"])
    op.create_index("ix_updates_folded_in", "updates", ["folded_in"])

"""Tokens of several uses, renewed and revoked certificates, retired versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NAME = sa.String(63).with_variant(sa.String(63, collation="C"), "postgresql")


def upgrade() -> None:
    """Move what a token was traded for to a table of its own, and add the columns."""
    op.create_table(
        "enrollments",
        sa.Column("token", sa.String(64), sa.ForeignKey("tokens.sha256"), primary_key=True),
        sa.Column("request_sha256", sa.String(64), primary_key=True),
        sa.Column("device_id", NAME, nullable=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.execute(
        "INSERT INTO enrollments (token, request_sha256, device_id, certificate, at) "
        "SELECT sha256, request_sha256, device_id, certificate, used_at FROM tokens "
        "WHERE used_at IS NOT NULL"
    )
    op.add_column("tokens", sa.Column("uses", sa.Integer, nullable=False, server_default="1"))
    for name in ("used_at", "request_sha256", "certificate"):
        op.drop_column("tokens", name)
    for column in (
        sa.Column("certificate_ends_at", sa.Float),
        sa.Column("next_serial", sa.Text, nullable=False, server_default=""),
        sa.Column("next_fingerprint", sa.Text, nullable=False, server_default=""),
        sa.Column("next_ends_at", sa.Float),
        sa.Column("next_request_sha256", sa.Text, nullable=False, server_default=""),
        sa.Column("next_certificate", sa.LargeBinary),
        sa.Column("revoked_at", sa.Float),
    ):
        op.add_column("devices", column)
    retired = sa.Column("is_retired", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("versions", retired)

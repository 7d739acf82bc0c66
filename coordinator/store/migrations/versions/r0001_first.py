"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NAME = sa.String(63).with_variant(sa.String(63, collation="C"), "postgresql")
COUNT = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def _number(name: str = "number") -> sa.Column[int]:
    return sa.Column(name, sa.Integer, primary_key=True, autoincrement=False)


def _device(*, is_key: bool) -> sa.Column[str]:
    return sa.Column(
        "device_id",
        NAME,
        sa.ForeignKey("devices.device_id"),
        primary_key=is_key,
        nullable=False,
    )


def _version(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, sa.ForeignKey("versions.number"), nullable=nullable)


def _blob(
    sha256: str = "sha256", size: str = "size_bytes"
) -> tuple[sa.Column[str], sa.Column[int]]:
    return (
        sa.Column(sha256, sa.String(64), nullable=False),
        sa.Column(size, COUNT, nullable=False),
    )


def upgrade() -> None:
    """Make them."""
    _fleet()
    _models()
    _work()
    _reports()


def _fleet() -> None:
    op.create_table(
        "facts",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("device_id", NAME, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("used_at", sa.Float),
        _text("request_sha256"),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "devices",
        sa.Column("device_id", NAME, primary_key=True),
        sa.Column("serial", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("enrolled_at", sa.Float, nullable=False),
        sa.Column("last_seen_at", sa.Float),
        sa.Column("profile", sa.Text),
        sa.Column("plan", sa.Text),
        _text("planned_for"),
        _text("bundle_key"),
        _text("failure"),
    )


def _models() -> None:
    op.create_table(
        "bundles",
        sa.Column("key", sa.String(64), primary_key=True),
        *_blob("manifest_sha256", "manifest_bytes"),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "bundle_files",
        sa.Column("key", sa.String(64), sa.ForeignKey("bundles.key"), primary_key=True),
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("size_bytes", COUNT, nullable=False),
    )
    op.create_table(
        "versions", _number(), *_blob(), sa.Column("created_at", sa.Float, nullable=False)
    )
    op.create_table(
        "cuts",
        sa.Column(
            "version",
            sa.Integer,
            sa.ForeignKey("versions.number"),
            primary_key=True,
            autoincrement=False,
        ),
        _number("depth"),
        *_blob(),
        sa.Column("norm", sa.Float, nullable=False),
    )


def _work() -> None:
    op.create_table(
        "rounds",
        _number(),
        _version("base_version"),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("needed", sa.Integer, nullable=False),
        sa.Column("opened_at", sa.Float, nullable=False),
        sa.Column("deadline_at", sa.Float, nullable=False),
        sa.Column("closed_at", sa.Float),
        _text("reason"),
        _version("result_version", nullable=True),
    )
    op.create_table(
        "assignments",
        sa.Column("lease", sa.String(32), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        _device(is_key=False),
        sa.Column("plan", sa.Text, nullable=False),
        _version("base_version"),
        *_blob("manifest_sha256", "manifest_bytes"),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        *_blob("weights_sha256", "weights_bytes"),
        sa.Column("opened_at", sa.Float, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        _text("reason"),
        sa.UniqueConstraint("kind", "round", "device_id"),
    )
    op.create_index("ix_assignments_device_id", "assignments", ["device_id"])
    op.create_table(
        "grants", _device(is_key=True), sa.Column("sha256", sa.String(64), primary_key=True)
    )
    op.create_table(
        "uploads",
        sa.Column("lease", sa.String(32), sa.ForeignKey("assignments.lease"), primary_key=True),
        *_blob(),
    )


def _reports() -> None:
    op.create_table(
        "updates",
        sa.Column(
            "round",
            sa.Integer,
            sa.ForeignKey("rounds.number"),
            primary_key=True,
            autoincrement=False,
        ),
        _device(is_key=True),
        *_blob(),
        sa.Column("samples", COUNT, nullable=False),
        sa.Column("depth", sa.Integer, nullable=False),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("accepted_at", sa.Float, nullable=False),
    )
    op.create_table(
        "refusals",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("round", sa.Integer, nullable=False),
        _device(is_key=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "personal_reports",
        _number("round"),
        _device(is_key=True),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("early_exit", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )

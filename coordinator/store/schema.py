"""The tables of the coordinator's state. Only the store builds statements on them."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 2

metadata = MetaData()


def _digest(name: str) -> Column[str]:
    return Column(name, String(64), nullable=False)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


facts = Table(
    "facts",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("device_id", String(63), nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("uses", Integer, nullable=False, server_default="1"),
)

# One row a certificate that a token was traded for.
enrollments = Table(
    "enrollments",
    metadata,
    Column("token", ForeignKey("tokens.sha256"), primary_key=True),
    Column("request_sha256", String(64), primary_key=True),
    Column("device_id", String(63), nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("at", Float, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("device_id", String(63), primary_key=True),
    Column("serial", String(64), nullable=False),
    _digest("fingerprint"),
    Column("enrolled_at", Float, nullable=False),
    Column("certificate_ends_at", Float),
    # A renewed certificate that the device has not called with yet.
    _text("next_serial"),
    _text("next_fingerprint"),
    Column("next_ends_at", Float),
    _text("next_request_sha256"),
    Column("next_certificate", LargeBinary),
    Column("revoked_at", Float),
    Column("last_seen_at", Float),
    Column("profile", Text),
    Column("plan", Text),
    _text("planned_for"),
    _text("bundle_key"),
    _text("failure"),
)

bundles = Table(
    "bundles",
    metadata,
    Column("key", String(64), primary_key=True),
    _digest("manifest_sha256"),
    Column("manifest_bytes", Integer, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

bundle_files = Table(
    "bundle_files",
    metadata,
    Column("key", ForeignKey("bundles.key"), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("size_bytes", Integer, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    _digest("sha256"),
    Column("size_bytes", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    # The row stays as history; the blob may be gone.
    Column("is_retired", Boolean, nullable=False, server_default="0"),
)

cuts = Table(
    "cuts",
    metadata,
    Column("version", ForeignKey("versions.number"), primary_key=True, autoincrement=False),
    Column("depth", Integer, primary_key=True, autoincrement=False),
    _digest("sha256"),
    Column("size_bytes", Integer, nullable=False),
    Column("norm", Float, nullable=False),
)

rounds = Table(
    "rounds",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("base_version", ForeignKey("versions.number"), nullable=False),
    Column("state", String(16), nullable=False),
    Column("needed", Integer, nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("deadline_at", Float, nullable=False),
    Column("closed_at", Float),
    _text("reason"),
    Column("result_version", ForeignKey("versions.number")),
)

assignments = Table(
    "assignments",
    metadata,
    Column("lease", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),
    # Personal work follows the last round and so has no row in `rounds`.
    Column("round", Integer, nullable=False),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False, index=True),
    Column("plan", Text, nullable=False),
    Column("base_version", ForeignKey("versions.number"), nullable=False),
    _digest("manifest_sha256"),
    Column("manifest_bytes", Integer, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    _digest("weights_sha256"),
    Column("weights_bytes", Integer, nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("state", String(16), nullable=False),
    _text("reason"),
    UniqueConstraint("kind", "round", "device_id"),
)

grants = Table(
    "grants",
    metadata,
    Column("device_id", ForeignKey("devices.device_id"), primary_key=True),
    Column("sha256", String(64), primary_key=True),
)

uploads = Table(
    "uploads",
    metadata,
    Column("lease", ForeignKey("assignments.lease"), primary_key=True),
    _digest("sha256"),
    Column("size_bytes", Integer, nullable=False),
)

updates = Table(
    "updates",
    metadata,
    Column("round", ForeignKey("rounds.number"), primary_key=True, autoincrement=False),
    Column("device_id", ForeignKey("devices.device_id"), primary_key=True),
    _digest("sha256"),
    Column("size_bytes", Integer, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("depth", Integer, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("accepted_at", Float, nullable=False),
)

refusals = Table(
    "refusals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False),
    Column("sha256", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
)

personal_reports = Table(
    "personal_reports",
    metadata,
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("device_id", ForeignKey("devices.device_id"), primary_key=True),
    Column("metrics", Text, nullable=False),
    Column("early_exit", Text, nullable=False),
    Column("at", Float, nullable=False),
)

# What turns a file of format n into one of format n + 1, after new tables have been made.
UPGRADES: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE tokens ADD COLUMN uses INTEGER NOT NULL DEFAULT 1",
        """INSERT INTO enrollments (token, request_sha256, device_id, certificate, at)
        SELECT sha256, request_sha256, device_id, certificate, used_at FROM tokens
        WHERE used_at IS NOT NULL""",
        "ALTER TABLE tokens DROP COLUMN used_at",
        "ALTER TABLE tokens DROP COLUMN request_sha256",
        "ALTER TABLE tokens DROP COLUMN certificate",
        "ALTER TABLE devices ADD COLUMN certificate_ends_at FLOAT",
        "ALTER TABLE devices ADD COLUMN next_serial TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE devices ADD COLUMN next_fingerprint TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE devices ADD COLUMN next_ends_at FLOAT",
        "ALTER TABLE devices ADD COLUMN next_request_sha256 TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE devices ADD COLUMN next_certificate BLOB",
        "ALTER TABLE devices ADD COLUMN revoked_at FLOAT",
        "ALTER TABLE versions ADD COLUMN is_retired BOOLEAN NOT NULL DEFAULT 0",
    ),
}

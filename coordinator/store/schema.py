"""The tables of the coordinator's state. Only the store builds statements on them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
)

# What the tables below are; the newest file of migrations/versions makes them.
REVISION = "0004"

metadata = MetaData()

# Names sort by their bytes whatever a server's locale is: updates are folded in that order.
NAME = String(63).with_variant(String(63, collation="C"), "postgresql")
COUNT = BigInteger().with_variant(Integer, "sqlite")


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
    Column("device_id", NAME, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("uses", Integer, nullable=False, server_default="1"),
)

# One row a certificate that a token was traded for.
enrollments = Table(
    "enrollments",
    metadata,
    Column("token", ForeignKey("tokens.sha256"), primary_key=True),
    Column("request_sha256", String(64), primary_key=True),
    Column("device_id", NAME, nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("at", Float, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("device_id", NAME, primary_key=True),
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
    # Codecs that the client knows, with commas; '' is a client from before it said so.
    _text("codecs"),
)

bundles = Table(
    "bundles",
    metadata,
    Column("key", String(64), primary_key=True),
    _digest("manifest_sha256"),
    Column("manifest_bytes", COUNT, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

bundle_files = Table(
    "bundle_files",
    metadata,
    Column("key", ForeignKey("bundles.key"), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("size_bytes", COUNT, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    _digest("sha256"),
    Column("size_bytes", COUNT, nullable=False),
    Column("created_at", Float, nullable=False),
    # The row stays as history; the blob may be gone.
    Column("is_retired", Boolean, nullable=False, server_default=false()),
    # What the server optimizer remembers with this model; '' where it remembers nothing.
    Column("optimizer_sha256", String(64), nullable=False, server_default=""),
    Column("optimizer_bytes", COUNT, nullable=False, server_default="0"),
)

cuts = Table(
    "cuts",
    metadata,
    Column("version", ForeignKey("versions.number"), primary_key=True, autoincrement=False),
    Column("depth", Integer, primary_key=True, autoincrement=False),
    _digest("sha256"),
    Column("size_bytes", COUNT, nullable=False),
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
    Column("manifest_bytes", COUNT, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    _digest("weights_sha256"),
    Column("weights_bytes", COUNT, nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("state", String(16), nullable=False),
    _text("reason"),
    Index("ix_assignments_kind_round_device_id", "kind", "round", "device_id"),
)

# A device asks for its open work all the time, and a run leaves much that is over.
Index(
    "ix_assignments_open",
    assignments.c.device_id,
    sqlite_where=assignments.c.state == "open",
    postgresql_where=assignments.c.state == "open",
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
    Column("size_bytes", COUNT, nullable=False),
)

# One row a piece of work that ended with an update.
updates = Table(
    "updates",
    metadata,
    Column("lease", ForeignKey("assignments.lease"), primary_key=True),
    Column("round", ForeignKey("rounds.number"), nullable=False),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False),
    Column("base_version", ForeignKey("versions.number"), nullable=False),
    _digest("sha256"),
    Column("size_bytes", COUNT, nullable=False),
    Column("samples", COUNT, nullable=False),
    Column("depth", Integer, nullable=False),
    Column("rms", Float, nullable=False, server_default="0"),
    Column("metrics", Text, nullable=False),
    Column("accepted_at", Float, nullable=False),
    # Of `metrics`, for sums over a round.
    Column("loss", Float),
    # The round that folds it; none yet: it waits.
    Column("folded_in", ForeignKey("rounds.number"), index=True),
    Index("ix_updates_round_device_id", "round", "device_id"),
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
    Index("ix_refusals_device_id_round", "device_id", "round"),
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

deployments = Table(
    "deployments",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("version", ForeignKey("versions.number"), nullable=False),
    Column("share", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("previous", ForeignKey("versions.number")),
    Column("ended_at", Float),
    Column("is_rollback", Boolean, nullable=False, server_default=false()),
    _text("reason"),
)

deployment_reports = Table(
    "deployment_reports",
    metadata,
    Column("deployment", ForeignKey("deployments.number"), primary_key=True, autoincrement=False),
    Column("device_id", ForeignKey("devices.device_id"), primary_key=True),
    Column("outcome", String(16), nullable=False),
    Column("accuracy", Float, nullable=False),
    Column("accuracy_before", Float),
    Column("early_exit", Text, nullable=False),
    Column("at", Float, nullable=False),
)

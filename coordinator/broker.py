"""What a mosquitto needs to be the fleet's broker: certificate, access rules, configuration.

A device's certificate is its credential: the broker takes its common name as the user, and a user
reads and writes only the topics that carry its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.config import CoordinatorConfig
from coordinator.folder import Folder
from reefleet import vitals
from reefleet.blobs import write_atomic
from reefleet.rpc.identity import SERVER_NAME, issue_server

DEFAULT_PORT = 8883
MAX_QUEUED = 100
MAX_PACKET_BYTES = 8 << 10


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one broker."""

    root: Path

    @property
    def config(self) -> Path:
        """What mosquitto is started with."""
        return self.root / "mosquitto.conf"

    @property
    def rules(self) -> Path:
        """Who may read and write what."""
        return self.root / "acl"

    @property
    def ca(self) -> Path:
        """The fleet's authority."""
        return self.root / "ca.pem"

    @property
    def certificate(self) -> Path:
        """What the broker shows."""
        return self.root / "broker.pem"

    @property
    def key(self) -> Path:
        """Its key."""
        return self.root / "broker.key"


def lay_down(
    folder: Folder, config: CoordinatorConfig, root: Path, revoked: Sequence[str]
) -> Paths:
    """Write or renew the files of the fleet's broker in `root`; its certificate is made once."""
    paths = Paths(root)
    root.mkdir(parents=True, exist_ok=True)
    authority = folder.key(folder.ca_cert), folder.key(folder.ca_key)
    write_atomic(paths.ca, authority[0])
    if not (paths.certificate.is_file() and paths.key.is_file()):
        hosts = [config.mqtt.host] if config.mqtt.host else []
        certificate, key = issue_server(*authority, hosts, vitals.BROKER_NAME)
        write_atomic(paths.key, key)
        write_atomic(paths.certificate, certificate)
    write_atomic(paths.rules, rules(revoked).encode())
    port = config.mqtt.port or DEFAULT_PORT
    write_atomic(paths.config, settings(Paths(root.resolve()), port, config.mqtt.pid_file).encode())
    return paths


def rules(revoked: Sequence[str]) -> str:
    """The access rules. A revoked device may neither read nor write."""
    told = (vitals.PRESENCE, vitals.TELEMETRY)
    lines = [
        "# Written by `reefleet coordinator mqtt-acl`; the coordinator renews it.",
        *(f"pattern write {vitals.topic('%u', kind)}" for kind in told),
        f"pattern read {vitals.topic('%u', vitals.WAKE)}",
        "",
        f"user {SERVER_NAME}",
        *(f"topic read {vitals.topic('+', kind)}" for kind in told),
        f"topic write {vitals.topic('+', vitals.WAKE)}",
    ]
    for name in sorted(revoked):
        lines += ["", f"user {name}", "topic deny #"]
    return "\n".join(lines) + "\n"


def settings(paths: Paths, port: int, pid_file: str = "") -> str:
    """The configuration; whoever shows no certificate of this fleet is not heard."""
    return (
        f"""\
# Written by `reefleet coordinator mqtt-acl`. Start: mosquitto -c {paths.config}
listener {port}
cafile {paths.ca}
certfile {paths.certificate}
keyfile {paths.key}
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {paths.rules}
max_packet_size {MAX_PACKET_BYTES}
message_size_limit {vitals.MAX_PAYLOAD_BYTES}
max_queued_messages {MAX_QUEUED}
persistence false
log_dest stderr
log_type error
log_type warning
log_type notice
{f"pid_file {pid_file}" if pid_file else ""}
""".rstrip()
        + "\n"
    )

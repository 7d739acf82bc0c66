"""What the coordinator's answers say, in the client's terms, once they are found fit to obey."""

from __future__ import annotations

import re

from edge_client.task import DEPLOY, FEDERATE, PERSONALIZE, Artifact, Task
from edge_client.telemetry import Broker
from reefleet.errors import WireError
from reefleet.v1 import artifact_pb2, fleet_pb2
from reefleet.wire import convert

LEAST_TELEMETRY_S = 1.0
MAX_HOST_CHARS = 255
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LEASE = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")  # it becomes the name of a folder
_KINDS = {
    fleet_pb2.TASK_KIND_FEDERATE: FEDERATE,
    fleet_pb2.TASK_KIND_PERSONALIZE: PERSONALIZE,
    fleet_pb2.TASK_KIND_DEPLOY: DEPLOY,
}


def task_from(message: fleet_pb2.Task) -> Task:
    """Work to do; raises WireError where it is none that this client can do."""
    kind = _KINDS.get(message.kind)
    if kind is None:
        msg = f"the coordinator asks for work of kind {message.kind}, which this client cannot do"
        raise WireError(msg)
    if not _LEASE.fullmatch(message.lease):
        msg = f"the coordinator names the lease {message.lease[:80]!r}; it is not a plain name"
        raise WireError(msg)
    if message.rounds_total < 1 or message.round < 1:
        msg = f"the coordinator names round {message.round} of {message.rounds_total}"
        raise WireError(msg)
    return Task(
        kind=kind,
        lease=message.lease,
        round=message.round,
        rounds_total=message.rounds_total,
        base_version=message.base_version,
        plan=convert.plan_from_pb(message.plan),
        manifest=artifact_from(message.manifest),
        signature=message.manifest_signature,
        weights=artifact_from(message.weights),
        deadline_s=message.deadline_s,
        turn=message.turn,
    )


def broker_from(message: fleet_pb2.Broker, coordinator: str) -> Broker:
    """Where the broker is; raises WireError for a place that cannot be."""
    host = message.host or coordinator.rpartition(":")[0].strip("[]")
    if len(host) > MAX_HOST_CHARS or message.port >= 1 << 16:
        msg = f"the coordinator names a broker at {host[:80]!r}, port {message.port}"
        raise WireError(msg)
    return Broker(host, message.port, max(LEAST_TELEMETRY_S, message.telemetry_s))


def artifact_from(message: artifact_pb2.ArtifactRef) -> Artifact:
    """A file that is offered; raises WireError for a name that is no digest."""
    if not _DIGEST.fullmatch(message.sha256):
        msg = f"the coordinator names a file {message.sha256[:80]!r}; it is not a sha256"
        raise WireError(msg)
    return Artifact(message.sha256, message.size_bytes)

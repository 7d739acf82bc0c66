"""The client's calls to the coordinator: deadlines, patience, byte counts; the only user of gRPC.

A call that finds nobody, or a full disk, is repeated for ever with back-off. One that is refused is
not. A handshake that keeps failing is repeated slowly, for an operator may be replacing a
certificate, or ends the client where it was told to end.
"""

from __future__ import annotations

import enum
import logging
import math
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from devices.conditions import Conditions
from devices.profile import DeviceProfile
from devices.signed import sign
from edge_client.activity import Activity
from edge_client.attempt import CRASH, MEMORY
from edge_client.config import Deadlines
from edge_client.task import DEPLOY, FEDERATE, PERSONALIZE, Artifact, Finished, Next, Task, Wait
from edge_client.telemetry import Broker
from reefleet.errors import (
    CoordinatorUnavailable,
    DeadlineExceeded,
    StoreFull,
    TlsFailure,
    WireError,
)
from reefleet.report import DeviceMetrics, EarlyExitReport
from reefleet.retry import Retry
from reefleet.rpc import channel, status
from reefleet.rpc.identity import Identity
from reefleet.v1 import artifact_pb2, artifact_pb2_grpc, fleet_pb2, fleet_pb2_grpc
from reefleet.wire import convert
from reefleet.wire.codecs import KNOWN

if TYPE_CHECKING:
    import grpc

logger = logging.getLogger(__name__)

REFUSED_PAUSE_S = 60.0
# A coordinator that is killed in a handshake looks like one that refuses. Longer than the longest
# pause between two handshakes of a channel, so that at least two have failed.
BELIEVED_AFTER_S = 3.0
LONGEST_WAIT_S = 3600.0
LEAST_TELEMETRY_S = 1.0
MAX_HOST_CHARS = 255
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LEASE = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")  # it becomes the name of a folder
_KINDS = {
    fleet_pb2.TASK_KIND_FEDERATE: FEDERATE,
    fleet_pb2.TASK_KIND_PERSONALIZE: PERSONALIZE,
    fleet_pb2.TASK_KIND_DEPLOY: DEPLOY,
}

_CAUSES = {MEMORY: fleet_pb2.ABANDON_CAUSE_MEMORY, CRASH: fleet_pb2.ABANDON_CAUSE_CRASH}


class Link(enum.Enum):
    """Where the connection stands; changes are logged, repetitions are not."""

    UP = "up"
    LOST = "lost"
    REFUSED = "refused"
    FULL = "full"  # the coordinator has no room for what is sent


@dataclass(slots=True)
class Patience:
    """How long the session waits between attempts, and how it sleeps."""

    retry: Retry
    pause: Callable[[float], None]  # may raise, to end the client
    ends_on_refusal: bool = False
    rng: random.Random = field(default_factory=random.Random)


class Session:
    """One device's conversation with its coordinator."""

    def __init__(
        self, address: str, identity: Identity, deadlines: Deadlines, patience: Patience
    ) -> None:
        """Make the channel; it connects with the first call."""
        self.address = address
        self.bytes_down = 0
        self.bytes_up = 0
        self.link = Link.UP
        self.activity = Activity()
        self.situation: Callable[[], tuple[Conditions, bool | None]] = lambda: (Conditions(), None)
        self.on_broker: Callable[[Broker | None], None] = lambda _: None
        self._deadlines = deadlines
        self._patience = patience
        self._connect(identity)

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def use(self, shown: Identity) -> None:
        """Show this certificate from the next call on."""
        self.close()
        self._connect(shown)

    def abandon(self, lease: str, cause: str) -> None:
        """Give up work that this board cannot do."""
        request = fleet_pb2.AbandonTaskRequest(lease=lease, cause=_CAUSES[cause])
        self._call(self._fleet.AbandonTask, request)

    def renew_certificate(self, request_der: bytes) -> bytes:
        """A new certificate (DER) for the key of the request."""
        request = fleet_pb2.RenewCertificateRequest(certificate_request=request_der)
        return bytes(self._call(self._fleet.RenewCertificate, request).certificate)

    def report_profile(self, profile: DeviceProfile) -> None:
        """Say what this board is."""
        if profile.signature:  # a renewal may have changed the key since
            profile = sign(profile, self._shown.key)
        request = fleet_pb2.ReportProfileRequest(
            profile=convert.profile_to_pb(profile), codecs=KNOWN
        )
        answer = self._call(self._fleet.ReportProfile, request)
        self.on_broker(_broker(answer.broker, self.address) if answer.broker.port else None)

    def next_task(self) -> Next:
        """What to do now; raises WireError where the answer is not one a client can obey."""
        conditions, idle = self.situation()
        request = fleet_pb2.NextTaskRequest(conditions=convert.conditions_to_pb(conditions))
        if idle is not None:
            request.idle = idle
        answer = self._call(self._fleet.NextTask, request)
        kind = answer.WhichOneof("next")
        if kind == "task":
            return _task(answer.task)
        if kind == "finished":
            return Finished()
        if kind == "wait_ms":
            return Wait(min(answer.wait_ms / 1000, LONGEST_WAIT_S))
        msg = "the coordinator answered neither with a task nor with a wait"
        raise WireError(msg)

    def fetch_chunk(self, digest: str, offset: int, max_bytes: int) -> tuple[bytes, int]:
        """Bytes of a blob from `offset`, and the size of the whole."""
        request = artifact_pb2.FetchChunkRequest(sha256=digest, offset=offset, max_bytes=max_bytes)
        answer = self._call(self._artifacts.FetchChunk, request)
        self.bytes_down += len(answer.data)
        return answer.data, answer.total_bytes

    def open_update(self, lease: str, update: Artifact) -> int:
        """Open or resume an upload; the offset to go on from."""
        request = fleet_pb2.OpenUpdateRequest(lease=lease, update=_reference(update))
        return int(self._call(self._fleet.OpenUpdate, request).offset)

    def put_chunk(self, lease: str, digest: str, offset: int, data: bytes) -> int:
        """Send a chunk; the offset of the next."""
        request = fleet_pb2.PutChunkRequest(lease=lease, sha256=digest, offset=offset, data=data)
        answer = self._call(self._fleet.PutChunk, request)
        self.bytes_up += len(data)
        return int(answer.offset)

    def commit_update(
        self, lease: str, update: Artifact, samples: int, metrics: DeviceMetrics
    ) -> bool:
        """Have the whole update stored durably; True where it already was."""
        request = fleet_pb2.CommitUpdateRequest(
            lease=lease,
            update=_reference(update),
            samples=samples,
            metrics=convert.metrics_to_pb(metrics),
        )
        self.activity.loss = metrics.loss if math.isfinite(metrics.loss) else None
        answer = self._call(self._fleet.CommitUpdate, request, self._deadlines.commit_s)
        return bool(answer.repeated)

    def report_personal(
        self, lease: str, metrics: DeviceMetrics, early_exit: EarlyExitReport
    ) -> None:
        """Report the figures of the personal model."""
        request = fleet_pb2.ReportPersonalRequest(
            lease=lease,
            metrics=convert.metrics_to_pb(metrics),
            early_exit=convert.early_exit_to_pb(early_exit),
        )
        self.activity.early_exit = early_exit
        self._call(self._fleet.ReportPersonal, request)

    def report_deployment(
        self, lease: str, outcome: str, found: EarlyExitReport, accuracy_before: float | None
    ) -> None:
        """Report what became of a deployment."""
        request = fleet_pb2.ReportDeploymentRequest(
            lease=lease,
            outcome=convert.outcome_to_pb(outcome),
            accuracy=found.accuracy,
            accuracy_before=accuracy_before,
            early_exit=convert.early_exit_to_pb(found),
        )
        self.activity.early_exit = found
        self._call(self._fleet.ReportDeployment, request)

    def _connect(self, shown: Identity) -> None:
        self._shown = shown
        self._channel: grpc.Channel = channel.fleet_channel(self.address, shown)
        self._fleet = fleet_pb2_grpc.FleetServiceStub(self._channel)
        self._artifacts = artifact_pb2_grpc.ArtifactServiceStub(self._channel)

    def _call(
        self,
        method: Callable[..., Any],
        request: Message,
        timeout_s: float | None = None,
    ) -> Any:
        """Call until somebody answers; errors of the answer itself are raised at once."""
        timeout = self._deadlines.call_s if timeout_s is None else timeout_s
        delays = self._patience.retry.delays(self._patience.rng)
        refused_s = 0.0
        while True:
            try:
                with status.translated(self.address):
                    response = method(request, timeout=timeout)
            except (CoordinatorUnavailable, DeadlineExceeded) as error:  # noqa: PERF203
                refused_s = 0.0
                self._mark(Link.LOST, error)
                self._patience.pause(_next_delay(delays, error))
            except StoreFull as error:
                self._mark(Link.FULL, error)
                self._patience.pause(max(_next_delay(delays, error), error.retry_after_s))
            except TlsFailure as error:
                self._mark(Link.REFUSED, error)
                refused_s += self._wait_refused(refused_s, delays, error)
            else:
                self._mark(Link.UP)
                return response

    def _wait_refused(self, refused_s: float, delays: Iterator[float], error: TlsFailure) -> float:
        """Wait before the next handshake and say how long; raises `error` to end the client."""
        if refused_s < BELIEVED_AFTER_S:
            wait_s = min(_next_delay(delays, error), BELIEVED_AFTER_S - refused_s)
        elif self._patience.ends_on_refusal:
            raise error
        else:
            wait_s = REFUSED_PAUSE_S
        self._patience.pause(wait_s)
        return wait_s

    def _mark(self, link: Link, error: Exception | None = None) -> None:
        if link is not self.link:
            facts = {"link": link.value, "coordinator": self.address}
            if error is not None:
                facts["reason"] = str(error)
            log: Callable[..., None] = logger.info if link is Link.UP else logger.warning
            log("link changed", extra=facts)
        self.link = link


def _next_delay(delays: Iterator[float], error: Exception) -> float:
    for delay in delays:
        return delay
    raise error


def _task(message: fleet_pb2.Task) -> Task:
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
        manifest=_artifact(message.manifest),
        signature=message.manifest_signature,
        weights=_artifact(message.weights),
        deadline_s=message.deadline_s,
        turn=message.turn,
    )


def _broker(message: fleet_pb2.Broker, coordinator: str) -> Broker:
    host = message.host or coordinator.rpartition(":")[0].strip("[]")
    if len(host) > MAX_HOST_CHARS or message.port >= 1 << 16:
        msg = f"the coordinator names a broker at {host[:80]!r}, port {message.port}"
        raise WireError(msg)
    return Broker(host, message.port, max(LEAST_TELEMETRY_S, message.telemetry_s))


def _artifact(message: artifact_pb2.ArtifactRef) -> Artifact:
    if not _DIGEST.fullmatch(message.sha256):
        msg = f"the coordinator names a file {message.sha256[:80]!r}; it is not a sha256"
        raise WireError(msg)
    return Artifact(message.sha256, message.size_bytes)


def _reference(artifact: Artifact) -> artifact_pb2.ArtifactRef:
    return artifact_pb2.ArtifactRef(sha256=artifact.sha256, size_bytes=artifact.size_bytes)

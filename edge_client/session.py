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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from devices.conditions import Conditions
from devices.profile import DeviceProfile
from devices.signed import sign
from edge_client.activity import Activity
from edge_client.answers import broker_from, task_from
from edge_client.attempt import CRASH, MEMORY
from edge_client.config import Deadlines
from edge_client.task import Artifact, Finished, Next, Wait
from edge_client.telemetry import Broker
from edge_client.transfer import Chunks
from reefleet.errors import (
    CoordinatorUnavailable,
    DeadlineExceeded,
    ReefleetError,
    StoreFull,
    TlsFailure,
    WireError,
)
from reefleet.plan import KNOWN_CODECS
from reefleet.report import DeviceMetrics, EarlyExitReport
from reefleet.retry import Retry
from reefleet.rpc import channel, status
from reefleet.rpc.identity import Identity
from reefleet.rpc.limits import transfer_timeout_s
from reefleet.v1 import artifact_pb2, fleet_pb2, fleet_pb2_grpc
from reefleet.wire import chunks, convert

if TYPE_CHECKING:
    import grpc

logger = logging.getLogger(__name__)

REFUSED_PAUSE_S = 60.0
# A coordinator that is killed in a handshake looks like one that refuses. Longer than the longest
# pause between two handshakes of a channel, so that at least two have failed.
BELIEVED_AFTER_S = 3.0
LONGEST_WAIT_S = 3600.0

_BEARABLE = (CoordinatorUnavailable, DeadlineExceeded, StoreFull, TlsFailure)
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


class _Trouble:
    """What one call has met so far."""

    def __init__(self, patience: Patience) -> None:
        self.delays = patience.retry.delays(patience.rng)
        self.refused_s = 0.0


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
            profile=convert.profile_to_pb(profile), codecs=KNOWN_CODECS
        )
        answer = self._call(self._fleet.ReportProfile, request)
        self.on_broker(broker_from(answer.broker, self.address) if answer.broker.port else None)

    def next_task(self) -> Next:
        """What to do now; raises WireError where the answer is not one a client can obey."""
        conditions, idle = self.situation()
        request = fleet_pb2.NextTaskRequest(conditions=convert.conditions_to_pb(conditions))
        if idle is not None:
            request.idle = idle
        answer = self._call(self._fleet.NextTask, request)
        kind = answer.WhichOneof("next")
        if kind == "task":
            return task_from(answer.task)
        if kind == "finished":
            return Finished()
        if kind == "wait_ms":
            return Wait(min(answer.wait_ms / 1000, LONGEST_WAIT_S))
        msg = "the coordinator answered neither with a task nor with a wait"
        raise WireError(msg)

    def fetch(self, artifact: Artifact, offset: int) -> Iterator[tuple[chunks.Bytes, int]]:
        """Bytes of a blob from `offset` on and the size of the whole, in chunks.

        A line that is cut is mended, and the rest fetched over the next one.
        """
        trouble = _Trouble(self._patience)
        while True:
            request = artifact_pb2.FetchRequest(sha256=artifact.sha256, offset=offset)
            timeout_s = self._transfer_s(artifact.size_bytes - offset)
            try:
                with status.translated(self.address):
                    for chunk in self._fetch(request, timeout=timeout_s):
                        self._mark(Link.UP)
                        self.bytes_down += len(chunk.data)
                        offset += len(chunk.data)
                        trouble = _Trouble(self._patience)
                        yield chunk.data, chunk.total_bytes
            except _BEARABLE as error:
                self._bear(error, trouble)
            else:
                return

    def open_update(self, lease: str, update: Artifact) -> int:
        """Open or resume an upload; the offset to go on from."""
        request = fleet_pb2.OpenUpdateRequest(lease=lease, update=_reference(update))
        return int(self._call(self._fleet.OpenUpdate, request).offset)

    def put_update(self, lease: str, update: Artifact, offset: int, rest: Chunks) -> int:
        """Send `rest(offset)`, what follows `offset`; the offset that the coordinator holds then.

        A line that is cut is mended, and what is missing then is sent over the next one.
        """
        trouble = _Trouble(self._patience)
        while offset < update.size_bytes:
            requests = _requests(lease, update.sha256, offset, rest(offset))
            timeout_s = self._transfer_s(update.size_bytes - offset)
            begun = offset
            try:
                with status.translated(self.address):
                    offset = int(self._put_update(requests, timeout=timeout_s).offset)
            except _BEARABLE as error:
                self._bear(error, trouble)
                offset = self.open_update(lease, update)
                self.bytes_up += max(0, offset - begun)
            else:
                self._mark(Link.UP)
                self.bytes_up += max(0, offset - begun)
                break
        return offset

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
        self._speak_over(self._channel)

    def _speak_over(self, line: grpc.Channel) -> None:
        self._fleet = fleet_pb2_grpc.FleetServiceStub(line)
        self._fetch = line.unary_stream(
            chunks.FETCH,
            request_serializer=artifact_pb2.FetchRequest.SerializeToString,
            response_deserializer=chunks.read_fetched,
        )
        self._put_update = line.stream_unary(
            chunks.PUT_UPDATE,
            request_serializer=chunks.write_sent,
            response_deserializer=fleet_pb2.PutUpdateResponse.FromString,
        )

    def _call(
        self,
        method: Callable[..., Any],
        request: Message,
        timeout_s: float | None = None,
    ) -> Any:
        """Call until somebody answers; errors of the answer itself are raised at once."""
        timeout = self._deadlines.call_s if timeout_s is None else timeout_s
        trouble = _Trouble(self._patience)
        while True:
            try:
                with status.translated(self.address):
                    response = method(request, timeout=timeout)
            except _BEARABLE as error:  # noqa: PERF203
                self._bear(error, trouble)
            else:
                self._mark(Link.UP)
                return response

    def _transfer_s(self, size_bytes: int) -> float:
        return transfer_timeout_s(max(0, size_bytes), self._deadlines.call_s)

    def _bear(self, error: ReefleetError, trouble: _Trouble) -> None:
        """Wait before the next attempt; raises `error` where there is to be none."""
        if isinstance(error, TlsFailure):
            self._mark(Link.REFUSED, error)
            self._wait_refused(trouble, error)
            return
        trouble.refused_s = 0.0
        if isinstance(error, StoreFull):
            self._mark(Link.FULL, error)
            self._patience.pause(max(_next_delay(trouble.delays, error), error.retry_after_s))
        else:
            self._mark(Link.LOST, error)
            self._patience.pause(_next_delay(trouble.delays, error))

    def _wait_refused(self, trouble: _Trouble, error: TlsFailure) -> None:
        """Wait before the next handshake; raises `error` to end the client."""
        if trouble.refused_s < BELIEVED_AFTER_S:
            left_s = BELIEVED_AFTER_S - trouble.refused_s
            wait_s = min(_next_delay(trouble.delays, error), left_s)
        elif self._patience.ends_on_refusal:
            raise error
        else:
            wait_s = REFUSED_PAUSE_S
        self._patience.pause(wait_s)
        trouble.refused_s += wait_s

    def _mark(self, link: Link, error: Exception | None = None) -> None:
        if link is not self.link:
            facts = {"link": link.value, "coordinator": self.address}
            if error is not None:
                facts["reason"] = str(error)
            log: Callable[..., None] = logger.info if link is Link.UP else logger.warning
            log("link changed", extra=facts)
        self.link = link


def _requests(
    lease: str, digest: str, offset: int, pieces: Iterator[chunks.Bytes]
) -> Iterator[chunks.SentChunk]:
    for count, data in enumerate(pieces):
        yield chunks.SentChunk(data) if count else chunks.SentChunk(data, lease, digest, offset)


def _next_delay(delays: Iterator[float], error: Exception) -> float:
    for delay in delays:
        return delay
    raise error


def _reference(artifact: Artifact) -> artifact_pb2.ArtifactRef:
    return artifact_pb2.ArtifactRef(sha256=artifact.sha256, size_bytes=artifact.size_bytes)

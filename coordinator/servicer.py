"""The services on the wire: decode, delegate, encode; refusals end as the caller's own errors."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain

import grpc

from coordinator import records as r
from coordinator import tracing
from coordinator.abandoned import DIED, OUT_OF_MEMORY, give_up
from coordinator.clock import Clock
from coordinator.config import Mqtt
from coordinator.deployments import Deployments, Outcome
from coordinator.disk import Disk
from coordinator.frames import Frames
from coordinator.gate import Gate, Told
from coordinator.personal import take_report
from coordinator.planning import Planning
from coordinator.presence import Presence
from coordinator.pulse import Pulse
from coordinator.rate import FailureLimit
from coordinator.registry import Registry
from coordinator.rounds import Finished, Rounds, Wait
from coordinator.store import Store
from coordinator.transfers import Transfers
from coordinator.updates import Updates
from devices.profile import DeviceProfile
from devices.signed import require_signed
from reefleet import logs
from reefleet.blobs import BlobStore
from reefleet.errors import ChecksumMismatch, Rejected, WireError
from reefleet.rpc.pace import Pace
from reefleet.rpc.status import refusals
from reefleet.v1 import artifact_pb2, artifact_pb2_grpc, fleet_pb2, fleet_pb2_grpc
from reefleet.wire import convert
from reefleet.wire.chunks import SentChunk

logger = logging.getLogger(__name__)

MOST_CODECS = 32  # names of codecs that a client may say it knows, and their characters
MOST_CODEC_CHARS = 512

_KINDS = {
    r.FEDERATE: fleet_pb2.TASK_KIND_FEDERATE,
    r.PERSONALIZE: fleet_pb2.TASK_KIND_PERSONALIZE,
    r.DEPLOY: fleet_pb2.TASK_KIND_DEPLOY,
}


@dataclass(frozen=True, slots=True)
class Rooms:
    """Everything the services delegate to; `wake` lets the scheduler look again."""

    store: Store
    blobs: BlobStore
    registry: Registry
    presence: Presence
    planning: Planning
    rounds: Rounds
    gate: Gate
    deployments: Deployments
    updates: Updates
    transfers: Transfers
    clock: Clock
    rounds_total: int
    wake: Callable[[], None]
    disk: Disk
    trouble: Callable[[], str]  # of the run; '' where it goes well
    pulse: Pulse
    broker: Mqtt


class EnrollmentService(fleet_pb2_grpc.EnrollmentServiceServicer):
    """Trades tokens for certificates; callers show no certificate."""

    def __init__(
        self,
        registry: Registry,
        limit: FailureLimit,
        manifest_key: bytes,
        fleet_port: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._limit = limit
        self._manifest_key = manifest_key
        self._fleet_port = fleet_port

    def Enroll(  # noqa: N802  # gRPC names it
        self, request: fleet_pb2.EnrollRequest, context: grpc.ServicerContext
    ) -> fleet_pb2.EnrollResponse:
        """Trade a token and a certificate request for a device certificate."""
        address = _address(context.peer())
        with refusals(context):
            self._limit.check(address)
            try:
                enrolled = self._registry.enroll(request.token, request.certificate_request)
            except Rejected:
                self._limit.failed(address)
                raise
            return fleet_pb2.EnrollResponse(
                device_id=enrolled.device_id,
                certificate=enrolled.certificate,
                manifest_key=self._manifest_key,
                fleet_port=self._fleet_port(),
            )


class FleetService(fleet_pb2_grpc.FleetServiceServicer):
    """The rounds as devices see them."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def RenewCertificate(  # noqa: N802
        self, request: fleet_pb2.RenewCertificateRequest, context: grpc.ServicerContext
    ) -> fleet_pb2.RenewCertificateResponse:
        """Give the caller a new certificate for its own name."""
        with _caller(context, self._rooms) as device:
            certificate = self._rooms.registry.renew(device, request.certificate_request)
            return fleet_pb2.RenewCertificateResponse(certificate=certificate)

    def ReportProfile(  # noqa: N802
        self, request: fleet_pb2.ReportProfileRequest, context: grpc.ServicerContext
    ) -> fleet_pb2.ReportProfileResponse:
        """Keep the board's profile and plan its sub-model."""
        with _caller(context, self._rooms) as device:
            told = convert.profile_from_pb(request.profile)
            codecs = ",".join(request.codecs[:MOST_CODECS])[:MOST_CODEC_CHARS]
            if codecs != device.codecs:
                self._rooms.store.set_codecs(device.device_id, codecs)
            if told.signature:
                self._require_own(device, told, certificate_of(context))
            self._rooms.planning.report(device, told)
            return fleet_pb2.ReportProfileResponse(broker=_broker(self._rooms.broker))

    def _require_own(self, device: r.Device, told: DeviceProfile, certificate: bytes) -> None:
        """Refuse a profile that another key signed, and note it among the device's refusals."""
        try:
            require_signed(told, certificate)
        except ChecksumMismatch as error:
            store, now = self._rooms.store, self._rooms.clock.wall()
            store.refuse(r.Refusal(0, device.device_id, "", str(error), now), None)
            logger.warning("Profile refused", extra={"reason": str(error)})
            raise

    def AbandonTask(  # noqa: N802
        self, request: fleet_pb2.AbandonTaskRequest, context: grpc.ServicerContext
    ) -> fleet_pb2.AbandonTaskResponse:
        """End work that the device cannot do."""
        with _caller(context, self._rooms) as device:
            memory = request.cause == fleet_pb2.ABANDON_CAUSE_MEMORY
            reason = OUT_OF_MEMORY if memory else DIED
            give_up(self._rooms.store, device.device_id, request.lease, reason, self._rooms.clock)
            self._rooms.wake()
            return fleet_pb2.AbandonTaskResponse()

    def NextTask(  # noqa: N802
        self, request: fleet_pb2.NextTaskRequest, context: grpc.ServicerContext
    ) -> fleet_pb2.NextTaskResponse:
        """Say what to do now."""
        with _caller(context, self._rooms) as device:
            if device.profile is None:
                msg = f"report the profile of {device.device_id} before asking for work"
                raise Rejected(msg)
            if request.HasField("conditions"):
                idle = request.idle if request.HasField("idle") else None
                seen = replace(convert.conditions_from_pb(request.conditions), power_mode="")
                told = Told(seen, idle)  # a text of any length is not kept
                self._rooms.gate.tell(device.device_id, told)
            found = self._rooms.rounds.next_task(device.device_id)
            if isinstance(found, Wait):
                return fleet_pb2.NextTaskResponse(wait_ms=found.ms)
            if isinstance(found, Finished):
                return fleet_pb2.NextTaskResponse(finished=fleet_pb2.Finished())
            return fleet_pb2.NextTaskResponse(task=self._task(found))

    def OpenUpdate(  # noqa: N802
        self, request: fleet_pb2.OpenUpdateRequest, context: grpc.ServicerContext
    ) -> fleet_pb2.OpenUpdateResponse:
        """Open or resume an upload."""
        with _caller(context, self._rooms) as device:
            announced = _artifact(request.update)
            self._rooms.disk.require_room(announced.size_bytes)
            offset = self._rooms.updates.open(device.device_id, request.lease, announced)
            return fleet_pb2.OpenUpdateResponse(offset=offset)

    def PutUpdate(  # type: ignore[override]  # noqa: N802  # read by ChunkCoding
        self, requests: Iterator[SentChunk], context: grpc.ServicerContext
    ) -> fleet_pb2.PutUpdateResponse:
        """Take the bytes of an upload."""
        with _transfer(context, self._rooms) as device:
            if (first := next(requests, None)) is None:
                msg = "an upload begins with its lease, digest and offset"
                raise WireError(msg)
            held = offset = first.offset
            for request in chain((first,), requests):
                if not (data := request.data):
                    msg = "a message of an upload brings no bytes"
                    raise WireError(msg)
                held = self._rooms.updates.put(
                    device.device_id, first.lease, first.sha256, offset, data
                )
                offset += len(data)
            return fleet_pb2.PutUpdateResponse(offset=held)

    def CommitUpdate(  # noqa: N802
        self, request: fleet_pb2.CommitUpdateRequest, context: grpc.ServicerContext
    ) -> fleet_pb2.CommitUpdateResponse:
        """Check the whole update and make it durable."""
        with _caller(context, self._rooms) as device:
            try:
                repeated = self._rooms.updates.commit(
                    device.device_id,
                    request.lease,
                    _artifact(request.update),
                    request.samples,
                    convert.metrics_from_pb(request.metrics).to_json(),
                )
            finally:
                self._rooms.wake()  # a refusal too may have been the last the round waited for
            return fleet_pb2.CommitUpdateResponse(repeated=repeated)

    def ReportPersonal(  # noqa: N802
        self, request: fleet_pb2.ReportPersonalRequest, context: grpc.ServicerContext
    ) -> fleet_pb2.ReportPersonalResponse:
        """Keep the figures of a device's personal sub-model."""
        with _caller(context, self._rooms) as device:
            take_report(
                self._rooms.store,
                self._rooms.clock,
                device.device_id,
                request.lease,
                convert.metrics_from_pb(request.metrics),
                convert.early_exit_from_pb(request.early_exit),
            )
            return fleet_pb2.ReportPersonalResponse()

    def ReportDeployment(  # noqa: N802
        self, request: fleet_pb2.ReportDeploymentRequest, context: grpc.ServicerContext
    ) -> fleet_pb2.ReportDeploymentResponse:
        """Keep what a device did with a deployment."""
        with _caller(context, self._rooms) as device:
            before = request.accuracy_before if request.HasField("accuracy_before") else None
            done = Outcome(
                outcome=convert.outcome_from_pb(request.outcome),
                accuracy=request.accuracy,
                accuracy_before=before,
                early_exit=convert.early_exit_from_pb(request.early_exit),
            )
            self._rooms.deployments.take_report(device.device_id, request.lease, done)
            self._rooms.wake()  # it may have been the last canary
            return fleet_pb2.ReportDeploymentResponse()

    def _task(self, work: r.Assignment) -> fleet_pb2.Task:
        return fleet_pb2.Task(
            kind=_KINDS[work.kind],
            lease=work.lease,
            round=work.round,
            rounds_total=self._rooms.rounds_total,
            base_version=work.base_version,
            plan=convert.plan_to_pb(work.plan),
            manifest=_reference(work.manifest),
            manifest_signature=work.signature,
            weights=_reference(work.weights),
            deadline_s=max(1, math.ceil(self._rooms.rounds.seconds_left())),
            turn=self._rooms.rounds.turn(work),
        )


class ArtifactService(artifact_pb2_grpc.ArtifactServiceServicer):
    """Blobs in chunks, to the devices that have been assigned them."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._frames = Frames()

    def Fetch(  # type: ignore[override]  # noqa: N802  # written by ChunkCoding
        self, request: artifact_pb2.FetchRequest, context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        """Send the rest of a blob."""
        with _transfer(context, self._rooms) as device:
            if not self._rooms.store.may_fetch(device.device_id, request.sha256):
                msg = f"{device.device_id} has not been assigned {request.sha256[:64]!r}"
                raise Rejected(msg)
            total = self._rooms.blobs.size(request.sha256)
            if request.offset > total:
                msg = f"offset {request.offset} is beyond the {total} bytes of this file"
                raise Rejected(msg)
            sizes = Pace().next_bytes
            yield from self._frames.of(self._rooms.blobs, request.sha256, request.offset, sizes)


def certificate_of(context: grpc.ServicerContext) -> bytes:
    """The certificate that the caller showed, PEM; empty where it showed none."""
    certificates = context.auth_context().get("x509_pem_cert") or [b""]
    return bytes(certificates[0])


def _address(peer: str) -> str:
    """The address in gRPC's "ipv4:1.2.3.4:5678" and "ipv6:[::1]:5678"."""
    return peer.rpartition(":")[0]


@contextmanager
def _caller(context: grpc.ServicerContext, rooms: Rooms) -> Iterator[r.Device]:
    """The device behind a call; errors inside become its refusal."""
    with refusals(context):
        device = rooms.registry.identify(certificate_of(context))
        with logs.context(device_id=device.device_id):
            tracing.note(device=device.device_id)
            if rooms.presence.note(device.device_id):
                rooms.wake()
            yield device


@contextmanager
def _transfer(context: grpc.ServicerContext, rooms: Rooms) -> Iterator[r.Device]:
    """The device behind a transfer, which has its turn."""
    with _caller(context, rooms) as device, rooms.transfers.turn(device.device_id, context.cancel):
        yield device


def _broker(wanted: Mqtt) -> fleet_pb2.Broker | None:
    if not wanted.port:
        return None
    return fleet_pb2.Broker(host=wanted.host, port=wanted.port, telemetry_s=wanted.telemetry_s)


def _artifact(message: artifact_pb2.ArtifactRef) -> r.Artifact:
    return r.Artifact(message.sha256, message.size_bytes)


def _reference(artifact: r.Artifact) -> artifact_pb2.ArtifactRef:
    return artifact_pb2.ArtifactRef(sha256=artifact.sha256, size_bytes=artifact.size_bytes)

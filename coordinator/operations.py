"""The operator's service: what the store knows as messages, and the few things to change.

Answers are bounded: lists come in pages, so that ten thousand devices cost a few statements each.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import grpc

from coordinator import answers
from coordinator import records as r
from coordinator.config import CoordinatorConfig
from coordinator.registry import new_token
from coordinator.servicer import Rooms, certificate_of
from coordinator.status import phase_of
from coordinator.store.overview import RoundCounts
from reefleet.errors import InputError
from reefleet.rpc.status import refusals
from reefleet.v1 import operator_pb2, operator_pb2_grpc

logger = logging.getLogger(__name__)

PAGE = 1000  # well below the bound of a message
SHOWN = 5  # rounds and refusals in the overview


class OperatorService(operator_pb2_grpc.OperatorServiceServicer):
    """Answers callers who show an operator's certificate, and nobody else."""

    def __init__(self, rooms: Rooms, config: CoordinatorConfig) -> None:
        self._rooms = rooms
        self._store = rooms.store
        self._config = config

    def GetStatus(  # noqa: N802  # gRPC names it
        self, _request: operator_pb2.GetStatusRequest, context: grpc.ServicerContext
    ) -> operator_pb2.GetStatusResponse:
        """The fleet and the run at a glance."""
        with _operator(context, self._rooms):
            now = self._rooms.clock.wall()
            policy = self._config.rounds
            counts = self._store.device_counts(now - policy.presence_s)
            version = self._store.latest_version()
            reports = self._store.report_count(policy.total + 1)
            latest = self._store.last_rounds(SHOWN)
            deployed = self._store.last_deployments(1)
            return operator_pb2.GetStatusResponse(
                fleet=self._config.fleet,
                phase=phase_of(
                    latest[-1] if latest else None,
                    policy.total,
                    version,
                    everybody_done=0 < counts.ready <= reports,
                ),
                paused=bool(self._store.fact(r.PAUSED)),
                version=version.number if version else None,
                rounds_total=policy.total,
                rounds_closed=self._store.rounds_closed(),
                min_devices=policy.min_devices,
                devices=operator_pb2.DeviceCounts(
                    enrolled=counts.enrolled,
                    ready=counts.ready,
                    present=counts.present,
                    failed=counts.failed,
                    revoked=counts.revoked,
                    online=self._rooms.pulse.online(),
                ),
                rounds=self._summaries(latest),
                refusals=answers.refusals_message(self._store.refusals_of("", SHOWN)),
                at=now,
                trouble=self._rooms.disk.trouble() or self._rooms.trouble(),
                deployment=self._deployment(deployed[-1]) if deployed else None,
            )

    def ListDevices(  # noqa: N802
        self, request: operator_pb2.ListDevicesRequest, context: grpc.ServicerContext
    ) -> operator_pb2.ListDevicesResponse:
        """A page of devices by name."""
        with _operator(context, self._rooms):
            limit = min(request.page_size or PAGE, PAGE)
            devices = self._store.device_page(request.after, limit + 1)
            return operator_pb2.ListDevicesResponse(
                devices=self._devices(devices[:limit]), more=len(devices) > limit
            )

    def GetDevice(  # noqa: N802
        self, request: operator_pb2.GetDeviceRequest, context: grpc.ServicerContext
    ) -> operator_pb2.GetDeviceResponse:
        """Everything about one device."""
        with _operator(context, self._rooms):
            device = self._store.device(request.device_id)
            if device is None:
                msg = f"there is no device {request.device_id[:63]!r}"
                raise InputError(msg)
            report = self._store.report_of(device.device_id)
            return operator_pb2.GetDeviceResponse(
                device=self._devices([device])[0],
                profile=answers.profile_message(device.profile),
                why=device.plan.why if device.plan else (),
                serial=device.serial,
                refusals=answers.refusals_message(self._store.refusals_of(device.device_id, PAGE)),
                personal=answers.metrics_message(report.metrics) if report else None,
                early_exit=answers.early_exit_message(report.early_exit) if report else None,
                vitals=answers.vitals_message(self._rooms.pulse.told(device.device_id)),
            )

    def ListRounds(  # noqa: N802
        self, request: operator_pb2.ListRoundsRequest, context: grpc.ServicerContext
    ) -> operator_pb2.ListRoundsResponse:
        """The newest rounds."""
        with _operator(context, self._rooms):
            rounds = self._store.last_rounds(min(request.last or PAGE, PAGE))
            return operator_pb2.ListRoundsResponse(rounds=self._summaries(rounds))

    def GetRound(  # noqa: N802
        self, request: operator_pb2.GetRoundRequest, context: grpc.ServicerContext
    ) -> operator_pb2.GetRoundResponse:
        """One round."""
        with _operator(context, self._rooms):
            found = self._store.round(request.number)
            if found is None:
                msg = f"there is no round {request.number}"
                raise InputError(msg)
            return operator_pb2.GetRoundResponse(round=self._summaries([found])[0])

    def ListVersions(  # noqa: N802
        self, request: operator_pb2.ListVersionsRequest, context: grpc.ServicerContext
    ) -> operator_pb2.ListVersionsResponse:
        """The newest versions."""
        with _operator(context, self._rooms):
            versions = self._store.last_versions(min(request.last or PAGE, PAGE))
            return operator_pb2.ListVersionsResponse(
                versions=[
                    operator_pb2.VersionSummary(
                        number=version.number,
                        sha256=version.artifact.sha256,
                        size_bytes=version.artifact.size_bytes,
                        created_at=version.created_at,
                        is_retired=version.is_retired,
                    )
                    for version in versions
                ]
            )

    def ListWork(  # noqa: N802
        self, request: operator_pb2.ListWorkRequest, context: grpc.ServicerContext
    ) -> operator_pb2.ListWorkResponse:
        """A page of work with what devices reported of it."""
        with _operator(context, self._rooms):
            limit = min(request.page_size or PAGE, PAGE)
            work = self._store.work_page(request.round, request.device_id, request.after, limit + 1)
            return operator_pb2.ListWorkResponse(
                work=[answers.work_message(one) for one in work[:limit]], more=len(work) > limit
            )

    def PauseRounds(  # noqa: N802
        self, _request: operator_pb2.PauseRoundsRequest, context: grpc.ServicerContext
    ) -> operator_pb2.PauseRoundsResponse:
        """Hand out no new work."""
        with _operator(context, self._rooms):
            self._store.set_fact(r.PAUSED, "yes")
            logger.warning("Paused")
            return operator_pb2.PauseRoundsResponse()

    def ResumeRounds(  # noqa: N802
        self, _request: operator_pb2.ResumeRoundsRequest, context: grpc.ServicerContext
    ) -> operator_pb2.ResumeRoundsResponse:
        """Hand out work again."""
        with _operator(context, self._rooms):
            self._store.set_fact(r.PAUSED, "")
            logger.warning("Resumed")
            self._rooms.wake()
            return operator_pb2.ResumeRoundsResponse()

    def RevokeDevice(  # noqa: N802
        self, request: operator_pb2.RevokeDeviceRequest, context: grpc.ServicerContext
    ) -> operator_pb2.RevokeDeviceResponse:
        """Refuse a device from now on."""
        with _operator(context, self._rooms):
            self._rooms.registry.revoke(request.device_id)
            self._rooms.pulse.forget(request.device_id)
            self._rooms.wake()  # the round may have waited for this device only
            return operator_pb2.RevokeDeviceResponse()

    def CreateToken(  # noqa: N802
        self, request: operator_pb2.CreateTokenRequest, context: grpc.ServicerContext
    ) -> operator_pb2.CreateTokenResponse:
        """Make an enrollment token."""
        with _operator(context, self._rooms):
            uses = request.uses or 1
            clock = self._rooms.clock
            token = new_token(self._store, request.device_id, request.ttl_s, clock, uses)
            # The token itself is a secret and stays out of the log.
            facts = {"device": request.device_id, "uses": uses, "ttl_s": request.ttl_s}
            logger.info("Token made", extra=facts)
            return operator_pb2.CreateTokenResponse(
                token=token, expires_at=clock.wall() + request.ttl_s
            )

    def Deploy(  # noqa: N802
        self, request: operator_pb2.DeployRequest, context: grpc.ServicerContext
    ) -> operator_pb2.DeployResponse:
        """Send a version to the devices."""
        with _operator(context, self._rooms):
            begun = self._rooms.deployments.deploy(request.version, request.share)
            return operator_pb2.DeployResponse(deployment=self._deployment(begun))

    def Rollback(  # noqa: N802
        self, _request: operator_pb2.RollbackRequest, context: grpc.ServicerContext
    ) -> operator_pb2.RollbackResponse:
        """Send devices back to the version before."""
        with _operator(context, self._rooms):
            begun = self._rooms.deployments.rollback()
            return operator_pb2.RollbackResponse(deployment=self._deployment(begun))

    def ListDeployments(  # noqa: N802
        self, request: operator_pb2.ListDeploymentsRequest, context: grpc.ServicerContext
    ) -> operator_pb2.ListDeploymentsResponse:
        """The newest deployments."""
        with _operator(context, self._rooms):
            found = self._store.last_deployments(min(request.last or PAGE, PAGE))
            return operator_pb2.ListDeploymentsResponse(
                deployments=[self._deployment(one) for one in found]
            )

    def _deployment(self, found: r.Deployment) -> operator_pb2.Deployment:
        counts = self._store.deployment_counts(found.number)
        return operator_pb2.Deployment(**asdict(found), **asdict(counts))

    def _devices(self, devices: list[r.Device]) -> list[operator_pb2.DeviceSummary]:
        if not devices:
            return []
        personal_round = self._config.rounds.total + 1
        first, last = devices[0].device_id, devices[-1].device_id
        doing = self._store.doing(first, last, personal_round)
        there = self._store.bundles_there([device.bundle_key for device in devices])
        return [
            answers.device_message(
                device,
                doing.get(device.device_id, ""),
                is_there=device.bundle_key in there,
            )
            for device in devices
        ]

    def _summaries(self, rounds: list[r.Round]) -> list[operator_pb2.RoundSummary]:
        if not rounds:
            return []
        counts = self._store.round_counts(rounds[0].number, rounds[-1].number)
        return [
            answers.round_message(found, counts.get(found.number, RoundCounts()))
            for found in rounds
        ]


@contextmanager
def _operator(context: grpc.ServicerContext, rooms: Rooms) -> Iterator[None]:
    """Let operators through; errors inside become the call's refusal."""
    with refusals(context):
        rooms.registry.operator(certificate_of(context))
        yield

"""What a coordinator listens on: the fleet and enrollment ports, and those of metrics and page.

Health (grpc.health.v1) is served on both gRPC ports: the enrollment port answers probes that hold
no certificate. Reflection is not served.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from coordinator import metrics
from coordinator.config import CoordinatorConfig
from coordinator.interception import ChunkCoding
from coordinator.metrics import CallMetrics, CoverageMetrics, FleetMetrics
from coordinator.operations import OperatorService
from coordinator.rate import FailureLimit
from coordinator.servicer import ArtifactService, EnrollmentService, FleetService, Rooms
from coordinator.store import Store
from coordinator.tracing import CallSpans
from coordinator.transfers import MOST
from reefleet.errors import ConfigError
from reefleet.rpc.channel import SERVER_OPTIONS
from reefleet.rpc.identity import issue_server
from reefleet.v1 import artifact_pb2_grpc, fleet_pb2_grpc, operator_pb2_grpc

logger = logging.getLogger(__name__)

FLEET_THREADS = MOST + 8
ENROLLMENT_THREADS = 2
MAX_CALLS = 512  # waiting ones included; more are told to come back
STOP_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the listeners are; 0 for one that is off."""

    fleet_port: int
    enrollment_port: int
    metrics_port: int
    web_port: int = 0


@dataclass(frozen=True, slots=True)
class Keys:
    """What the listeners show and sign with."""

    ca_cert: bytes
    ca_key: bytes = field(repr=False)
    manifest_public: bytes
    web_token: str = field(default="", repr=False)  # of the built-in page


class Listeners:
    """The ports of one coordinator, from `start` to `stop`."""

    def __init__(self, rooms: Rooms, config: CoordinatorConfig, keys: Keys) -> None:
        self._rooms = rooms
        self._config = config
        self._keys = keys
        self._registry = CollectorRegistry()
        self._calls = CallMetrics(self._registry)
        self._health = health.HealthServicer()
        self._open = ExitStack()
        self._ports = Ports(0, 0, 0)

    def start(self) -> Ports:
        """Listen on all ports; raises ConfigError where one is taken."""
        fleet, enrollment = self._fleet(), self._enrollment()
        listen, store = self._config.listen, self._rooms.store
        certificate, key = issue_server(
            self._keys.ca_cert, self._keys.ca_key, [listen.host, *listen.names]
        )
        pair = [(key, certificate)]
        mutual = grpc.ssl_server_credentials(pair, self._keys.ca_cert, require_client_auth=True)
        anybody = grpc.ssl_server_credentials(pair)
        host = listen.host
        self._ports = Ports(
            _bind(fleet, mutual, store, "fleet_port", host, listen.fleet_port),
            _bind(enrollment, anybody, store, "enrollment_port", host, listen.enrollment_port),
            self._serve_metrics(),
            self._serve_web(),
        )
        for server in (fleet, enrollment):
            server.start()
        self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        return self._ports

    def stop(self) -> None:
        """Say so to probes, let calls in flight end, close the ports; again does nothing."""
        self._health.enter_graceful_shutdown()
        self._open.close()

    def _fleet(self) -> grpc.Server:
        server = self._server(FLEET_THREADS)
        rooms = self._rooms
        fleet_pb2_grpc.add_FleetServiceServicer_to_server(FleetService(rooms), server)
        artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(ArtifactService(rooms), server)
        operations = OperatorService(rooms, self._config)
        operator_pb2_grpc.add_OperatorServiceServicer_to_server(operations, server)
        return server

    def _enrollment(self) -> grpc.Server:
        server = self._server(ENROLLMENT_THREADS)
        limit = FailureLimit(self._config.admission.failures_per_minute, self._rooms.clock)
        service = EnrollmentService(
            self._rooms.registry,
            limit,
            self._keys.manifest_public,
            lambda: self._ports.fleet_port,
        )
        fleet_pb2_grpc.add_EnrollmentServiceServicer_to_server(service, server)
        return server

    def _server(self, threads: int) -> grpc.Server:
        pool = ThreadPoolExecutor(threads, thread_name_prefix="rpc")
        server = grpc.server(
            pool,
            options=SERVER_OPTIONS,
            maximum_concurrent_rpcs=MAX_CALLS,
            interceptors=self._interceptors(),
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self._open.callback(pool.shutdown)
        self._open.callback(lambda: server.stop(STOP_GRACE_S).wait())
        return server

    def _interceptors(self) -> list[grpc.ServerInterceptor]:
        spans = [CallSpans()] if self._config.tracing.endpoint else []
        return [self._calls, *spans, ChunkCoding()]

    def _serve_metrics(self) -> int:
        wanted = self._config.metrics
        if not wanted.port:
            return 0
        fleet = FleetMetrics(self._rooms.store, self._config, self._rooms.clock, self._rooms.pulse)
        self._registry.register(fleet)
        self._registry.register(CoverageMetrics(self._rooms.rounds.coverage))
        try:
            port, stop = metrics.serve(self._registry, wanted.host, wanted.port)
        except OSError as error:
            msg = f"cannot serve metrics on {wanted.host}:{wanted.port}: {error.strerror}"
            raise ConfigError(msg) from error
        self._open.callback(stop)
        return port

    def _serve_web(self) -> int:
        wanted = self._config.web
        if not wanted.port:
            return 0
        from coordinator.web import open_page
        from coordinator.web.view import Sources

        pair = issue_server(self._keys.ca_cert, self._keys.ca_key, [wanted.host, *wanted.names])
        rooms = self._rooms
        try:
            sources = Sources(
                rooms.store,
                rooms.clock,
                rooms.presence,
                rooms.pulse,
                rooms.trouble,
                rooms.gate.barrier,
            )
            port, stop = open_page(sources, self._config, self._keys.web_token, pair)
        except OSError as error:
            msg = f"cannot serve the page on {wanted.host}:{wanted.port}: {error.strerror}"
            raise ConfigError(msg) from error
        self._open.callback(stop)
        return port


def _bind(
    server: grpc.Server,
    credentials: grpc.ServerCredentials,
    store: Store,
    name: str,
    host: str,
    port: int,
) -> int:
    """Listen on `port`; 0 takes the port of the last start where it is free, else any."""
    shown = f"[{host}]" if ":" in host else host
    wanted = [port] if port else [int(store.fact(name) or 0), 0]
    for candidate in wanted:
        try:
            bound = int(server.add_secure_port(f"{shown}:{candidate}", credentials))
        except RuntimeError:
            continue
        if bound:
            store.set_fact(name, str(bound))
            return bound
    msg = f"cannot listen on {shown}:{port}; it is in use, or not an address of this machine"
    raise ConfigError(msg)

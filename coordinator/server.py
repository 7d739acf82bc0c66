"""A running coordinator: two listeners, the scheduler, compilers and pretraining around a store."""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import grpc

from coordinator import pretraining
from coordinator.bundles import COMPILER, Bundles, Workshop
from coordinator.children import Children
from coordinator.clock import Clock
from coordinator.config import CoordinatorConfig, read_config, read_contract
from coordinator.folder import Folder
from coordinator.memory import share_one_arena
from coordinator.planning import Planning
from coordinator.presence import Presence
from coordinator.registry import Registry
from coordinator.rounds import Rounds
from coordinator.scheduler import Scheduler
from coordinator.servicer import ArtifactService, EnrollmentService, FleetService, Rooms
from coordinator.store import Store
from coordinator.updates import Updates
from coordinator.versions import Versions
from reefleet.blobs import BlobStore
from reefleet.errors import ConfigError
from reefleet.model import ModelContract
from reefleet.rpc.channel import SERVER_OPTIONS
from reefleet.rpc.identity import issue_server, manifest_public_key
from reefleet.v1 import artifact_pb2_grpc, fleet_pb2_grpc
from reefleet.wire import checkpoint

logger = logging.getLogger(__name__)

FLEET_THREADS = 16
ENROLLMENT_THREADS = 2
MAX_CALLS = 512  # waiting ones included; more are told to come back
STOP_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the two listeners are."""

    fleet: int
    enrollment: int


class Coordinator:
    """The coordinator of one folder. `start` returns when it listens; `wait` ends with the run.

    `compiler` and `pretrainer` are the commands of the two separate processes.
    """

    def __init__(
        self,
        folder: Folder,
        config: CoordinatorConfig,
        clock: Clock | None = None,
        compiler: Sequence[str] = COMPILER,
        pretrainer: Sequence[str] = pretraining.PRETRAINER,
    ) -> None:
        self._folder = folder
        self._config = config
        self._clock = clock or Clock()
        self._compiler = compiler
        self._pretrainer = pretrainer
        self._open = ExitStack()
        self._children = Children()
        self._stopped = threading.Event()
        self._failure: Exception | None = None
        self._ports = Ports(0, 0)

    def start(self) -> Ports:
        """Take the folder, listen, go on with the run; raises where folder or ports are taken."""
        try:
            return self._start()
        except BaseException:
            self._open.close()
            raise

    def request_stop(self) -> None:
        """Ask `wait` to return; safe in a signal's handler."""
        self._stopped.set()

    def wait(self) -> None:
        """Block until asked to stop, then end what is in flight; raises what ended the run."""
        self._stopped.wait()
        self.stop()
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        """Stop listening, let calls in flight end, stop everything else; again does nothing."""
        self._stopped.set()
        self._open.close()

    def _start(self) -> Ports:
        folder, config = self._folder, self._config
        self._open.enter_context(folder.held())
        folder.sweep()
        contract = read_contract(folder.root / config.model.contract)
        store = Store(folder.state)
        self._open.callback(store.close)
        _hold_to_contract(store, contract)
        versions = Versions(store, BlobStore(folder.blobs), contract.spec)
        presence = Presence(store, self._clock, config.rounds.presence_s)
        rounds = Rounds(store, versions, config.rounds, presence, self._clock)
        scheduler = Scheduler(rounds)
        manifest_key = folder.key(folder.manifest_key)
        bundles = Bundles(
            store, versions.blobs, contract, manifest_key, self._workshop(), scheduler.wake
        )
        self._open.callback(bundles.close)
        planning = Planning(store, bundles, contract.spec, config.budget)
        ca_cert, ca_key = folder.key(folder.ca_cert), folder.key(folder.ca_key)
        rooms = Rooms(
            store=store,
            blobs=versions.blobs,
            registry=Registry(store, ca_cert, ca_key, self._clock),
            presence=presence,
            planning=planning,
            rounds=rounds,
            updates=Updates(store, versions, config.updates, self._clock),
            clock=self._clock,
            rounds_total=config.rounds.total,
            wake=scheduler.wake,
        )
        planning.resume()
        scheduler.start()
        self._open.callback(scheduler.stop)
        self._begin_first_version(versions, contract, scheduler)
        self._listen(rooms, ca_cert, ca_key, manifest_public_key(manifest_key))
        return self._ports

    def _workshop(self) -> Workshop:
        settings = self._config.compile
        return Workshop(
            cache=self._folder.root / settings.cache_dir,
            logs=self._folder.logs,
            parallel=settings.parallel,
            timeout_s=settings.timeout_s,
            command=self._compiler,
        )

    def _begin_first_version(
        self, versions: Versions, contract: ModelContract, scheduler: Scheduler
    ) -> None:
        if versions.store.latest_version():
            return

        def publish() -> None:
            try:
                model = self._first_model(contract)
                pretraining.publish(versions, model, self._clock.wall())
                logger.info("First version published")
            except Exception as error:  # noqa: BLE001  # without a first version nothing can run
                if not self._stopped.is_set():
                    self._failure = error
                    self._stopped.set()
            scheduler.wake()

        thread = threading.Thread(target=publish, name="pretrain", daemon=True)
        thread.start()
        self._open.callback(thread.join)
        self._open.callback(self._children.close)

    def _first_model(self, contract: ModelContract) -> pretraining.Model:
        source, root = self._config.model, self._folder.root
        if source.checkpoint:
            return checkpoint.load(root / source.checkpoint, contract.spec)
        if source.public_data:
            return pretraining.pretrain(
                contract,
                root / source.public_data,
                source.seed,
                root,
                self._children,
                self._pretrainer,
            )
        return checkpoint.initial(contract.spec, source.seed)

    def _listen(self, rooms: Rooms, ca_cert: bytes, ca_key: bytes, manifest_key: bytes) -> None:
        listen = self._config.listen
        certificate, key = issue_server(ca_cert, ca_key, [listen.host, *listen.names])
        enrollment = self._server(ENROLLMENT_THREADS)
        service = EnrollmentService(rooms.registry, manifest_key, lambda: self._ports.fleet)
        fleet_pb2_grpc.add_EnrollmentServiceServicer_to_server(service, enrollment)
        fleet = self._server(FLEET_THREADS)
        fleet_pb2_grpc.add_FleetServiceServicer_to_server(FleetService(rooms), fleet)
        artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(ArtifactService(rooms), fleet)
        pair = [(key, certificate)]
        mutual = grpc.ssl_server_credentials(pair, ca_cert, require_client_auth=True)
        open_to_all = grpc.ssl_server_credentials(pair)
        self._ports = Ports(
            _bind(fleet, mutual, rooms.store, "fleet_port", listen.host, listen.fleet_port),
            _bind(
                enrollment,
                open_to_all,
                rooms.store,
                "enrollment_port",
                listen.host,
                listen.enrollment_port,
            ),
        )
        for server in (fleet, enrollment):
            server.start()

    def _server(self, threads: int) -> grpc.Server:
        pool = ThreadPoolExecutor(threads, thread_name_prefix="rpc")
        server = grpc.server(pool, options=SERVER_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
        self._open.callback(pool.shutdown)
        self._open.callback(lambda: server.stop(STOP_GRACE_S).wait())
        return server


def serve(directory: Path, announce: Callable[[Ports], None]) -> None:
    """Run the coordinator of `directory` until SIGTERM or SIGINT; `announce` is told the ports."""
    share_one_arena()
    coordinator = Coordinator(Folder(directory), read_config(directory))

    def ask(number: int, _frame: FrameType | None) -> None:
        logger.info("Stopping", extra={"signal": signal.Signals(number).name})
        coordinator.request_stop()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        announce(coordinator.start())
        coordinator.wait()
    finally:
        coordinator.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


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


def _hold_to_contract(store: Store, contract: ModelContract) -> None:
    text = json.dumps(contract.to_json(), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    found = store.fact("contract")
    if found is None:
        store.set_fact("contract", digest)
    elif found != digest:
        msg = "the model contract is not the one this run was begun with; use a new folder"
        raise ConfigError(msg)

"""A running coordinator: listeners, the scheduler, compilers and pretraining around a store."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict

from coordinator import pretraining
from coordinator.bundles import COMPILER, Bundles, Workshop
from coordinator.children import Children
from coordinator.clock import Clock
from coordinator.config import CoordinatorConfig, read_contract
from coordinator.folder import Folder, renew_operator
from coordinator.garbage import Garbage
from coordinator.listeners import Keys, Listeners, Ports
from coordinator.planner import AccuracyTable, read_table
from coordinator.planning import Planning
from coordinator.presence import Presence
from coordinator.registry import Registry
from coordinator.review import Review
from coordinator.rounds import Rounds
from coordinator.scheduler import Scheduler
from coordinator.servicer import Rooms
from coordinator.store import Store
from coordinator.updates import Updates
from coordinator.versions import Versions
from reefleet.blobs import BlobStore, write_atomic
from reefleet.errors import ConfigError
from reefleet.model import ModelContract
from reefleet.rpc.identity import manifest_public_key
from reefleet.wire import checkpoint

logger = logging.getLogger(__name__)


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
        self._ports = Ports(0, 0, 0)
        self._scheduler: Scheduler | None = None

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

    def is_well(self) -> bool:
        """Whether somebody advances the rounds."""
        return self._scheduler is not None and self._scheduler.is_running()

    def wait(self, beat: Callable[[], None], every_s: float | None = None) -> None:
        """Block until asked to stop, then end what is in flight; raises what ended the run.

        `beat` is called every `every_s` meanwhile.
        """
        while not self._stopped.wait(every_s):
            beat()
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
        renew_operator(folder, self._clock.wall())
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
        planning = Planning(store, bundles, contract.spec, config.budget, self._accuracy())
        ca_cert, ca_key = folder.key(folder.ca_cert), folder.key(folder.ca_key)
        rooms = Rooms(
            store=store,
            blobs=versions.blobs,
            registry=Registry(
                store, ca_cert, ca_key, self._clock, config.admission.certificate_days
            ),
            presence=presence,
            planning=planning,
            rounds=rounds,
            updates=Updates(store, versions, config.updates, self._clock),
            clock=self._clock,
            rounds_total=config.rounds.total,
            wake=scheduler.wake,
        )
        planning.resume()
        review = Review(store, planning)
        garbage = Garbage(store, versions.blobs, config.storage, self._clock)

        def tidy() -> None:
            review.catch_up()
            garbage.collect_if_due()

        scheduler.start(tidy)
        self._open.callback(scheduler.stop)
        self._begin_first_version(versions, contract, scheduler)
        self._scheduler = scheduler
        keys = Keys(ca_cert, ca_key, manifest_public_key(manifest_key))
        listeners = Listeners(rooms, config, keys)
        self._open.callback(listeners.stop)
        self._ports = listeners.start()
        self._tell_operators()
        return self._ports

    def _accuracy(self) -> AccuracyTable | None:
        path = self._config.model.accuracy
        return read_table(self._folder.root / path) if path else None

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

    def _tell_operators(self) -> None:
        host = self._config.listen.host
        shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104
        address = f"[{shown}]" if ":" in shown else shown
        ports = {"address": f"{address}:{self._ports.fleet_port}", **asdict(self._ports)}
        write_atomic(self._folder.listening, json.dumps(ports).encode())


def _hold_to_contract(store: Store, contract: ModelContract) -> None:
    text = json.dumps(contract.to_json(), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    found = store.fact("contract")
    if found is None:
        store.set_fact("contract", digest)
    elif found != digest:
        msg = "the model contract is not the one this run was begun with; use a new folder"
        raise ConfigError(msg)

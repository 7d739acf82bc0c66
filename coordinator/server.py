"""A running coordinator: listeners, the scheduler, compilers and pretraining around a store."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace

from coordinator import pretraining, tracing
from coordinator.access import Access
from coordinator.announce import Announcer, Ears
from coordinator.buffered import rounds_for
from coordinator.bundles import COMPILER, Bundles, Workshop
from coordinator.children import Children
from coordinator.clock import Clock
from coordinator.config import CoordinatorConfig, read_contract
from coordinator.deployments import Deployments
from coordinator.disk import Disk
from coordinator.folder import Folder, see_to_keys, web_token
from coordinator.garbage import Garbage
from coordinator.gate import ANYBODY, Gate
from coordinator.listeners import Keys, Listeners, Ports
from coordinator.memory import give_back
from coordinator.planner import AccuracyTable, read_table
from coordinator.planning import Planning
from coordinator.presence import Presence
from coordinator.pulse import Pulse
from coordinator.registry import Registry
from coordinator.review import Review
from coordinator.scheduler import Scheduler
from coordinator.servicer import Rooms
from coordinator.state import state_address
from coordinator.store import Store
from coordinator.transfers import Transfers
from coordinator.updates import Updates
from coordinator.versions import Versions
from reefleet.blobs import BlobStore, write_atomic
from reefleet.errors import ConfigError, StoreError
from reefleet.geometry.trained import FULL, holding
from reefleet.model import ModelContract
from reefleet.rpc.identity import Identity, issue_announcer, manifest_public_key
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
        see_to_keys(folder, self._clock.wall())
        given = read_contract(folder.root / config.model.contract)
        trained = config.model.trained
        contract = replace(given, spec=holding(given.spec, trained))
        # Keys first: a coordinator that lacks one leaves no empty state behind.
        manifest_key = folder.key(folder.manifest_key)
        ca_cert, ca_key = folder.key(folder.ca_cert), folder.key(folder.ca_key)
        store = Store(state_address(folder, config))
        self._open.callback(store.close)
        self._open.enter_context(store.held())
        _hold_to_contract(store, contract, trained)
        if config.tracing.endpoint:
            self._open.callback(tracing.start(config.tracing.endpoint, config.fleet))
        versions = Versions(store, BlobStore(folder.blobs), contract.spec, trained)
        policy = config.rounds
        presence = Presence(store, self._clock, policy.presence_s, policy.idle_calls_per_s)
        gate = Gate(presence, self._clock, config.eligibility)
        rounds = rounds_for(store, versions, policy, gate, self._clock)
        deployments = Deployments(versions, config.deployments, presence, self._clock)
        scheduler = Scheduler(rounds)
        bundles = Bundles(
            store, versions.blobs, contract, manifest_key, self._workshop(), scheduler.wake
        )
        self._open.callback(bundles.close)
        planning = Planning(store, bundles, contract.spec, config.budget, self._accuracy(), trained)
        pulse = Pulse(store.is_member)
        announcer = self._announcer(pulse, presence, scheduler, (ca_cert, ca_key))
        rooms = Rooms(
            store=store,
            blobs=versions.blobs,
            registry=Registry(
                store, ca_cert, ca_key, self._clock, config.admission.certificate_days
            ),
            presence=presence,
            planning=planning,
            rounds=rounds,
            gate=gate,
            deployments=deployments,
            updates=Updates(store, versions, config.updates, self._clock, policy),
            transfers=Transfers(),
            clock=self._clock,
            rounds_total=config.rounds.total,
            wake=scheduler.wake,
            disk=Disk(folder.root, config.storage.reserve_mib << 20),
            trouble=scheduler.trouble,
            pulse=pulse,
            broker=config.mqtt,
        )
        planning.resume()
        review = Review(store, planning)
        round_spans = tracing.RoundSpans(store)
        rounds.before_opening = review.catch_up
        garbage = Garbage(store, versions.blobs, config.storage, self._clock)
        access = Access(store, config.mqtt, folder.root)
        rooms.registry.members_changed = access.members_changed

        def tidy() -> None:
            review.catch_up()
            deployments.advance()
            access.renew_if_due()
            if announcer:
                announcer.wake(store.open_work)
            presence.write_if_due()
            round_spans.catch_up()
            garbage.collect_if_due()

        scheduler.start(tidy)
        self._open.callback(_write_down, presence)
        self._open.callback(scheduler.stop)
        self._begin_first_version(versions, given, scheduler)
        self._scheduler = scheduler
        self._listen(rooms, (ca_cert, ca_key), manifest_key)
        return self._ports

    def _listen(self, rooms: Rooms, authority: tuple[bytes, bytes], manifest_key: bytes) -> None:
        token = web_token(self._folder) if self._config.web.port else ""
        keys = Keys(*authority, manifest_public_key(manifest_key), token)
        listeners = Listeners(rooms, self._config, keys)
        self._open.callback(listeners.stop)
        self._ports = listeners.start()
        self._tell_operators()

    def _announcer(
        self, pulse: Pulse, presence: Presence, scheduler: Scheduler, authority: tuple[bytes, bytes]
    ) -> Announcer | None:
        config = self._config
        if not config.mqtt.port:
            return None

        def present(device_id: str) -> None:
            if presence.note(device_id):
                scheduler.wake()

        if config.rounds.mode == "sync" and config.eligibility == ANYBODY:
            # Else a device is given work by what it says when it asks, so it has to ask often.
            presence.reaches = pulse.is_reached
        shown = Identity(*issue_announcer(*authority), authority[0])
        made = Announcer(config.mqtt, shown, Ears(pulse, present, self._clock))
        made.start()
        self._open.callback(made.stop)
        return made

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
                seed = self._config.model.seed
                model = checkpoint.completed(self._first_model(contract), versions.spec, seed)
                pretraining.publish(versions, model, self._clock.wall())
                del model
                give_back()
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


def _write_down(presence: Presence) -> None:
    try:
        presence.write()
    except StoreError as error:
        logger.warning("Last calls not written", extra={"reason": str(error)})


def _hold_to_contract(store: Store, contract: ModelContract, trained: str) -> None:
    text = json.dumps(contract.to_json(), sort_keys=True)
    text += "" if trained == FULL else trained
    digest = hashlib.sha256(text.encode()).hexdigest()
    found = store.fact("contract")
    if found is None:
        store.set_fact("contract", digest)
    elif found != digest:
        msg = "the model contract is not the one this run was begun with; use a new folder"
        raise ConfigError(msg)

"""A fleet with a broker beside it, all real processes: what it brings, and how it is missed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.broker import lay_down
from coordinator.config import read_config
from reefleet import vitals
from reefleet.rpc import identity
from reefleet.rpc.identity import SERVER_NAME, Identity
from reefleet.v1 import operator_pb2 as pb
from reefleet.vitals import Vitals, topic
from tests.integration.conftest import QUICK
from tests.integration.fleet import WIDE, Rules, Site, a_contract
from tests.integration.running import until
from tests.mosquitto import Mosquitto, Peer, free_port, peer

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.torch]

ROUNDS = 3


class Place:
    """A site whose settings name a broker, and that broker, not started."""

    def __init__(self, root: Path, compiled: Path) -> None:
        port = free_port()
        tables = f"{QUICK}\n[mqtt]\nport = {port}\ntelemetry_s = 1.0\n"
        self.site = Site(root, a_contract(WIDE), compiled, Rules(2, ROUNDS, tables))
        folder = self.site.folder
        paths = lay_down(folder, read_config(folder.root), root / "mqtt", revoked=[])
        self.broker = Mosquitto(paths.config, port)
        authority = folder.ca_cert.read_bytes(), folder.ca_key.read_bytes()
        self.observer = Identity(*identity.issue_announcer(*authority), authority[0])
        self.site.start()

    def vitals(self, name: str) -> Any:
        return self.site.ask("GetDevice", pb.GetDeviceRequest(device_id=name)).vitals

    def close(self) -> None:
        self.site.close()
        self.broker.kill()


@pytest.fixture
def place(tmp_path: Path, compiled: Path) -> Iterator[Place]:
    made = Place(tmp_path / "site", compiled)
    yield made
    made.close()


@pytest.fixture
def watch(place: Place) -> Callable[[], Any]:
    """Connect an observer that hears what the coordinator hears."""
    return lambda: peer(place.broker.port, place.observer, f"{SERVER_NAME}-watch")


def listen(observer: Peer) -> None:
    for kind in (vitals.PRESENCE, vitals.TELEMETRY):
        assert observer.subscribe(topic("+", kind))


def test_presence_telemetry_last_will_and_wake_ups(place: Place, watch: Callable[[], Any]) -> None:
    place.broker.start()
    first, second = place.site.client("a"), place.site.client("b")
    with watch() as observer:
        listen(observer)
        first.start()
        observer.wait_for(topic("a", vitals.PRESENCE), vitals.ONLINE)
        told = Vitals.from_bytes(observer.wait_for(topic("a", vitals.TELEMETRY)))
        assert told.resident_mib is not None
        assert 0 < told.resident_mib < 1000
        until(lambda: place.vitals("a").online, "a is online for the coordinator")
        until(lambda: place.vitals("a").told_at, "telemetry at the coordinator")
        assert place.site.ask("GetStatus", pb.GetStatusRequest()).devices.online == 1
        first.send(signal.SIGKILL)
        observer.wait_for(topic("a", vitals.PRESENCE), vitals.OFFLINE)
        until(lambda: not place.vitals("a").online, "a is gone for the coordinator")
    first.kill()
    first.start()
    until(lambda: place.vitals("a").online, "a is online again")
    # Alone it has nothing to do. Without a wake-up it would ask again in minutes, well after this
    # test has failed; with one it works as soon as the second device lets a round open.
    second.start()
    assert [client.end() for client in (first, second)] == [0, 0]
    assert place.site.latest() == ROUNDS
    assert place.site.coordinator.events("Broker connected")
    until(
        lambda: place.site.ask("GetStatus", pb.GetStatusRequest()).devices.online == 0, "goodbyes"
    )


def test_rounds_pass_before_with_and_after_a_broker(place: Place) -> None:
    clients = [place.site.client(name) for name in ("a", "b")]
    for client in clients:
        client.start()
    place.site.wait_for_version(1)  # nobody listens at the broker's port
    place.site.ask("PauseRounds", pb.PauseRoundsRequest())
    place.broker.start()
    for name in "ab":
        until(lambda name=name: place.vitals(name).online, f"{name} is online")
    place.site.ask("ResumeRounds", pb.ResumeRoundsRequest())
    place.site.wait_for_version(2)
    place.broker.kill()
    assert [client.end() for client in clients] == [0, 0]
    assert place.site.latest() == ROUNDS


def test_a_device_without_the_brokers_wheel_works_as_ever() -> None:
    """Where paho is not installed the client says so once and goes on."""
    import sys

    from edge_client.telemetry import Broker, Telemetry

    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith("paho")}
    nudged = threading.Event()
    try:
        sys.modules["paho"] = None  # type: ignore[assignment]
        shown = Identity(b"", b"", b"")
        made = Telemetry("a", lambda: shown, Vitals, nudged.set)
        made.follow(Broker("127.0.0.1", 1, 60.0))
        made.close()
    finally:
        del sys.modules["paho"]
        sys.modules.update(hidden)
    assert not nudged.is_set()

"""The client's line to a real mosquitto: comes, tells, is woken, goes, and comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coordinator.broker import lay_down
from coordinator.config import CoordinatorConfig, Mqtt
from coordinator.folder import Folder, create
from edge_client.telemetry import Broker, Telemetry
from reefleet import vitals
from reefleet.rpc import identity
from reefleet.rpc.identity import SERVER_NAME, Identity
from reefleet.vitals import Vitals, topic
from tests.mosquitto import DEADLINE_S, Mosquitto, Peer, free_port, peer

OFTEN_S, SELDOM_S = 0.05, 3600.0


@dataclass
class Site:
    """A fleet's authority and its broker."""

    folder: Folder
    mosquitto: Mosquitto
    nudges: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def authority(self) -> tuple[bytes, bytes]:
        return self.folder.ca_cert.read_bytes(), self.folder.ca_key.read_bytes()

    def device(self) -> Identity:
        key = identity.new_key()
        request = identity.certificate_request(key)
        der = identity.issue_device(*self.authority, request, "a")
        return Identity(identity.certificate_pem(der), key, self.authority[0])

    def broker(self, telemetry_s: float = SELDOM_S) -> Broker:
        return Broker("127.0.0.1", self.mosquitto.port, telemetry_s)

    @contextmanager
    def observer(self) -> Iterator[Peer]:
        shown = Identity(*identity.issue_announcer(*self.authority), self.authority[0])
        with peer(self.mosquitto.port, shown, SERVER_NAME) as made:
            for kind in (vitals.PRESENCE, vitals.TELEMETRY):
                assert made.subscribe(topic("+", kind))
            yield made

    def wait_for_nudge(self) -> None:
        assert self.nudges.acquire(timeout=DEADLINE_S)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = create(tmp_path / "fleet", "barn", None, None)
    port = free_port()
    config = CoordinatorConfig(mqtt=Mqtt(port=port))
    mosquitto = Mosquitto(lay_down(folder, config, tmp_path / "mqtt", []).config, port)
    mosquitto.start()
    yield Site(folder, mosquitto)
    mosquitto.kill()


@pytest.fixture
def line(site: Site) -> Iterator[tuple[Telemetry, list[Identity]]]:
    """A device's telemetry and the identity that it shows, which may be changed."""
    shown = [site.device()]
    report = Vitals(doing="federate", loss=0.5)
    made = Telemetry("a", lambda: shown[0], lambda: report, site.nudges.release)
    yield made, shown
    made.close()


Line = tuple[Telemetry, list[Identity]]


def test_it_comes_tells_and_goes(site: Site, line: Line) -> None:
    telemetry, _ = line
    with site.observer() as observer:
        telemetry.follow(site.broker(OFTEN_S))
        observer.wait_for(topic("a", vitals.PRESENCE), vitals.ONLINE)
        for _ in range(3):
            told = Vitals.from_bytes(observer.wait_for(topic("a", vitals.TELEMETRY)))
            assert told == Vitals(doing="federate", loss=0.5)
        telemetry.close()
        observer.wait_for(topic("a", vitals.PRESENCE), vitals.OFFLINE)


def test_connecting_and_each_wake_up_make_it_ask(site: Site, line: Line) -> None:
    telemetry, _ = line
    with site.observer() as observer:
        telemetry.follow(site.broker())
        site.wait_for_nudge()
        observer.wait_for(topic("a", vitals.PRESENCE), vitals.ONLINE)
        assert not site.nudges.acquire(blocking=False)
        assert observer.publish(topic("a", vitals.WAKE), vitals.WORK)
        site.wait_for_nudge()


def test_a_lost_broker_makes_it_ask_and_it_comes_back(site: Site, line: Line) -> None:
    telemetry, _ = line
    telemetry.follow(site.broker())
    site.wait_for_nudge()
    site.mosquitto.kill()
    site.wait_for_nudge()
    site.mosquitto.start()
    site.wait_for_nudge()
    with site.observer() as observer:
        observer.wait_for(topic("a", vitals.PRESENCE), vitals.ONLINE)


def test_a_renewed_certificate_is_shown_and_the_same_one_is_kept(site: Site, line: Line) -> None:
    telemetry, shown = line
    with site.observer() as observer:
        telemetry.follow(site.broker())
        site.wait_for_nudge()
        observer.wait_for(topic("a", vitals.PRESENCE), vitals.ONLINE)
        first: Any = telemetry._line
        telemetry.refresh()
        assert telemetry._line is first
        shown[0] = site.device()
        telemetry.refresh()
        observer.wait_for(topic("a", vitals.PRESENCE), vitals.OFFLINE)
        observer.wait_for(topic("a", vitals.PRESENCE), vitals.ONLINE)


def test_a_fleet_without_a_broker_and_one_that_is_away_are_left_at_once(
    site: Site, line: Line
) -> None:
    telemetry, _ = line
    telemetry.follow(None)
    telemetry.follow(Broker("127.0.0.1", free_port(), SELDOM_S))
    leaving = threading.Thread(target=telemetry.close)
    leaving.start()
    leaving.join(DEADLINE_S)
    assert not leaving.is_alive()
    assert not site.nudges.acquire(blocking=False)

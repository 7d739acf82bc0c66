"""Access rules of a real mosquitto follow revocations and enrollments while both run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.access import RULES_MODE, Access
from coordinator.broker import lay_down
from coordinator.clock import Clock
from coordinator.config import CoordinatorConfig, Mqtt
from coordinator.folder import Folder, create
from coordinator.registry import Registry, new_token
from coordinator.store import Store
from reefleet import vitals
from reefleet.rpc import identity
from reefleet.rpc.identity import Identity
from reefleet.vitals import topic
from tests.integration.running import until
from tests.mosquitto import Mosquitto, free_port, peer


@dataclass
class Place:
    """A fleet's store and registry, wired to the rules as the coordinator wires them."""

    folder: Folder
    store: Store
    wanted: Mqtt

    def __post_init__(self) -> None:
        self.authority = self.folder.ca_cert.read_bytes(), self.folder.ca_key.read_bytes()
        self.registry = Registry(self.store, *self.authority, Clock())
        self.access = Access(self.store, self.wanted, self.folder.root)
        self.registry.members_changed = self.access.members_changed

    def enroll(self, name: str) -> Identity:
        key = identity.new_key()
        token = new_token(self.store, name, 600.0, Clock())
        enrolled = self.registry.enroll(token, identity.certificate_request(key))
        return Identity(identity.certificate_pem(enrolled.certificate), key, self.authority[0])

    @property
    def rules(self) -> Path:
        return self.folder.root / "mqtt" / "acl"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    folder = create(tmp_path / "fleet", "barn", None, None)
    store = Store(folder.state)
    wanted = Mqtt(port=free_port(), pid_file=str(tmp_path / "mosquitto.pid"))
    lay_down(folder, CoordinatorConfig(mqtt=wanted), folder.root / "mqtt", revoked=[])
    yield Place(folder, store, wanted)
    store.close()


@pytest.fixture
def broker(place: Place) -> Iterator[Mosquitto]:
    made = Mosquitto(place.rules.with_name("mosquitto.conf"), place.wanted.port)
    made.start()
    until(Path(place.wanted.pid_file).is_file, "the pid file")
    yield made
    made.kill()


def test_a_running_broker_stops_hearing_a_device_that_is_revoked(
    place: Place, broker: Mosquitto
) -> None:
    mine = topic("a", vitals.TELEMETRY)
    with (
        peer(broker.port, place.enroll("a"), "a") as revoked,
        peer(broker.port, place.enroll("b"), "b") as other,
    ):
        place.access.renew_if_due()
        assert revoked.publish(mine, b"{}")
        place.registry.revoke("a")
        place.access.renew_if_due()
        until(lambda: not revoked.publish(mine, b"{}"), "the broker has read its rules")
        assert other.publish(topic("b", vitals.TELEMETRY), b"{}")
        place.enroll("a")
        place.access.renew_if_due()
        until(lambda: revoked.publish(mine, b"{}"), "the broker has read its rules again")


def test_rules_are_written_where_they_changed_only(place: Place) -> None:
    place.access.renew_if_due()
    before = place.rules.stat().st_mtime_ns
    place.enroll("a")
    place.access.renew_if_due()
    assert place.rules.stat().st_mtime_ns == before


def test_a_revocation_while_the_coordinator_was_down_is_in_the_rules_after_its_start(
    place: Place,
) -> None:
    place.enroll("a")
    place.store.revoke("a", 5.0)
    Access(place.store, Mqtt(port=1), place.folder.root).renew_if_due()
    assert "user a\ntopic deny #" in place.rules.read_text()
    assert place.rules.stat().st_mode & 0o777 == RULES_MODE


def test_rules_that_cannot_be_written_are_complained_of_once_and_written_later(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = tmp_path / "elsewhere"
    files.write_text("in the way")
    access = Access(place.store, Mqtt(files=str(files)), place.folder.root)
    with caplog.at_level(logging.ERROR):
        access.renew_if_due()
        access.renew_if_due()
    assert [record.message for record in caplog.records] == ["Access rules not written"]
    files.unlink()
    access.renew_if_due()
    assert (files / "acl").is_file()


def test_a_coordinator_without_a_broker_writes_no_rules(place: Place) -> None:
    place.enroll("a")
    place.store.revoke("a", 5.0)
    before = place.rules.read_text()
    Access(place.store, Mqtt(), place.folder.root).renew_if_due()
    assert place.rules.read_text() == before

"""The broker that `mqtt-acl` sets up, as a real mosquitto: who may connect, read and write."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pytest

from coordinator.broker import lay_down
from coordinator.config import CoordinatorConfig, Mqtt
from coordinator.folder import Folder, create
from reefleet import vitals
from reefleet.errors import WireError
from reefleet.rpc import identity
from reefleet.rpc.identity import SERVER_NAME, Identity
from reefleet.rpc.tls import client_context
from reefleet.vitals import Vitals, topic
from tests.mosquitto import Mosquitto, free_port, peer


def a_device(folder: Folder, name: str) -> Identity:
    key = identity.new_key()
    authority = folder.ca_cert.read_bytes(), folder.ca_key.read_bytes()
    der = identity.issue_device(*authority, identity.certificate_request(key), name)
    return Identity(identity.certificate_pem(der), key, authority[0])


def the_coordinator(folder: Folder) -> Identity:
    authority = folder.ca_cert.read_bytes(), folder.ca_key.read_bytes()
    return Identity(*identity.issue_announcer(*authority), authority[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return create(tmp_path_factory.mktemp("broker") / "fleet", "barn", None, None)


@pytest.fixture(scope="module")
def broker(folder: Folder) -> Iterator[Mosquitto]:
    port = free_port()
    config = CoordinatorConfig(mqtt=Mqtt(port=port))
    paths = lay_down(folder, config, folder.root / "mqtt", revoked=["gone"])
    made = Mosquitto(paths.config, port)
    made.start()
    yield made
    made.kill()


def test_the_coordinator_hears_every_device_and_wakes_it(folder: Folder, broker: Mosquitto) -> None:
    with (
        peer(broker.port, the_coordinator(folder), SERVER_NAME) as coordinator,
        peer(broker.port, a_device(folder, "a"), "a") as device,
    ):
        assert coordinator.subscribe(topic("+", vitals.TELEMETRY))
        assert device.subscribe(topic("a", vitals.WAKE))
        assert device.publish(topic("a", vitals.TELEMETRY), Vitals(doing="idle").to_bytes())
        heard = coordinator.wait_for(topic("a", vitals.TELEMETRY))
        assert Vitals.from_bytes(heard) == Vitals(doing="idle")
        assert coordinator.publish(topic("a", vitals.WAKE), vitals.WORK)
        assert device.wait_for(topic("a", vitals.WAKE)) == vitals.WORK


def test_a_device_has_no_access_to_topics_of_another(folder: Folder, broker: Mosquitto) -> None:
    with (
        peer(broker.port, the_coordinator(folder), SERVER_NAME) as coordinator,
        peer(broker.port, a_device(folder, "a"), "a") as device,
        peer(broker.port, a_device(folder, "b"), "b") as other,
    ):
        for kind in (vitals.PRESENCE, vitals.TELEMETRY):
            assert coordinator.subscribe(topic("+", kind))
            assert not device.publish(topic("b", kind), b"forged")
            assert not device.publish(topic("a/b", kind), b"forged")
        assert not device.publish(topic("b", vitals.WAKE), vitals.WORK)
        assert not device.publish(topic("a", vitals.WAKE), vitals.WORK)
        assert other.publish(topic("b", vitals.TELEMETRY), b"true")
        # Whatever was forged before would have come first.
        assert coordinator.wait_for(topic("b", vitals.TELEMETRY)) == b"true"
        assert coordinator.publish(topic("b", vitals.WAKE), vitals.WORK)
        for filter_ in ("#", "reefleet/#", topic("+", vitals.WAKE), topic("b", vitals.TELEMETRY)):
            device.subscribe(filter_)
        assert device.subscribe(topic("a", vitals.WAKE))
        assert other.subscribe(topic("b", vitals.WAKE))
        for name in "ba":
            assert coordinator.publish(topic(name, vitals.WAKE), vitals.WORK)
        device.wait_for(topic("a", vitals.WAKE))
        other.wait_for(topic("b", vitals.WAKE))
        assert {name for name, _ in device.seen} <= {topic("a", vitals.WAKE)}


def test_a_device_named_like_the_coordinator_cannot_be_made(folder: Folder) -> None:
    from coordinator.clock import Clock
    from coordinator.registry import new_token
    from coordinator.store import Store
    from reefleet.errors import InputError

    store = Store(folder.state)
    with pytest.raises(InputError, match="cannot be a device's name"):
        new_token(store, SERVER_NAME, 60, Clock())
    store.close()


def test_a_revoked_device_is_not_heard(folder: Folder, broker: Mosquitto) -> None:
    with peer(broker.port, a_device(folder, "gone"), "gone") as device:
        assert not device.publish(topic("gone", vitals.TELEMETRY), b"{}")
        assert not device.publish(topic("gone", vitals.PRESENCE), vitals.ONLINE)


def test_too_large_a_message_is_not_passed_on(folder: Folder, broker: Mosquitto) -> None:
    with (
        peer(broker.port, the_coordinator(folder), SERVER_NAME) as coordinator,
        peer(broker.port, a_device(folder, "a"), "a") as device,
    ):
        assert coordinator.subscribe(topic("+", vitals.TELEMETRY))
        large = b" " * (vitals.MAX_PAYLOAD_BYTES + 1)
        device.client.publish(topic("a", vitals.TELEMETRY), large, qos=0)
        assert device.publish(topic("a", vitals.TELEMETRY), b"small")
        assert coordinator.wait_for(topic("a", vitals.TELEMETRY)) == b"small"


def test_strangers_are_refused_on_both_sides(folder: Folder, broker: Mosquitto) -> None:
    stranger = create(folder.root.parent / "stranger", "barn", None, None)
    foreign, own = a_device(stranger, "a"), a_device(folder, "a")
    of_us = Identity(foreign.certificate, foreign.key, own.ca)
    of_them = Identity(own.certificate, own.key, foreign.ca)
    assert not is_heard(broker.port, of_us)
    with pytest.raises(ssl.SSLCertVerificationError):
        is_heard(broker.port, of_them)
    assert is_heard(broker.port, own)


def is_heard(port: int, shown: Identity) -> bool:
    """Whether the broker answers an MQTT greeting over this identity's TLS."""
    greeting = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"
    with socket.create_connection(("127.0.0.1", port), 30) as raw:
        try:
            with client_context(shown, vitals.BROKER_NAME).wrap_socket(raw) as line:
                line.sendall(greeting)
                return line.recv(1) == b"\x20"
        except ssl.SSLCertVerificationError:
            raise
        except (ssl.SSLError, ConnectionError):
            return False


def test_the_certificate_is_made_once_and_its_key_is_for_the_owner(
    folder: Folder, broker: Mosquitto
) -> None:
    assert broker.port
    root = folder.root / "mqtt"
    before = (root / "broker.pem").read_bytes()
    lay_down(folder, CoordinatorConfig(), root, revoked=[])
    assert (root / "broker.pem").read_bytes() == before
    assert (root / "broker.key").stat().st_mode & 0o077 == 0
    assert "gone" not in (root / "acl").read_text()


def test_the_brokers_certificate_does_not_pass_for_the_coordinators(folder: Folder) -> None:
    from cryptography import x509

    lay_down(folder, CoordinatorConfig(), folder.root / "other", revoked=[])
    pem = (folder.root / "other" / "broker.pem").read_bytes()
    loaded = x509.load_pem_x509_certificate(pem)
    names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert SERVER_NAME not in names.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no json",
        b"[]",
        b"[" * 2000,
        b'{"doing": 3}',
        b'{"doing": "<b>"}',
        b'{"temperature_c": 1e300}',
        b'{"temperature_c": NaN}',
        b'{"temperature_c": true}',
        b'{"throttled": 1}',
        b'{"exit_share": [2]}',
        b'{"exit_share": "x"}',
        b'{"loss": "' + b"x" * vitals.MAX_PAYLOAD_BYTES + b'"}',
    ],
)
def test_telemetry_that_is_out_of_bounds_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        Vitals.from_bytes(data)


def test_telemetry_comes_back_as_it_was_sent_and_newer_names_are_left_out() -> None:
    full = Vitals("federate", 55, True, 512, 48, 0.25, 3.5, (0.5, 0.25, 0.25))
    assert Vitals.from_bytes(full.to_bytes()) == full
    diverged = Vitals(loss=float("nan"), answer_ms=float("inf"), exit_share=(float("nan"), 1.0))
    assert Vitals.from_bytes(diverged.to_bytes()) == Vitals()
    assert Vitals.from_bytes(b'{"doing": "idle", "smell": "burnt"}') == Vitals(doing="idle")
    assert len(Vitals(exit_share=(1 / 3,) * vitals.MAX_EXITS).to_bytes()) < vitals.MAX_PAYLOAD_BYTES


@pytest.mark.parametrize("name", ["", "x/a/wake", "reefleet/A/wake", "reefleet/a/b", "reefleet/a"])
def test_a_topic_that_is_no_devices_is_refused(name: str) -> None:
    with pytest.raises(WireError):
        vitals.parsed(name)

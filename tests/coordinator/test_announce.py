"""What the coordinator makes of the broker's messages, and whom it wakes; without a network."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.announce import Announcer, Ears
from coordinator.clock import Clock
from coordinator.config import CoordinatorConfig, Mqtt
from coordinator.metrics import FleetMetrics
from coordinator.presence import CALLS_IN_WINDOW, Presence
from coordinator.pulse import Pulse
from coordinator.store import Store
from reefleet import vitals
from reefleet.rpc.identity import Identity
from reefleet.vitals import Vitals, topic

MEMBERS = {"a", "b"}


class Line:
    """Stands in for the connection: keeps what is published."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    def publish(self, name: str, payload: bytes, qos: int) -> None:
        assert qos == 1
        self.sent.append((name, payload))

    def subscribe(self, topics: Any) -> None:
        self.topics = topics


class Desk:
    """An announcer with both its ends in hand."""

    def __init__(self) -> None:
        self.pulse = Pulse(MEMBERS.__contains__)
        self.present: list[str] = []
        self.line = Line()
        self.ticks = 0.0
        ears = Ears(self.pulse, self.present.append, Clock(lambda: 1000.0, lambda: self.ticks))
        self.made = Announcer(Mqtt(port=1), Identity(b"", b"", b""), ears)
        self.made._client = self.line  # type: ignore[assignment]
        self.connect()

    def connect(self) -> None:
        self.made._on_connect(self.line, None, None, SimpleNamespace(is_failure=False), None)  # type: ignore[arg-type]

    def hear(self, name: str, payload: bytes, *, retain: bool = False) -> None:
        message = SimpleNamespace(topic=name, payload=payload, retain=retain)
        self.made._on_message(self.line, None, message)  # type: ignore[arg-type]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_each_device_is_woken_once_for_each_piece_of_work(desk: Desk) -> None:
    desk.made.wake(lambda: [("lease-1", "a"), ("lease-2", "b")])
    desk.made.wake(lambda: [("lease-1", "a"), ("lease-2", "b")])
    desk.made.wake(lambda: [("lease-2", "b"), ("lease-3", "a")])
    woken = [name for name, _ in desk.line.sent]
    assert sorted(woken[:2]) == [topic("a", vitals.WAKE), topic("b", vitals.WAKE)]
    assert woken[2:] == [topic("a", vitals.WAKE)]


def test_after_a_lost_connection_open_work_is_told_again(desk: Desk) -> None:
    desk.made.wake(lambda: [("lease-1", "a")])
    desk.made._on_disconnect(desk.line, None, None, "gone", None)  # type: ignore[arg-type]
    desk.made.wake(lambda: [("lease-1", "a")])
    desk.connect()
    desk.made.wake(lambda: [("lease-1", "a")])
    assert len(desk.line.sent) == 2


def test_a_look_that_takes_long_is_not_taken_again_at_once(desk: Desk) -> None:
    def slow() -> list[tuple[str, str]]:
        desk.ticks += 2.0
        return [(f"lease-{desk.ticks}", "a")]

    desk.made.wake(slow)
    desk.ticks += 19.0
    desk.made.wake(slow)
    assert len(desk.line.sent) == 1
    desk.ticks += 1.0
    desk.made.wake(slow)
    assert len(desk.line.sent) == 2


def test_presence_and_telemetry_are_kept_and_make_a_device_present(desk: Desk) -> None:
    desk.hear(topic("a", vitals.PRESENCE), vitals.ONLINE)
    desk.hear(topic("a", vitals.TELEMETRY), Vitals(doing="federate").to_bytes())
    told = desk.pulse.told("a")
    assert told is not None
    assert (told.is_online, told.at, told.vitals.doing) == (True, 1000.0, "federate")
    assert desk.present == ["a", "a"]
    assert desk.pulse.is_reached("a")
    desk.hear(topic("a", vitals.PRESENCE), vitals.OFFLINE)
    assert not desk.pulse.is_reached("a")
    assert desk.present == ["a", "a"]


def test_telemetry_of_nobody_knows_when_is_not_taken(desk: Desk) -> None:
    desk.hear(topic("a", vitals.TELEMETRY), Vitals().to_bytes(), retain=True)
    assert desk.pulse.told("a") is None
    assert desk.present == []


def test_a_device_cannot_fill_the_log(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(1000):
        desk.hear(topic("a", vitals.TELEMETRY), b"nonsense")
    assert len(caplog.records) == 1


def test_strangers_and_nonsense_leave_no_trace(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.hear(topic("stranger", vitals.PRESENCE), vitals.ONLINE)
    desk.hear("reefleet/../a", vitals.ONLINE)
    desk.hear(topic("a", vitals.TELEMETRY), b"\xff" * 5000)
    assert desk.pulse.all() == []
    assert desk.present == []
    assert [record.message for record in caplog.records] == ["Message not taken"] * 2


def test_without_the_broker_nobody_counts_as_reached(desk: Desk) -> None:
    desk.hear(topic("a", vitals.PRESENCE), vitals.ONLINE)
    assert desk.pulse.online() == 1
    desk.made._on_disconnect(desk.line, None, None, "gone", None)  # type: ignore[arg-type]
    assert not desk.pulse.is_reached("a")
    assert desk.pulse.online() is None


def test_a_forgotten_device_is_forgotten(desk: Desk) -> None:
    desk.hear(topic("a", vitals.PRESENCE), vitals.ONLINE)
    desk.pulse.forget("a")
    assert desk.pulse.told("a") is None


def test_prometheus_is_told_how_the_devices_are(desk: Desk, tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    clock = Clock(lambda: 0.0, lambda: 0.0)
    metrics = FleetMetrics(store, CoordinatorConfig(), clock, desk.pulse)
    for name, degrees in (("a", 40), ("b", 71)):
        desk.hear(topic(name, vitals.PRESENCE), vitals.ONLINE)
        told = Vitals(temperature_c=degrees, throttled=degrees > 60)
        desk.hear(topic(name, vitals.TELEMETRY), told.to_bytes())
    found = {one.name: one.samples[0].value for one in metrics.collect() if one.samples}
    store.close()
    assert found["reefleet_broker_up"] == 1
    assert found["reefleet_devices_online"] == 2
    assert found["reefleet_devices_throttled"] == 1
    assert found["reefleet_hottest_celsius"] == 71


def test_a_device_that_can_be_woken_asks_seldom(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    presence = Presence(store, Clock(lambda: 0.0, lambda: 0.0), window_s=600.0)
    assert presence.wait_ms("a", 1000) == 1000
    presence.reaches = {"a"}.__contains__
    assert presence.wait_ms("a", 1000) > 1000 * 600 / CALLS_IN_WINDOW / 2
    assert presence.wait_ms("b", 1000) == 1000
    store.close()

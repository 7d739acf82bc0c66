"""The coordinator's line to the fleet's broker: hears presence and telemetry, wakes devices.

The rounds never wait for it: where the broker is away, devices ask as often as without one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordinator.clock import Clock
from coordinator.config import Mqtt
from coordinator.pulse import Pulse
from reefleet import vitals
from reefleet.errors import ReefleetError
from reefleet.rpc.identity import Identity
from reefleet.rpc.tls import client_context
from reefleet.vitals import Vitals

if TYPE_CHECKING:
    from paho.mqtt.client import Client

logger = logging.getLogger(__name__)

CLIENT_ID = "reefleet-coordinator"
KEEP_ALIVE_S = 30
FIRST_WAIT_S, LONGEST_WAIT_S = 1, 30  # between attempts to connect
# Wake-ups to a large fleet wait here for the connection's thread, not in front of the rounds.
MAX_QUEUED = 100_000
REST_PER_LOOK = 10.0  # so that looking takes a tenth of the scheduler's time at most
MAX_COMPLAINTS = 100
MAX_PACKET_BYTES = 8 << 10  # the broker sends no larger one


@dataclass(frozen=True, slots=True)
class Ears:
    """What to do with what is heard: `present` for a device that is there, after `pulse`."""

    pulse: Pulse
    present: Callable[[str], None]
    clock: Clock


class Announcer:
    """One connection, made again by itself whenever it is lost."""

    def __init__(self, wanted: Mqtt, shown: Identity, ears: Ears) -> None:
        self._wanted = wanted
        self._shown = shown
        self._ears = ears
        self._woken: set[str] = set()  # leases of open work whose device has been told
        self._look_at = 0.0  # by the steady clock
        self._complained: set[str] = set()
        self._client: Client | None = None

    def start(self) -> None:
        """Begin to connect; where nobody answers it is tried again for ever."""
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        client = Client(CallbackAPIVersion.VERSION2, CLIENT_ID, protocol=MQTTProtocolVersion.MQTTv5)
        client.tls_set_context(client_context(self._shown, vitals.BROKER_NAME))
        client.max_queued_messages_set(MAX_QUEUED)
        client.reconnect_delay_set(FIRST_WAIT_S, LONGEST_WAIT_S)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        bounds = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        bounds.MaximumPacketSize = MAX_PACKET_BYTES
        host = self._wanted.host or "127.0.0.1"
        client.connect_async(host, self._wanted.port, KEEP_ALIVE_S, properties=bounds)
        client.loop_start()
        self._client = client

    def stop(self) -> None:
        """Hang up."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
        self._ears.pulse.set_up(is_up=False)

    def wake(self, open_work: Callable[[], Iterable[tuple[str, str]]]) -> None:
        """Wake the devices of open work, (lease, device) each, that have not been told of it.

        In a large fleet looking takes a while, so it is not done after every single update.
        """
        begun = self._ears.clock.monotonic()
        if self._client is None or not self._ears.pulse.is_up or begun < self._look_at:
            return
        leases = dict(open_work())
        for device_id in {leases[lease] for lease in leases.keys() - self._woken}:
            self._client.publish(vitals.topic(device_id, vitals.WAKE), vitals.WORK, qos=1)
        self._woken = set(leases)
        now = self._ears.clock.monotonic()
        self._look_at = now + (now - begun) * REST_PER_LOOK

    def _on_connect(self, client: Client, _data: Any, _flags: Any, code: Any, _more: Any) -> None:
        if code.is_failure:
            logger.warning("Broker refused", extra={"reason": str(code)})
            return
        self._woken = set()  # whoever missed a wake-up gets another
        self._complained = set()
        self._ears.pulse.set_up(is_up=True)
        client.subscribe([(vitals.topic("+", k), 1) for k in (vitals.PRESENCE, vitals.TELEMETRY)])
        logger.info("Broker connected", extra={"port": self._wanted.port})

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: Any, code: Any, _properties: Any
    ) -> None:
        if self._ears.pulse.is_up:
            logger.warning("Broker lost", extra={"reason": str(code)})
        self._ears.pulse.set_up(is_up=False)

    def _on_message(self, _client: Client, _data: Any, message: Any) -> None:
        try:
            device_id, kind = vitals.parsed(message.topic)
            self._hear(device_id, kind, message.payload, is_old=message.retain)
        except ReefleetError as error:  # a device's nonsense, or our own disk
            self._complain(message.topic, str(error))

    def _complain(self, topic: str, reason: str) -> None:
        """Once a topic and connection: nobody shall fill the log from outside."""
        if topic not in self._complained and len(self._complained) < MAX_COMPLAINTS:
            self._complained.add(topic)
            logger.warning("Message not taken", extra={"topic": topic[:80], "reason": reason})

    def _hear(self, device_id: str, kind: str, payload: bytes, *, is_old: bool) -> None:
        pulse, now = self._ears.pulse, self._ears.clock.wall()
        if kind == vitals.PRESENCE:
            is_online = payload == vitals.ONLINE
            is_member = pulse.presence(device_id, is_online=is_online)
        elif is_old:
            return  # nobody knows how old
        else:
            is_online = is_member = pulse.report(device_id, Vitals.from_bytes(payload), now)
        if is_member and is_online:
            self._ears.present(device_id)

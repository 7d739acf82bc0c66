"""The client's line to the fleet's broker: presence, telemetry, and wake-ups; never needed.

Presence is a retained message with a last will, so that the broker itself says when a device is
gone. A wake-up, and each new connection, makes an idle client ask the coordinator at once.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reefleet import vitals
from reefleet.errors import InputError
from reefleet.rpc.identity import Identity
from reefleet.rpc.tls import client_context
from reefleet.vitals import Vitals

if TYPE_CHECKING:
    from paho.mqtt.client import Client

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 60
FIRST_WAIT_S, LONGEST_WAIT_S = 1, 120  # between attempts to connect
GOODBYE_S = 2.0


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is, and how often it wants to hear."""

    host: str
    port: int
    telemetry_s: float


class Telemetry:
    """Follows the broker that the coordinator names; `nudge` makes the client ask for work."""

    def __init__(
        self,
        device_id: str,
        identity: Callable[[], Identity],
        report: Callable[[], Vitals],
        nudge: Callable[[], None],
    ) -> None:
        """Stay silent until `follow`; `identity` gives the certificate to show now."""
        self._device_id = device_id
        self._identity = identity
        self._report = report
        self._nudge = nudge
        self._broker: Broker | None = None
        self._shown: Identity | None = None
        self._line: _Line | None = None

    def follow(self, broker: Broker | None) -> None:
        """Connect to this broker from now on, with the certificate of now; None: to none."""
        shown = self._identity() if broker else None
        if (broker, shown) == (self._broker, self._shown):
            return
        self.close()
        self._broker, self._shown = broker, shown
        if broker is None or shown is None:
            return
        try:
            self._line = _Line(self._device_id, broker, shown, self._report, self._nudge)
        except ModuleNotFoundError:
            logger.warning("no broker used", extra={"reason": "run: pip install 'reefleet[mqtt]'"})
        except (OSError, InputError) as error:
            logger.warning("no broker used", extra={"reason": str(error)})

    def refresh(self) -> None:
        """Connect anew where the certificate has been renewed."""
        self.follow(self._broker)

    def close(self) -> None:
        """Say goodbye; again does nothing."""
        if self._line is not None:
            self._line.close()
        self._line = self._broker = self._shown = None


class _Line:
    """One connection, made again by itself whenever it is lost."""

    def __init__(
        self,
        device_id: str,
        broker: Broker,
        shown: Identity,
        report: Callable[[], Vitals],
        nudge: Callable[[], None],
    ) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        self._device_id = device_id
        self._broker = broker
        self._report = report
        self._nudge = nudge
        self._closing = threading.Event()
        self._up = threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2, device_id, protocol=MQTTProtocolVersion.MQTTv5
        )
        client = self._client
        client.tls_set_context(client_context(shown, vitals.BROKER_NAME))
        client.will_set(self._topic(vitals.PRESENCE), vitals.OFFLINE, qos=1, retain=True)
        # Not in one wave, where a broker comes back to a large fleet.
        wait_s = random.randint(FIRST_WAIT_S, 3 * FIRST_WAIT_S)  # noqa: S311  # jitter
        client.reconnect_delay_set(wait_s, LONGEST_WAIT_S)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.connect_async(broker.host, broker.port, KEEP_ALIVE_S)
        client.loop_start()
        self._reporter = threading.Thread(target=self._report_often, name="vitals", daemon=True)
        self._reporter.start()

    def close(self) -> None:
        """Say that the device is gone, and hang up."""
        self._closing.set()
        if self._up.is_set():
            last = self._client.publish(
                self._topic(vitals.PRESENCE), vitals.OFFLINE, 1, retain=True
            )
            with suppress(RuntimeError, ValueError):  # lost just now: the last will says it
                last.wait_for_publish(GOODBYE_S)
        self._client.disconnect()
        self._client.loop_stop()
        self._reporter.join()

    def _topic(self, kind: str) -> str:
        return vitals.topic(self._device_id, kind)

    def _on_connect(self, client: Client, _data: Any, _flags: Any, code: Any, _more: Any) -> None:
        if code.is_failure:
            logger.warning("broker refused", extra={"reason": str(code)})
            return
        client.subscribe(self._topic(vitals.WAKE), qos=1)

    def _on_subscribe(
        self, client: Client, _data: Any, _id: int, codes: Any, _properties: Any
    ) -> None:
        if any(code.is_failure for code in codes):
            logger.warning("broker refused", extra={"reason": "it may not listen to its wake-ups"})
            return
        # Only now: whoever sees this device online may count on waking it.
        client.publish(self._topic(vitals.PRESENCE), vitals.ONLINE, qos=1, retain=True)
        self._up.set()
        self._tell()
        logger.info("broker connected", extra={"broker": self._broker.host})
        self._nudge()

    def _on_message(self, _client: Client, _data: Any, _message: Any) -> None:
        self._nudge()  # whatever it says: there is one topic, and one thing to do

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: Any, code: Any, _properties: Any
    ) -> None:
        if self._up.is_set() and not self._closing.is_set():
            logger.warning("broker lost", extra={"reason": str(code)})
            self._nudge()  # nobody can wake it now, so it has to ask
        self._up.clear()

    def _report_often(self) -> None:
        while not self._closing.wait(self._broker.telemetry_s):
            if self._up.is_set():
                self._tell()

    def _tell(self) -> None:
        data = self._report().to_bytes()
        self._client.publish(self._topic(vitals.TELEMETRY), data, qos=0)

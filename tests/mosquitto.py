"""A mosquitto of the tests' own: unprivileged, on a free port, ended by its process."""

from __future__ import annotations

import getpass
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from reefleet import vitals
from reefleet.rpc.identity import Identity
from reefleet.rpc.tls import client_context

PROGRAM = "/usr/sbin/mosquitto"
DEADLINE_S = 60.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Mosquitto:
    """A broker started from the configuration that `mqtt-acl` writes."""

    def __init__(self, config: Path, port: int) -> None:
        self._config = config.with_name("started.conf")
        # Started by root it would change its user, and then not read the test's files.
        text = f"{config.read_text()}user {getpass.getuser()}\n"
        self._config.write_text(text)
        self.port = port
        self._log = config.with_name("mosquitto.log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([PROGRAM, "-c", str(self._config)], stderr=log)
        end = time.monotonic() + DEADLINE_S
        while True:
            assert self._process.poll() is None, self._log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < end, self._log.read_text()
            else:
                return

    def kill(self) -> None:
        """SIGKILL; again does nothing."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        """What it said."""
        return self._log.read_text()


@dataclass
class Peer:
    """Any client of the broker; waits for what it sees."""

    client: Client
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    up: bool = False
    answered: dict[int, Any] = field(default_factory=dict)

    def wait_for(self, topic: str, payload: bytes | None = None) -> bytes:
        """The next message on a topic, with this payload where one is given."""

        def found() -> bytes | None:
            for index, (name, data) in enumerate(self.seen):
                if name == topic and payload in {None, data}:
                    del self.seen[: index + 1]
                    return data
            return None

        return bytes(self._until(found))

    def subscribe(self, topic: str) -> bool:
        """Whether the broker lets it listen."""
        _, number = self.client.subscribe(topic, qos=1)
        assert number is not None
        codes = self._until(lambda: self.answered.get(number))
        return not any(code.is_failure for code in codes)

    def publish(self, topic: str, payload: bytes) -> bool:
        """Whether the broker takes a message from it."""
        sent = self.client.publish(topic, payload, qos=1)
        assert sent.mid is not None
        codes = self._until(lambda: self.answered.get(sent.mid))
        return not any(code.is_failure for code in codes)

    def _until(self, found: Any) -> Any:
        value: Any = None

        def look() -> bool:
            nonlocal value
            value = found()
            return value is not None

        with self.changed:
            assert self.changed.wait_for(look, DEADLINE_S), (self.seen, self.refusals)
        return value


@contextmanager
def peer(port: int, shown: Identity, name: str) -> Iterator[Peer]:
    """A connected client."""
    client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5)
    made = Peer(client)

    def note(change: Any) -> None:
        with made.changed:
            change()
            made.changed.notify_all()

    def connected(code: Any) -> None:
        if code.is_failure:
            made.refusals.append(str(code))
        else:
            made.up = True

    client.on_connect = lambda _c, _d, _f, code, _p: note(lambda: connected(code))
    client.on_connect_fail = lambda *_: note(lambda: made.refusals.append("no connection"))
    client.on_disconnect = lambda *a: note(lambda: made.refusals.append(str(a[3])))
    client.on_message = lambda _c, _d, m: note(lambda: made.seen.append((m.topic, m.payload)))
    client.on_subscribe = lambda _c, _d, n, codes, _p: note(
        lambda: made.answered.update({n: codes})
    )
    client.on_publish = lambda _c, _d, n, code, _p: note(lambda: made.answered.update({n: [code]}))
    client.tls_set_context(client_context(shown, vitals.BROKER_NAME))
    client.connect_async("127.0.0.1", port, 60)
    client.loop_start()
    try:
        with made.changed:
            assert made.changed.wait_for(lambda: made.up, DEADLINE_S), made.refusals
        yield made
    finally:
        client.disconnect()
        client.loop_stop()

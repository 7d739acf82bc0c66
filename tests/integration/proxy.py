"""A TCP proxy between clients and a coordinator: counts what passes, cuts where it is told.

The bytes are TLS and are forwarded as they are. A gate is asked about every piece before it passes.
"""

from __future__ import annotations

import enum
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tests.integration.running import until

PIECE_BYTES = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() answers with a reset, as a closed port does


class Way(enum.Enum):
    """Up is from the client to the coordinator."""

    UP = "up"
    DOWN = "down"


# Told the way and size of a piece, says how many of its bytes pass; fewer cut the connection.
Gate = Callable[[Way, int], int]


@dataclass
class Passed:
    """Bytes of one connection that have passed."""

    up: int = 0
    down: int = 0

    def add(self, way: Way, size: int) -> None:
        if way is Way.UP:
            self.up += size
        else:
            self.down += size


def let_pass(_way: Way, size: int) -> int:
    """The gate that stands open."""
    return size


class CutOnce:
    """A gate that cuts when `after_bytes` have passed one way; then all wait until it is mended.

    It holds the line before the cut until `arrived` says that the other end has some of them.
    """

    def __init__(
        self, way: Way, after_bytes: int, arrived: Callable[[], object] = lambda: True
    ) -> None:
        self._arrived = arrived
        self.cut = threading.Event()
        self.mended = threading.Event()
        self._way = way
        self._left = after_bytes

    def __call__(self, way: Way, size: int) -> int:
        if self.cut.is_set():
            self.mended.wait()
        elif way is self._way:
            passing = min(size, self._left)
            self._left -= passing
            if passing < size:
                until(self._arrived, "something to arrive before the cut")
                self.cut.set()
                return passing
        return size


class Proxy:
    """Listens at `port` and forwards to `target`, both on loopback, until closed."""

    def __init__(self, target: int) -> None:
        self.gate: Gate = let_pass
        self.connections: list[Passed] = []
        self._target = ("127.0.0.1", target)
        self._turn = threading.Lock()  # the gate is asked about one piece at a time
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Hang up everywhere."""
        _hang_up(self._listener)
        for end in list(self._open):
            _hang_up(end)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            self._join(client, server)

    def _join(self, client: socket.socket, server: socket.socket) -> None:
        passed = Passed()
        self.connections.append(passed)
        self._open |= {client, server}
        up = threading.Thread(target=self._pump, args=(Way.UP, client, server, passed), daemon=True)

        def down() -> None:
            self._pump(Way.DOWN, server, client, passed)
            up.join()
            for end in (client, server):
                self._open.discard(end)
                end.close()

        self._threads.append(threading.Thread(target=down, daemon=True))
        up.start()
        self._threads[-1].start()

    def _pump(self, way: Way, source: socket.socket, sink: socket.socket, passed: Passed) -> None:
        with suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                with self._turn:
                    passing = self.gate(way, len(piece))
                    passed.add(way, passing)
                sink.sendall(piece[:passing])
                if passing < len(piece):
                    break
        for end in (source, sink):
            _hang_up(end)


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)

"""Word to systemd: ready, stopping, still alive; nothing where no service manager listens.

The protocol is one datagram to the socket in NOTIFY_SOCKET (sd_notify(3)).
"""

from __future__ import annotations

import os
import socket
import time

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


def tell(*states: str) -> bool:
    """Send states to the service manager; whether there is one that took them."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.connect(address)
            line.sendall("\n".join(states).encode())
    except OSError:
        return False  # a lost word must not end the service
    return True


def reloading() -> bool:
    """Say that settings are read anew; READY follows."""
    return tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_s() -> float | None:
    """How often the service manager wants to hear ALIVE from this process; None if it does not."""
    limit, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not limit.isdigit() or int(limit) == 0 or process not in {"", str(os.getpid())}:
        return None
    return int(limit) / 1e6

"""Invitations made beside the folder itself, before the coordinator serves it."""

from __future__ import annotations

import socket

from coordinator.clock import Clock
from coordinator.config import Listen, read_config
from coordinator.folder import Folder
from coordinator.registry import new_token
from coordinator.state import state_address
from coordinator.store import Store
from reefleet.invitation import Invitation

DEVICE = "device"
TTL_S = 24 * 3600.0
EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104  # what a host is compared with


def invite(folder: Folder, uses: int, host: str = "") -> Invitation:
    """A token for `uses` new devices, good for a day, in an invitation to this coordinator.

    `host` is where devices reach it, for settings that listen everywhere. Raises as `new_token`.
    """
    config = read_config(folder.root)
    store = Store(state_address(folder, config))
    try:
        token = new_token(store, DEVICE, TTL_S, Clock(), uses)
    finally:
        store.close()
    at = host or _reached_at(config.listen)
    shown = f"[{at}]" if ":" in at else at
    return Invitation(
        server=f"{shown}:{config.listen.enrollment_port}",
        ca=folder.key(folder.ca_cert).decode(),
        token=token,
    )


def _reached_at(listen: Listen) -> str:
    if listen.names:
        return listen.names[0]
    return socket.gethostname() if listen.host in EVERYWHERE else listen.host

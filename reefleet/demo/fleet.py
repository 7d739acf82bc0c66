"""The demo's fleet: sets a coordinator and five clients going and watches them to the end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coordinator.config import read_config
from coordinator.folder import Folder
from coordinator.status import FleetStatus, snapshot
from coordinator.store import Store
from reefleet.demo.packs import Packs
from reefleet.demo.processes import Child, ChildFailed, Family, first_event
from reefleet.demo.progress import View
from reefleet.demo.scenario import BOARDS, CONTRACT, settings
from reefleet.demo.story import moment

START_TIMEOUT_S = 60.0
POLL_S = 0.25

Command = Callable[[str, Sequence[str]], list[str]]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Running processes: the coordinator, and each device's client by its name."""

    folder: Path
    coordinator: Child
    clients: Mapping[str, Child]

    def state(self, device: str) -> Path:
        """Where a device keeps its state."""
        return state_of(self.folder, device)


def state_of(folder: Path, device: str) -> Path:
    """Where a device of the demo in `folder` keeps its state."""
    return folder / "devices" / device


def plain(_device: str, arguments: Sequence[str]) -> list[str]:
    """A device's command as it is."""
    return list(arguments)


def emulated(device: str, arguments: Sequence[str]) -> list[str]:
    """A device's command under its board's memory and processor share."""
    command = [sys.executable, "-m", "reefleet", *arguments]
    return ["devices", "emulate", device, "--", *command]


def start(
    members: Family,
    folder: Path,
    packs: Packs,
    rounds: int,
    seed: int,
    command: Command = plain,
) -> Fleet:
    """Set up and start everything; returns once all clients run. Raises ChildFailed.

    `command` may put each client under something else.
    """
    root = folder / "coordinator"
    contract = folder / "contract.json"
    contract.write_text(json.dumps(CONTRACT.to_json(), indent=2), encoding="utf-8")
    members.run("init", ["coordinator", "init", str(root), "--contract", str(contract)])
    Folder(root).config.write_text(settings(rounds, seed, packs.public), encoding="utf-8")
    coordinator = members.start("coordinator", ["coordinator", "serve", str(root)])
    ports = first_event(members, coordinator, "listening", START_TIMEOUT_S)
    _enroll(members, folder, int(ports["enrollment_port"]))
    clients = {}
    for device in BOARDS:
        state, data = str(state_of(folder, device)), str(packs.devices[device])
        arguments = ["edge", "run", "--state", state, "--data", data, "--until-finished"]
        clients[device] = members.start(device, command(device, arguments))
    return Fleet(folder, coordinator, clients)


def watch(members: Family, fleet: Fleet, view: View) -> FleetStatus:
    """Show the run until every client has finished; gives the last status. Raises ChildFailed."""
    root = fleet.folder / "coordinator"
    config = read_config(root)
    with _store(Folder(root).state) as store:
        while any(client.process.poll() is None for client in fleet.clients.values()):
            members.check()
            if fleet.coordinator.process.poll() is not None:
                raise fleet.coordinator.failure()
            status = snapshot(store, config, time.time())
            for device in status.devices:
                if device.failure:
                    msg = f"{device.device_id} got no bundle: {device.failure}"
                    raise ChildFailed(msg)
            view.show(moment(status))
            time.sleep(POLL_S)
        members.check()
        return snapshot(store, config, time.time())


def _enroll(members: Family, folder: Path, port: int) -> None:
    root = folder / "coordinator"
    new = ["coordinator", "token", "new", "--dir", str(root)]
    tokens = members.run_all({f"token-{d}": [*new, "--device", d] for d in BOARDS})
    commands = {}
    for device in BOARDS:
        commands[f"enroll-{device}"] = [
            *("edge", "enroll", "--server", f"127.0.0.1:{port}", "--board", device),
            *("--ca", str(Folder(root).ca_cert), "--token", tokens[f"token-{device}"].strip()),
            *("--state", str(state_of(folder, device))),
        ]
    members.run_all(commands)


@contextmanager
def _store(path: Path) -> Iterator[Store]:
    store = Store(path)
    try:
        yield store
    finally:
        store.close()

"""`reefleet coordinator`: init, serve, token, status."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.status import DeviceStatus, FleetStatus
    from reefleet.cli import Subparsers

EPILOG = """\
examples:
  reefleet coordinator init fleet --fleet barn --contract contract.json --public-data public.npz
  reefleet coordinator serve fleet
  reefleet coordinator token fleet --device shed-2
  reefleet coordinator status fleet --json
"""


def add_parser(subparsers: Subparsers[Any]) -> None:
    """Add `coordinator` with its four verbs."""
    parser = subparsers.add_parser(
        "coordinator", help="run the fleet: init, serve, token, status", epilog=EPILOG
    )
    verbs = parser.add_subparsers(metavar="VERB", dest="verb", required=True)
    _add_init(verbs)
    serve = verbs.add_parser(
        "serve",
        help="listen to devices and run the rounds until stopped",
        description="Listen until SIGTERM or SIGINT. One JSON line with both ports on stdout.",
        epilog="example:\n  reefleet coordinator serve fleet",
    )
    serve.add_argument("directory", metavar="DIR", type=Path, help="made by init")
    token = verbs.add_parser(
        "token",
        help="print a one-time token that lets one device in",
        description="Print a one-time enrollment token. It is a secret until it is used.",
        epilog="example:\n  reefleet coordinator token fleet --device shed-2 --ttl-h 2",
    )
    token.add_argument("directory", metavar="DIR", type=Path, help="made by init")
    token.add_argument("--device", required=True, metavar="ID", help="the device's name from now")
    token.add_argument("--ttl-h", type=float, default=24.0, help="hours it is good for (24)")
    status = verbs.add_parser(
        "status",
        help="show rounds, devices and refusals",
        description="Show how the run goes; the coordinator may be serving or not.",
        epilog="example:\n  reefleet coordinator status fleet --json",
    )
    status.add_argument("directory", metavar="DIR", type=Path, help="made by init")
    status.add_argument("--json", action="store_true", help="everything, as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Do the chosen verb; raises what is wrong."""
    verbs = {"init": _init, "serve": _serve, "token": _token, "status": _status}
    return verbs[options.verb](options)


def _add_init(verbs: Any) -> None:
    init = verbs.add_parser(
        "init",
        help="lay down a new coordinator: keys, settings, contract",
        description="Make DIR with coordinator.toml, the fleet's authority and the model contract.",
        epilog="example:\n  reefleet coordinator init fleet --contract contract.json",
    )
    init.add_argument("directory", metavar="DIR", type=Path, help="a new or empty folder")
    init.add_argument("--fleet", default="fleet", metavar="NAME", help="name of the fleet")
    init.add_argument("--contract", type=Path, metavar="FILE", help="the model contract (JSON)")
    init.add_argument(
        "--public-data", type=Path, metavar="FILE", help="pretrain the first model on this npz"
    )


def _init(options: argparse.Namespace) -> int:
    from coordinator.folder import create

    folder = create(options.directory, options.fleet, options.contract, options.public_data)
    contract = "" if options.contract else f"put the model's contract at {folder.contract}\n"
    sys.stdout.write(
        f"{contract}settings: {folder.config}\nauthority, to copy to each device: "
        f"{folder.ca_cert}\nnext: reefleet coordinator serve {folder.root}\n"
    )
    return 0


def _serve(options: argparse.Namespace) -> int:
    from coordinator.server import Ports, serve

    def announce(ports: Ports) -> None:
        line = {
            "event": "listening",
            "fleet_port": ports.fleet,
            "enrollment_port": ports.enrollment,
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    serve(options.directory, announce)
    return 0


def _token(options: argparse.Namespace) -> int:
    from coordinator.clock import Clock
    from coordinator.config import read_config
    from coordinator.folder import Folder
    from coordinator.registry import new_token
    from coordinator.store import Store
    from reefleet.errors import InputError

    read_config(options.directory)
    if not 0 < options.ttl_h <= 24 * 365:
        msg = f"--ttl-h is {options.ttl_h}; it must be above 0 and at most a year"
        raise InputError(msg)
    store = Store(Folder(options.directory).state)
    try:
        token = new_token(store, options.device, options.ttl_h * 3600, Clock())
    finally:
        store.close()
    sys.stdout.write(token + "\n")
    return 0


def _status(options: argparse.Namespace) -> int:
    from coordinator.config import read_config
    from coordinator.folder import Folder
    from coordinator.status import snapshot
    from coordinator.store import Store

    config = read_config(options.directory)
    store = Store(Folder(options.directory).state)
    try:
        found = snapshot(store, config, time.time())
    finally:
        store.close()
    if options.json:
        sys.stdout.write(json.dumps(found.to_json()) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(found)) + "\n")
    return 0


def _lines(found: FleetStatus) -> list[str]:
    left = "" if found.time_left_s is None else f", about {found.time_left_s:.0f} s left"
    closed = f"{found.rounds_closed} of {found.rounds_total} rounds closed"
    lines = [
        f"fleet {found.fleet}: {found.phase}, {closed}{left}",
        f"devices ready: {found.ready_devices}, needed for a round: {found.min_devices}",
    ]
    for entry in found.rounds[-5:]:
        loss = "-" if entry.loss is None else f"{entry.loss:.3f}"
        counts = f"{entry.updates} of {entry.cohort} updates, {entry.refused} refused"
        lines.append(f"  round {entry.number:<3} {entry.state:<8} {counts}, loss {loss}")
    lines += [_device_line(device) for device in found.devices]
    lines += [
        f"  refused: {refusal.device_id}, round {refusal.round}: {refusal.reason}"
        for refusal in found.refusals[-5:]
    ]
    return lines


def _device_line(device: DeviceStatus) -> str:
    plan = device.plan
    held = f"depth {plan['exit_depth']}, {plan['bits']} bits, {plan['codec']}" if plan else ""
    return f"  {device.device_id:<20} {device.doing:<12} {held} {device.failure}".rstrip()

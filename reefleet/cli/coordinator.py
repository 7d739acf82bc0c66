"""`reefleet coordinator`: what needs the folder itself; what speaks to the daemon is `operate`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reefleet.cli.operate import add_folder, add_verbs

if TYPE_CHECKING:
    from reefleet.cli import Subparsers

EPILOG = """\
examples:
  reefleet coordinator init fleet --fleet barn --contract contract.json --public-data public.npz
  reefleet coordinator serve fleet
  reefleet coordinator token new --dir fleet --device shed-2
  reefleet coordinator status --dir fleet --watch
"""


def add_parser(subparsers: Subparsers[Any]) -> None:
    """Add `coordinator` with its verbs."""
    parser = subparsers.add_parser("coordinator", help="run the fleet", epilog=EPILOG)
    verbs = parser.add_subparsers(metavar="VERB", dest="verb", required=True)
    _add_init(verbs)
    serve = verbs.add_parser(
        "serve",
        help="listen to devices and run the rounds until stopped",
        description=(
            "Listen until SIGTERM or SIGINT; SIGHUP reads the settings anew. One JSON line with "
            "the ports on stdout."
        ),
        epilog="example:\n  reefleet coordinator serve fleet",
    )
    serve.add_argument("directory", metavar="DIR", type=Path, help="made by init")
    _add_backup(verbs)
    _add_mqtt_acl(verbs)
    VERBS.update(add_verbs(verbs))


def run(options: argparse.Namespace) -> int:
    """Do the chosen verb; raises what is wrong."""
    return VERBS[options.verb](options)


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
        "--public-data",
        type=Path,
        metavar="FILE",
        help="pretrain the first model on this npz; without --contract the model follows from it",
    )
    init.add_argument(
        "--invite",
        type=int,
        metavar="N",
        help="write invitation.json, which lets N new devices in within a day",
    )
    init.add_argument(
        "--host", default="", metavar="HOST", help="where devices reach this machine (its name)"
    )


def _init(options: argparse.Namespace) -> int:
    from coordinator.folder import create
    from coordinator.invitations import invite
    from coordinator.registry import require_uses
    from coordinator.state import prepare

    if options.invite is not None:
        require_uses(options.invite)
    folder = create(options.directory, options.fleet, options.contract, options.public_data)
    prepare(folder)
    is_there = folder.contract.is_file()
    lines = [
        "" if is_there else f"put the model's contract at {folder.contract}",
        f"settings: {folder.config}",
        f"authority, to copy to each device: {folder.ca_cert}",
    ]
    if options.invite is not None:
        invite(folder, options.invite, options.host).write(folder.invitation)
        lines.append(
            f"invitation of {options.invite} devices, secret: {folder.invitation}\n"
            f"on each: reefleet edge run --join {folder.invitation.name} --state state --data FILE"
        )
    lines.append(f"next: reefleet coordinator serve {folder.root}")
    sys.stdout.write("".join(f"{line}\n" for line in lines if line))
    return 0


def _serve(options: argparse.Namespace) -> int:
    from coordinator.daemon import serve
    from coordinator.listeners import Ports

    def announce(ports: Ports) -> None:
        line = {"event": "listening", **asdict(ports)}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    serve(options.directory, announce)
    return 0


def _add_backup(verbs: Any) -> None:
    backup = verbs.add_parser(
        "backup",
        help="write settings, keys, state and models to one file",
        description=(
            "Write all of a coordinator to FILE; it may be serving. FILE holds the fleet's keys: "
            "keep it secret.\nWorks on the folder itself, on the coordinator's machine."
        ),
        epilog="example:\n  reefleet coordinator backup fleet.tar --dir fleet",
    )
    backup.add_argument("file", metavar="FILE", type=Path, help="a new file")
    restore = verbs.add_parser(
        "restore",
        help="lay down a coordinator from a backup",
        description="Lay down the coordinator of a backup in a new folder; then serve it.",
        epilog="example:\n  reefleet coordinator restore fleet.tar --dir fleet",
    )
    restore.add_argument("file", metavar="FILE", type=Path, help="made by backup")
    for parser in (backup, restore):
        add_folder(parser, "the coordinator's folder")


def _add_mqtt_acl(verbs: Any) -> None:
    broker = verbs.add_parser(
        "mqtt-acl",
        help="write a mosquitto's configuration, certificate and access rules",
        description=(
            "Write what a mosquitto needs to be the fleet's broker: each device is known by its "
            "certificate and\nreads and writes its own topics only. The coordinator renews the "
            "access rules after a revocation.\nWorks on the folder itself, on the coordinator's "
            "machine."
        ),
        epilog="example:\n  reefleet coordinator mqtt-acl --dir fleet --out /etc/reefleet-mqtt",
    )
    add_folder(broker, "the coordinator's folder")
    broker.add_argument("--out", type=Path, metavar="OUT", help="where to write (DIR/mqtt)")


def _mqtt_acl(options: argparse.Namespace) -> int:
    from coordinator.broker import DEFAULT_PORT, lay_down
    from coordinator.config import read_config
    from coordinator.folder import Folder
    from coordinator.state import state_address
    from coordinator.store import Store

    folder, config = Folder(options.dir), read_config(options.dir)
    store = Store(state_address(folder, config))
    try:
        revoked = store.revoked()
    finally:
        store.close()
    paths = lay_down(folder, config, options.out or options.dir / "mqtt", revoked)
    off = "" if config.mqtt.port else f"set port = {DEFAULT_PORT} under [mqtt] in {folder.config}\n"
    sys.stdout.write(
        f"access rules: {paths.rules} ({len(revoked)} revoked)\n{off}"
        f"next: mosquitto -c {paths.config}\n"
    )
    return 0


def _backup(options: argparse.Namespace) -> int:
    from coordinator import backup

    made = backup.make(options.dir, options.file)
    mib = made.size_bytes / 2**20
    sys.stdout.write(f"{options.file}: fleet {made.fleet}, {made.blobs} blobs, {mib:.1f} MiB\n")
    return 0


def _restore(options: argparse.Namespace) -> int:
    from coordinator import backup

    found = backup.restore(options.file, options.dir)
    sys.stdout.write(
        f"{options.dir}: fleet {found.fleet}, {found.blobs} blobs\n"
        f"next: reefleet coordinator serve {options.dir}\n"
    )
    return 0


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "init": _init,
    "serve": _serve,
    "backup": _backup,
    "restore": _restore,
    "mqtt-acl": _mqtt_acl,
}

"""The verbs of `reefleet coordinator` that speak to the running daemon as its operator."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reefleet.cli import views
from reefleet.cli.duration import duration

if TYPE_CHECKING:
    from reefleet.rpc.operator import OperatorLine

FOLDER_VARIABLE = "REEFLEET_DIR"
DEFAULT_FOLDER = "/var/lib/reefleet"

Verb = Callable[["OperatorLine", argparse.Namespace], None]


def add_verbs(verbs: Any) -> dict[str, Callable[[argparse.Namespace], int]]:
    """Add a parser for each verb and give what runs it, by name."""
    table: dict[str, Verb] = {}

    def add(name: str, verb: Verb, text: str, example: str) -> Any:
        table[name] = verb
        epilog = f"example:\n  reefleet coordinator {name}{example}"
        parser = verbs.add_parser(name, help=text, description=_sentence(text), epilog=epilog)
        _add_line(parser)
        return parser

    _add_views(add)
    _add_actions(add)
    _add_token(verbs, table)
    return {name: _runner(verb) for name, verb in table.items()}


def _add_views(add: Callable[[str, Verb, str, str], Any]) -> None:
    def view(name: str, look: views.Look, text: str, example: str = "") -> Any:
        parser = add(name, _shown(look), text, example)
        again = f"again every {views.WATCH_S:.0f} s"
        parser.add_argument("--watch", action="store_true", help=again)
        return parser

    def newest(name: str, look: views.Look, text: str) -> None:
        parser = view(name, look, text, " --last 50")
        parser.add_argument("--last", type=int, default=20, metavar="N", help="how many (20)")

    view("status", views.status, "show how the run goes", " --watch")
    view("devices", views.devices, "list all devices", " --json")
    device = view("device", views.device, "show one device: plan, profile, work", " shed-2")
    device.add_argument("device", metavar="ID")
    view("plan", views.plan, "show what every device holds and does", " --json")
    newest("rounds", views.rounds, "list the newest rounds")
    one = view("round", views.one_round, "show one round and the work of each device", " 3")
    one.add_argument("round", metavar="N", type=int)
    newest("versions", views.versions, "list the newest versions of the model")
    newest("deployments", views.deployments, "list the newest deployments")


def _add_actions(add: Callable[[str, Verb, str, str], Any]) -> None:
    add("pause", _pause, "hand out no new work; what is under way goes on", " --dir fleet")
    add("resume", _resume, "hand out work again", " --dir fleet")
    deploy = add(
        "deploy",
        _deploy,
        "give devices a version; each tests it on its own data and keeps the better sub-model",
        " 7 --canary 10%",
    )
    deploy.add_argument("version", metavar="VERSION", type=int)
    deploy.add_argument(
        "--canary",
        type=_share,
        default=1.0,
        metavar="SHARE",
        help="first to this share of the devices, 10%% or 0.1; to all once enough of them kept it",
    )
    back = "send the devices that took the newest deployment back to the version before"
    add("rollback", _rollback, back, " --dir fleet")
    revoke = add("revoke", _revoke, "refuse a device's certificate from now on", " shed-2")
    revoke.add_argument("device", metavar="DEVICE")
    metrics = "write every figure that devices reported, one JSON object a line"
    export = add("export-metrics", _export_metrics, metrics, " --out run.jsonl")
    export.add_argument("--out", type=Path, metavar="FILE", help="instead of stdout")


def _add_token(verbs: Any, table: dict[str, Verb]) -> None:
    table["token"] = _token_new
    example = "example:\n  reefleet coordinator token new --device shed --uses 5 --ttl 24h"
    token = verbs.add_parser("token", help="make enrollment tokens", epilog=example)
    actions = token.add_subparsers(metavar="ACTION", dest="action", required=True)
    new = actions.add_parser(
        "new",
        help="print a new token",
        description=(
            "Print a new enrollment token, a secret while it is good. With one use it lets a "
            "device in as ID;\nwith more it lets new devices in as ID-1, ID-2 and so on."
        ),
        epilog=example,
    )
    _add_line(new)
    new.add_argument("--device", default="device", metavar="ID", help="the device's name from now")
    new.add_argument("--uses", type=int, default=1, metavar="N", help="how many enrollments (1)")
    new.add_argument(
        "--invitation",
        type=Path,
        metavar="FILE",
        help="write the token with address and CA for `reefleet edge run --join FILE`",
    )
    new.add_argument("--ttl", type=duration, default="24h", help="how long it is good for (24h)")


def add_folder(parser: argparse.ArgumentParser, text: str) -> None:
    """Add `--dir`, which names the same folder for every verb."""
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        default=Path(os.environ.get(FOLDER_VARIABLE, DEFAULT_FOLDER)),
        help=f"{text} (${FOLDER_VARIABLE}, else {DEFAULT_FOLDER})",
    )


def _add_line(parser: argparse.ArgumentParser) -> None:
    add_folder(parser, "the coordinator's folder or a copy of its pki")
    parser.add_argument(
        "--server", default="", metavar="HOST:PORT", help="its fleet port, where DIR is a copy"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def _runner(verb: Verb) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from reefleet.rpc.operator import operator_line

        with operator_line(options.dir, options.server) as line:
            verb(line, options)
        return 0

    return run


def _shown(look: views.Look) -> Verb:
    def run(line: OperatorLine, options: argparse.Namespace) -> None:
        views.show(look, line, options)

    return run


def _deploy(line: OperatorLine, options: argparse.Namespace) -> None:
    from reefleet.v1 import operator_pb2 as pb

    request = pb.DeployRequest(version=options.version, share=options.canary)
    _begun(options, line.ask("Deploy", request).deployment)


def _rollback(line: OperatorLine, options: argparse.Namespace) -> None:
    from reefleet.v1 import operator_pb2 as pb

    _begun(options, line.ask("Rollback", pb.RollbackRequest()).deployment)


def _begun(options: argparse.Namespace, begun: Any) -> None:
    from reefleet.cli import fleet_tables as tables

    look = "`reefleet coordinator deployments --watch` shows how it goes"
    lines = [*tables.deployments([begun]), look]
    views.write([_json(tables.plain(begun))] if options.json else lines)


def _pause(line: OperatorLine, options: argparse.Namespace) -> None:
    from reefleet.v1 import operator_pb2 as pb

    line.ask("PauseRounds", pb.PauseRoundsRequest())
    _done(options, "paused: no new work is handed out", paused=True)


def _resume(line: OperatorLine, options: argparse.Namespace) -> None:
    from reefleet.v1 import operator_pb2 as pb

    line.ask("ResumeRounds", pb.ResumeRoundsRequest())
    _done(options, "resumed", paused=False)


def _revoke(line: OperatorLine, options: argparse.Namespace) -> None:
    from reefleet.v1 import operator_pb2 as pb

    line.ask("RevokeDevice", pb.RevokeDeviceRequest(device_id=options.device))
    _done(options, f"revoked {options.device}", revoked=options.device)


def _token_new(line: OperatorLine, options: argparse.Namespace) -> None:
    from reefleet.cli import fleet_tables as tables
    from reefleet.errors import InputError
    from reefleet.invitation import Invitation
    from reefleet.rpc.operator import authority, enrollment_address
    from reefleet.v1 import operator_pb2 as pb

    if options.uses < 1:
        msg = f"--uses is {options.uses}; it must be at least 1"
        raise InputError(msg)
    request = pb.CreateTokenRequest(device_id=options.device, uses=options.uses, ttl_s=options.ttl)
    answer = line.ask("CreateToken", request)
    if options.invitation:
        server = enrollment_address(options.dir, options.server)
        ca = authority(options.dir).decode()
        Invitation(server, ca, answer.token).write(options.invitation)
    views.write([_json(tables.plain(answer)) if options.json else answer.token])


def _export_metrics(line: OperatorLine, options: argparse.Namespace) -> None:
    from reefleet.cli import fleet_tables as tables

    lines = (_json(tables.plain(work)) for work in views.all_work(line))
    if options.out is None:
        for text in lines:
            views.write([text])
        return
    with options.out.open("w", encoding="utf-8") as stream:
        stream.writelines(f"{text}\n" for text in lines)


def _done(options: argparse.Namespace, text: str, **values: object) -> None:
    views.write([_json(values) if options.json else text])


def _json(values: object) -> str:
    return json.dumps(values, allow_nan=False)


def _share(text: str) -> float:
    number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 < number <= 1:
        msg = f"{text!r} is not a share above 0 and up to 100%"
        raise argparse.ArgumentTypeError(msg)
    return number


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."

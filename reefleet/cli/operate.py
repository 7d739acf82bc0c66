"""The verbs of `reefleet coordinator` that speak to the running daemon as its operator."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reefleet.cli.duration import duration

if TYPE_CHECKING:
    from reefleet.rpc.operator import OperatorLine

FOLDER_VARIABLE = "REEFLEET_DIR"
DEFAULT_FOLDER = "/var/lib/reefleet"
WATCH_S = 2.0
UP_AND_CLEAR = "\x1b[{lines}A\x1b[J"

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

    status = add("status", _status, "show how the run goes", " --watch")
    status.add_argument("--watch", action="store_true", help=f"again every {WATCH_S:.0f} s")
    add("devices", _devices, "list all devices", " --json")
    device = add("device", _device, "show one device: plan, profile, work", " shed-2")
    device.add_argument("device", metavar="ID")
    rounds = add("rounds", _rounds, "list the newest rounds", " --last 50")
    rounds.add_argument("--last", type=int, default=20, metavar="N", help="how many (20)")
    one = add("round", _round, "show one round and the work of each device", " 3")
    one.add_argument("round", metavar="N", type=int)
    versions = add("versions", _versions, "list the newest versions of the model", " --last 5")
    versions.add_argument("--last", type=int, default=20, metavar="N", help="how many (20)")
    add("pause", _pause, "hand out no new work; what is under way goes on", " --dir fleet")
    add("resume", _resume, "hand out work again", " --dir fleet")
    revoke = add("revoke", _revoke, "refuse a device's certificate from now on", " shed-2")
    revoke.add_argument("device", metavar="DEVICE")
    metrics = "write every figure that devices reported, one JSON object a line"
    export = add("export-metrics", _export_metrics, metrics, " --out run.jsonl")
    export.add_argument("--out", type=Path, metavar="FILE", help="instead of stdout")
    _add_token(verbs, table)
    return {name: _runner(verb) for name, verb in table.items()}


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


def _status(line: OperatorLine, options: argparse.Namespace) -> None:
    from reefleet.cli import fleet_tables as tables
    from reefleet.v1 import operator_pb2 as pb

    in_place = options.watch and not options.json and sys.stdout.isatty()
    drawn = 0
    while True:
        found = line.ask("GetStatus", pb.GetStatusRequest())
        lines = [_json(tables.plain(found))] if options.json else tables.status(found)
        if drawn and in_place:
            sys.stdout.write(UP_AND_CLEAR.format(lines=drawn))
        _write(lines)
        drawn = len(lines)
        if not options.watch:
            return
        time.sleep(WATCH_S)


def _devices(line: OperatorLine, options: argparse.Namespace) -> None:
    from reefleet.cli import fleet_tables as tables
    from reefleet.v1 import operator_pb2 as pb

    found: list[Any] = []
    while True:
        after = found[-1].device_id if found else ""
        answer = line.ask("ListDevices", pb.ListDevicesRequest(after=after))
        found += answer.devices
        if not answer.more:
            break
    _show(options, found, tables.devices(found, time.time()))


def _device(line: OperatorLine, options: argparse.Namespace) -> None:
    from reefleet.cli import fleet_tables as tables
    from reefleet.v1 import operator_pb2 as pb

    found = line.ask("GetDevice", pb.GetDeviceRequest(device_id=options.device))
    work = list(_work(line, device_id=options.device))
    if options.json:
        values = {**tables.plain(found), "work": [tables.plain(one) for one in work]}
        _write([_json(values)])
    else:
        _write(tables.device(found, work, time.time()))


def _rounds(line: OperatorLine, options: argparse.Namespace) -> None:
    from reefleet.cli import fleet_tables as tables
    from reefleet.v1 import operator_pb2 as pb

    found = line.ask("ListRounds", pb.ListRoundsRequest(last=options.last)).rounds
    _show(options, found, tables.rounds(found))


def _round(line: OperatorLine, options: argparse.Namespace) -> None:
    from reefleet.cli import fleet_tables as tables
    from reefleet.v1 import operator_pb2 as pb

    found = line.ask("GetRound", pb.GetRoundRequest(number=options.round)).round
    work = list(_work(line, number=options.round))
    if options.json:
        values = {**tables.plain(found), "work": [tables.plain(one) for one in work]}
        _write([_json(values)])
    else:
        _write([*tables.rounds([found]), "", *tables.work(work)])


def _versions(line: OperatorLine, options: argparse.Namespace) -> None:
    from reefleet.cli import fleet_tables as tables
    from reefleet.v1 import operator_pb2 as pb

    found = line.ask("ListVersions", pb.ListVersionsRequest(last=options.last)).versions
    _show(options, found, tables.versions(found))


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
    from reefleet.v1 import operator_pb2 as pb

    if options.uses < 1:
        msg = f"--uses is {options.uses}; it must be at least 1"
        raise InputError(msg)
    request = pb.CreateTokenRequest(device_id=options.device, uses=options.uses, ttl_s=options.ttl)
    answer = line.ask("CreateToken", request)
    _write([_json(tables.plain(answer)) if options.json else answer.token])


def _export_metrics(line: OperatorLine, options: argparse.Namespace) -> None:
    from reefleet.cli import fleet_tables as tables

    lines = (_json(tables.plain(work)) for work in _work(line))
    if options.out is None:
        for text in lines:
            _write([text])
        return
    with options.out.open("w", encoding="utf-8") as stream:
        stream.writelines(f"{text}\n" for text in lines)


def _work(line: OperatorLine, number: int = 0, device_id: str = "") -> Iterator[Any]:
    from reefleet.v1 import operator_pb2 as pb

    after = ""
    while True:
        request = pb.ListWorkRequest(round=number, device_id=device_id, after=after)
        answer = line.ask("ListWork", request)
        yield from answer.work
        if not answer.more:
            return
        after = answer.work[-1].lease


def _show(options: argparse.Namespace, found: Sequence[Any], lines: list[str]) -> None:
    from reefleet.cli import fleet_tables as tables

    _write([_json([tables.plain(one) for one in found])] if options.json else lines)


def _done(options: argparse.Namespace, text: str, **values: object) -> None:
    _write([_json(values) if options.json else text])


def _json(values: object) -> str:
    return json.dumps(values, allow_nan=False)


def _write(lines: Sequence[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."

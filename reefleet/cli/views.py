"""What operators look at: each view asks the daemon; values for programs, lines for people."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from reefleet.rpc.operator import OperatorLine

WATCH_S = 2.0
UP_AND_CLEAR = "\x1b[{lines}A\x1b[J"


class View(NamedTuple):
    """One look at the fleet."""

    values: Any
    lines: Sequence[str]


Look = Callable[["OperatorLine", argparse.Namespace], View]


def show(look: Look, line: OperatorLine, options: argparse.Namespace) -> None:
    """Print a view; with `--watch` again every few seconds, in place on a terminal."""
    in_place = sys.stdout.isatty() and not options.json
    drawn = 0
    while True:
        values, lines = look(line, options)
        if options.json:
            lines = [json.dumps(values, allow_nan=False)]
        if drawn and in_place:
            sys.stdout.write(UP_AND_CLEAR.format(lines=drawn))
        elif drawn and not options.json:
            sys.stdout.write("\n")
        write(lines)
        drawn = len(lines)
        if not options.watch:
            return
        time.sleep(WATCH_S)


def status(line: OperatorLine, _options: argparse.Namespace) -> View:
    """The run at a glance."""
    from reefleet.cli import fleet_tables as tables
    from reefleet.v1 import operator_pb2 as pb

    found = line.ask("GetStatus", pb.GetStatusRequest())
    return View(tables.plain(found), tables.status(found))


def devices(line: OperatorLine, _options: argparse.Namespace) -> View:
    """All devices."""
    from reefleet.cli import fleet_tables as tables

    return _several(all_devices(line), lambda found: tables.devices(found, time.time()))


def plan(line: OperatorLine, _options: argparse.Namespace) -> View:
    """What every device holds and does."""
    from reefleet.cli import fleet_tables as tables

    return _several(all_devices(line), tables.plans)


def device(line: OperatorLine, options: argparse.Namespace) -> View:
    """One device with its work."""
    from reefleet.cli import fleet_tables as tables
    from reefleet.v1 import operator_pb2 as pb

    found = line.ask("GetDevice", pb.GetDeviceRequest(device_id=options.device))
    done = list(all_work(line, device_id=options.device))
    values = {**tables.plain(found), "work": [tables.plain(one) for one in done]}
    return View(values, tables.device(found, done, time.time()))


def rounds(line: OperatorLine, options: argparse.Namespace) -> View:
    """The newest rounds."""
    from reefleet.cli import fleet_tables as tables
    from reefleet.v1 import operator_pb2 as pb

    answer = line.ask("ListRounds", pb.ListRoundsRequest(last=options.last))
    return _several(answer.rounds, tables.rounds)


def one_round(line: OperatorLine, options: argparse.Namespace) -> View:
    """One round with its work."""
    from reefleet.cli import fleet_tables as tables
    from reefleet.v1 import operator_pb2 as pb

    found = line.ask("GetRound", pb.GetRoundRequest(number=options.round)).round
    done = list(all_work(line, number=options.round))
    values = {**tables.plain(found), "work": [tables.plain(one) for one in done]}
    return View(values, [*tables.rounds([found]), "", *tables.work(done)])


def versions(line: OperatorLine, options: argparse.Namespace) -> View:
    """The newest versions of the model."""
    from reefleet.cli import fleet_tables as tables
    from reefleet.v1 import operator_pb2 as pb

    answer = line.ask("ListVersions", pb.ListVersionsRequest(last=options.last))
    return _several(answer.versions, tables.versions)


def deployments(line: OperatorLine, options: argparse.Namespace) -> View:
    """The newest deployments."""
    from reefleet.cli import fleet_tables as tables
    from reefleet.v1 import operator_pb2 as pb

    answer = line.ask("ListDeployments", pb.ListDeploymentsRequest(last=options.last))
    return _several(answer.deployments, tables.deployments)


def all_devices(line: OperatorLine) -> list[Any]:
    """Every device, page by page."""
    from reefleet.v1 import operator_pb2 as pb

    found: list[Any] = []
    while True:
        after = found[-1].device_id if found else ""
        answer = line.ask("ListDevices", pb.ListDevicesRequest(after=after))
        found += answer.devices
        if not answer.more:
            return found


def all_work(line: OperatorLine, number: int = 0, device_id: str = "") -> Iterator[Any]:
    """Work of a round (0: of all) and a device ("": of all), page by page."""
    from reefleet.v1 import operator_pb2 as pb

    def begin(after: str) -> Callable[[], Any]:
        request = pb.ListWorkRequest(round=number, device_id=device_id, after=after)
        return line.begin("ListWork", request)

    following: Callable[[], Any] | None = begin("")
    while following:
        answer = following()
        # The next page is made while this one is printed.
        following = begin(answer.work[-1].lease) if answer.more else None
        yield from answer.work


def write(lines: Sequence[str]) -> None:
    """Lines to stdout, at once."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _several(found: Sequence[Any], draw: Callable[[Sequence[Any]], list[str]]) -> View:
    from reefleet.cli import fleet_tables as tables

    return View([tables.plain(one) for one in found], draw(found))

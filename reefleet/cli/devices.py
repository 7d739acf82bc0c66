"""`reefleet devices`: the boards of the catalog, and this machine as the planner sees it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reefleet.cli import emulation
from reefleet.cli.table import table

if TYPE_CHECKING:
    from devices.catalog import Board
    from devices.profile import DeviceProfile
    from devices.systems import System

EPILOG = """\
examples:
  reefleet devices list
  reefleet devices show rpi-4b
  reefleet devices add my-board.toml
  reefleet devices probe --measure
  reefleet devices emulate rpi-zero2w -- python train.py
"""

ADD_EPILOG = """\
example:
  reefleet devices add my-board.toml

The file has the form of the bundled boards; docs/boards.md shows one. It is copied to
$REEFLEET_BOARDS, or to reefleet/boards in your configuration folder.
"""

PROBE_EPILOG = """\
examples:
  reefleet devices probe --json
  reefleet devices probe --measure
  reefleet devices probe --measure --state /var/lib/reefleet --json > profile.json
  reefleet plan --profile profile.json
"""

_NOT_SHOWN = frozenset({"train_samples", "signature"})
_SYSTEM_COLUMNS = (
    *("system", "Python", "glibc", "runtimes", "client runs", "wheels", "source", "note"),
)
_COLUMNS = ("board", "cores", "MHz", "free MiB", "ViT GFLOP/s", "sigma", "Mbit/s", "also called")


def add_parser(subparsers: Any) -> None:
    """Add `devices` with list, show and probe."""
    parser = subparsers.add_parser(
        "devices",
        help="list boards, probe this machine",
        description="What each board can do, with the source of every figure.",
        epilog=EPILOG,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list",
        help="all boards of the catalog",
        description="One line a board; '-' is unknown, '~' is reckoned from other boards.",
        epilog="examples:\n  reefleet devices list --json\n  reefleet devices list --systems\n",
    )
    listing.add_argument("--systems", action="store_true", help="operating systems instead")
    show = actions.add_parser(
        "show",
        help="every figure of one board, and its systems",
        description="Every figure of one board with its source, the operating systems it runs and "
        "what works there; what is unknown is said.",
        epilog="example:\n  reefleet devices show jetson-orin-nano\n",
    )
    show.add_argument("board", metavar="BOARD", help="id or alias, as `devices list` shows them")
    adding = actions.add_parser(
        "add",
        help="add a board of your own",
        description="Check a board file and take it into the catalog of this machine.",
        epilog=ADD_EPILOG,
    )
    adding.add_argument("file", type=Path, metavar="FILE", help="the board (TOML)")
    probing = _add_probe(actions)
    emulation.add_parser(actions)
    for action in (listing, show, probing):
        action.add_argument("--json", action="store_true", help="one JSON value on stdout")


def _add_probe(actions: Any) -> Any:
    probing = actions.add_parser(
        "probe",
        help="this machine's profile",
        description="What this machine would report when it enrolls. With --measure it is timed: "
        "small networks at two depths, in a process of its own that is ended when time is over.",
        epilog=PROBE_EPILOG,
    )
    probing.add_argument("--measure", action="store_true", help="time answers and training too")
    probing.add_argument("--seconds", type=float, default=60.0, help="for --measure (default: 60)")
    probing.add_argument("--threads", type=int, default=1, help="for --measure (default: 1)")
    probing.add_argument("--state", type=Path, help="sign with the identity of this folder")
    return probing


def run(options: argparse.Namespace) -> int:
    """Print what was asked for."""
    if options.action == "list" and options.systems:
        _systems(as_json=options.json)
    elif options.action == "list":
        _list(as_json=options.json)
    elif options.action == "emulate":
        return emulation.run(options)
    elif options.action == "add":
        _add(options.file)
    elif options.action == "show":
        _show(options.board, as_json=options.json)
    else:
        _probe(options)
    return 0


def _list(*, as_json: bool) -> None:
    from devices import catalog

    found = list(catalog.boards().values())
    if as_json:
        _write(json.dumps([_values(board) for board in found], indent=2))
        return
    rows = [_row(board, catalog.available_mib(board)) for board in found]
    _write("\n".join(table([_COLUMNS, *rows])))


def _row(board: Board, available_mib: int) -> tuple[str, ...]:
    prior = board.figures.get("vit_gflops")
    sigma = f"{prior.rel_sigma:.0%}" if prior and prior.rel_sigma is not None else "-"
    known = board.variant().available_mib is not None
    free = f"{available_mib}" if known else f"~{available_mib}"
    network = board.value("ethernet_mbps") or board.value("wifi_mbps")
    cores, clock = board.value("cores"), board.value("clock_mhz")
    rate = None if prior is None else prior.value
    known_as = " ".join(board.aliases)
    figures = (_plain(cores), _plain(clock), free, _plain(rate), sigma, _plain(network))
    return (board.id, *figures, known_as)


def _systems(*, as_json: bool) -> None:
    from dataclasses import asdict

    from devices.systems import systems

    if as_json:
        _write(json.dumps([asdict(system) for system in systems()], indent=2))
    else:
        _write("\n".join(table([_SYSTEM_COLUMNS, *map(_system_row, systems())])))


def _system_row(system: System) -> tuple[str, ...]:
    wheels = ", ".join(f"{name} {version}" for name, version in system.wheels.items())
    known = (system.python or "unknown", system.glibc or "unknown")
    works = " ".join(system.runtimes) or "none"
    return (system.id, *known, works, system.obstacle or "yes", wheels, system.source, system.note)


def _add(file: Path) -> None:
    from devices import catalog

    board = catalog.add(file)
    _write(f"added {board.id} to {catalog.user_folder()}")


def _show(name: str, *, as_json: bool) -> None:
    from devices import catalog
    from devices.systems import systems_of

    board = catalog.find(name)
    if as_json:
        systems = [_values(system) for system in systems_of(board)]
        _write(json.dumps({**_values(board), "systems": systems}, indent=2))
        return
    lines = [f"{board.name} ({', '.join((board.id, *board.aliases))})"]
    lines.append(f"{board.soc}, {board.cpu}; {' '.join(board.isa) or 'features unknown'}")
    if board.note:
        lines.append(board.note)
    memory = [("memory MiB", "visible", "free idle", "source")]
    for size in board.memory:
        visible, free = _plain(size.visible_mib), _plain(size.available_mib)
        memory.append((str(size.nominal_mib), visible, free, size.source))
    figures = [("figure", "value", "unit", "source", "note")]
    for figure, fact in board.figures.items():
        value = _plain(fact.value)
        if fact.rel_sigma is not None:
            value += f" +-{fact.rel_sigma:.0%}"
        figures.append((figure, value, catalog.FIGURES[figure], fact.source, fact.note))
    lines += ["", *table(memory), "", *table(figures), ""]
    lines.append(f"unknown: {', '.join(board.unknown) or 'nothing'}")
    found = systems_of(board)
    if found:
        lines += ["", *table([_SYSTEM_COLUMNS, *map(_system_row, found)])]
    else:
        lines += ["", "systems: unknown"]
    explained = catalog.sources()
    lines += ["", *(f"{key}: {explained[key]}" for key in _keys(board, found) if key in explained)]
    _write("\n".join(lines))


def _probe(options: argparse.Namespace) -> None:
    values = _profile(options).to_json()
    if options.json:
        _write(json.dumps(values, indent=2))
        return
    flat = {**values, **values.pop("conditions")}
    timings = flat.pop("timings")
    shown = [(name, _shown(flat[name])) for name in flat if name not in _NOT_SHOWN]
    lines = table(shown)
    if timings:
        rows = [("work", "network", "depth", "batch", "ms", "spread", "peak MiB")]
        for each in timings:
            place = (each["work"], each["probe"], str(each["depth"]), str(each["batch"]))
            spread = f"{each['rel_sigma']:.0%}"
            rows.append((*place, f"{each['ms']:.3g}", spread, _plain(each["peak_mib"])))
        lines += ["", *table(rows)]
    _write("\n".join(lines))


def _profile(options: argparse.Namespace) -> DeviceProfile:
    from dataclasses import replace

    from devices.probe import probe

    profile = probe(storage=options.state or Path(), measure_disk=options.measure)
    if options.measure:
        from edge_client.benchmark import run_benchmark

        free = profile.memory_available_mib
        timings = run_benchmark(options.threads, options.seconds, free)
        profile = replace(profile, threads=options.threads, timings=timings)
    if options.state:
        from devices.signed import sign
        from edge_client import enrollment

        profile = sign(profile, enrollment.load(options.state).identity.key)
    return profile


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items()) or "none"
    if isinstance(value, list):
        return " ".join(value) or "none known"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "unknown" if value in {None, ""} else str(value)


def _values(row: Board | System) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(row)


def _keys(board: Board, systems: Sequence[System]) -> list[str]:
    used = [size.source for size in board.memory]
    used += [fact.source for fact in board.figures.values()]
    used += [system.source for system in systems]
    return sorted({part.partition(":")[0] for text in used for part in text.split(", ")})


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")

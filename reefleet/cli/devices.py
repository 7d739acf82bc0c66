"""`reefleet devices`: the boards of the catalog, and this machine as the planner sees it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from devices.catalog import Board

EPILOG = """\
examples:
  reefleet devices list
  reefleet devices show rpi-4b
  reefleet devices probe --json
"""

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
        epilog="example:\n  reefleet devices list --json\n",
    )
    show = actions.add_parser(
        "show",
        help="every figure of one board",
        description="Every figure of one board with its source; what is unknown is said.",
        epilog="example:\n  reefleet devices show jetson-orin-nano\n",
    )
    show.add_argument("board", metavar="BOARD", help="id or alias, as `devices list` shows them")
    probing = actions.add_parser(
        "probe",
        help="this machine's profile",
        description="What this machine would report when it enrolls.",
        epilog="example:\n  reefleet devices probe --json\n",
    )
    for action in (listing, show, probing):
        action.add_argument("--json", action="store_true", help="one JSON value on stdout")


def run(options: argparse.Namespace) -> int:
    """Print what was asked for."""
    if options.action == "list":
        _list(as_json=options.json)
    elif options.action == "show":
        _show(options.board, as_json=options.json)
    else:
        _probe(as_json=options.json)
    return 0


def _list(*, as_json: bool) -> None:
    from devices import catalog

    found = list(catalog.boards().values())
    if as_json:
        _write(json.dumps([_values(board) for board in found], indent=2))
        return
    rows = [_row(board, catalog.available_mib(board)) for board in found]
    _write("\n".join(_table([_COLUMNS, *rows])))


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


def _show(name: str, *, as_json: bool) -> None:
    from devices import catalog

    board = catalog.find(name)
    if as_json:
        _write(json.dumps(_values(board), indent=2))
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
    lines += ["", *_table(memory), "", *_table(figures), ""]
    lines.append(f"unknown: {', '.join(board.unknown) or 'nothing'}")
    lines += [f"{key}: {catalog.sources()[key]}" for key in _keys(board)]
    _write("\n".join(lines))


def _probe(*, as_json: bool) -> None:
    from devices.probe import probe

    values = probe().to_json()
    if as_json:
        _write(json.dumps(values, indent=2))
        return
    shown = [(name, _shown(value)) for name, value in values.items() if name != "train_samples"]
    _write("\n".join(_table(shown)))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items()) or "none"
    if isinstance(value, list):
        return " ".join(value) or "none known"
    return "unknown" if value in {None, ""} else str(value)


def _values(board: Board) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(board)


def _keys(board: Board) -> list[str]:
    used = [size.source for size in board.memory]
    used += [fact.source for fact in board.figures.values()]
    return sorted({part.partition(":")[0] for text in used for part in text.split(", ")})


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")

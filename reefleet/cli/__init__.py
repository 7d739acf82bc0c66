"""The `reefleet` command: one module a subcommand, imported only when it is the one chosen.

stdout is for results, stderr for logs. An error of ours ends as one line and its exit code.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

from reefleet import logs
from reefleet.errors import ReefleetError, RuntimeUnavailable

_OURS = frozenset({"reefleet", "devices", "coordinator", "edge_client", "export"})

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_IO = 74
EXIT_INTERRUPTED = 75  # a shell would say 130; nothing here is above 125

Subparsers = argparse._SubParsersAction  # noqa: SLF001  # argparse gives it no public name


class Subcommand(Protocol):
    """What a module of this package gives."""

    def add_parser(self, subparsers: Subparsers[Any]) -> None:
        """Add the parser of this subcommand, with an example in its epilog."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it and give the exit code; heavy imports happen here."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One subcommand: its module, a line for the overview, the extra that brings its wheels."""

    module: str
    summary: str
    extra: str


COMMANDS = {
    "coordinator": Entry("reefleet.cli.coordinator", "run the fleet", "coordinator"),
    "edge": Entry("reefleet.cli.edge", "be a device: enroll, run, infer", "edge"),
    "export": Entry("reefleet.cli.export", "compile task bundles into graphs", "export"),
    "model": Entry("reefleet.cli.model", "pretrain a model on public data", "export"),
    "devices": Entry("reefleet.cli.devices", "list boards, probe this machine", "edge"),
    "plan": Entry("reefleet.cli.plan", "show which sub-model a board would get, and why", "all"),
    "simulate": Entry("reefleet.cli.simulate", "compare methods on many simulated clients", "all"),
    "demo": Entry("reefleet.cli.demo", "a whole fleet on this machine, in minutes", "all"),
}

EPILOG = """\
examples:
  reefleet demo                          a coordinator and five boards on loopback
  reefleet edge infer out/rpi-4b 7.png   answer one image from a sub-model
  reefleet COMMAND --help                options of one command

exit codes: 0 done, 1 failure, 2 usage; docs/exit-codes.md lists the others.
"""


class CommandParser(argparse.ArgumentParser):
    """The parser of every (sub)command: same help layout, same `--log-level`."""

    def __init__(self, **options: Any) -> None:
        """Take argparse's options; help text keeps its line breaks, no option may be shortened."""
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)
        self.add_argument(
            "--log-level",
            choices=logs.LEVELS,
            default=argparse.SUPPRESS,
            help="what to log on stderr (default: info)",
        )


class _Version(argparse.Action):
    """Print the version; reads package metadata only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("reefleet")
        except PackageNotFoundError:
            found = "(not installed)"
        parser.exit(message=f"reefleet {found}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and give its exit code; the only place that ends a process."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = argparse.Namespace(log_level="info")
    try:
        code = _run(arguments, options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of stdout left; nothing more can be said there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except BaseException as error:  # noqa: BLE001  # the outermost boundary
        if options.log_level == "debug":
            traceback.print_exc()
        sentence, code = _sentence(error)
        sys.stderr.write(f"reefleet: {sentence}\n")
    return code


def _run(arguments: list[str], options: argparse.Namespace) -> int:
    chosen = next((argument for argument in arguments if argument in COMMANDS), "")
    with _missing_wheels_named(chosen):
        command = _load(chosen) if chosen else None
        try:
            _parser(chosen, command).parse_args(arguments, options)
        except SystemExit as stop:  # help, version or usage
            return stop.code if isinstance(stop.code, int) else 0
        logs.configure(options.log_level)
        return command.run(options) if command else EXIT_USAGE


def _load(name: str) -> Subcommand:
    return cast("Subcommand", importlib.import_module(COMMANDS[name].module))


def _parser(chosen: str, command: Subcommand | None) -> CommandParser:
    parser = CommandParser(
        prog="reefleet",
        description="Put one model on a fleet of unequal boards and let it learn there.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, entry in COMMANDS.items():
        if name == chosen and command:
            command.add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=entry.summary, add_help=False)
    return parser


@contextmanager
def _missing_wheels_named(command: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _OURS:
            raise
        msg = (
            f"'reefleet {command}' needs the package {package!r}, which is not installed; "
            f"run: pip install 'reefleet[{COMMANDS[command].extra}]'"
        )
        raise RuntimeUnavailable(msg) from error


def _of_system(error: OSError) -> str:
    """What the system said, without its number."""
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}"


def _sentence(error: BaseException) -> tuple[str, int]:
    if isinstance(error, ReefleetError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", EXIT_INTERRUPTED
    if isinstance(error, OSError):
        return _of_system(error), EXIT_IO
    found = f"{type(error).__name__}: {error}"
    return f"internal error: {found} (--log-level debug shows where)", EXIT_FAILURE

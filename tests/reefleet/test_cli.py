from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reefleet import cli, errors

ROOT = Path(__file__).parents[2]
Answer = Callable[[argparse.Namespace], int]


@pytest.fixture(autouse=True)
def _root_logger_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """Put a subcommand `probe-me` with the given behavior into the table."""

    def install(run: Answer) -> None:
        module = types.ModuleType("reefleet_test_command")

        def add_parser(subparsers: cli.Subparsers[argparse.ArgumentParser]) -> None:
            parser = subparsers.add_parser("probe-me", epilog="example:\n  reefleet probe-me")
            nested = parser.add_subparsers(dest="action")
            nested.add_parser("inner")

        monkeypatch.setattr(module, "add_parser", add_parser, raising=False)
        monkeypatch.setattr(module, "run", run, raising=False)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        entry = cli.Entry(module.__name__, "test", "edge")
        monkeypatch.setitem(cli.COMMANDS, "probe-me", entry)

    return install


def raising(error: BaseException) -> Answer:
    def run(_: argparse.Namespace) -> int:
        raise error

    return run


def fresh(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_lists_every_command_with_its_summary() -> None:
    shown = fresh("-m", "reefleet", "--help")
    assert shown.returncode == 0
    for name, entry in cli.COMMANDS.items():
        assert name in shown.stdout
        assert entry.summary in shown.stdout


def test_help_imports_no_room_and_no_heavy_wheel() -> None:
    probe = (
        "import sys; from reefleet.cli import main; main(['--help']); "
        "heavy = {'numpy', 'torch', 'grpc', 'google', 'onnxruntime', 'sqlalchemy', 'coordinator',"
        " 'edge_client', 'export', 'devices'} & set(sys.modules); sys.exit(', '.join(heavy) or 0)"
    )
    shown = fresh("-c", probe)
    assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([name, "--help"]) == 0
    assert f"reefleet {name}" in capsys.readouterr().out.partition("example")[2]


def test_usage_errors_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["no-such-command"]) == cli.EXIT_USAGE
    assert cli.main([]) == cli.EXIT_USAGE
    assert "usage: reefleet" in capsys.readouterr().err


def test_the_result_of_the_command_is_the_exit_code(command: Callable[[Answer], None]) -> None:
    command(lambda _: 7)
    assert cli.main(["probe-me"]) == 7


def test_an_error_of_ours_is_one_line_and_its_code(
    command: Callable[[Answer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(errors.NoFeasiblePlan("no depth fits 64 MiB")))
    assert cli.main(["probe-me"]) == errors.NoFeasiblePlan.exit_code
    assert capsys.readouterr().err == "reefleet: no depth fits 64 MiB\n"


def test_what_the_system_refuses_is_named_without_a_number(
    command: Callable[[Answer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(NotADirectoryError(20, "Not a directory", "fleet/pki")))
    assert cli.main(["probe-me"]) == 74
    assert capsys.readouterr().err == "reefleet: fleet/pki: Not a directory\n"


def test_a_defect_is_one_line_unless_debugging(
    command: Callable[[Answer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(ValueError("broken")))
    assert cli.main(["probe-me"]) == cli.EXIT_FAILURE
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["probe-me", "--log-level", "debug"]) == cli.EXIT_FAILURE
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_below_the_codes_of_a_shell(command: Callable[[Answer], None]) -> None:
    command(raising(KeyboardInterrupt()))
    assert cli.main(["probe-me"]) == cli.EXIT_INTERRUPTED


def test_a_missing_wheel_names_the_extra_that_brings_it(
    command: Callable[[Answer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(ModuleNotFoundError("No module named 'wheel_x'", name="wheel_x.part")))
    assert cli.main(["probe-me"]) == errors.RuntimeUnavailable.exit_code
    said = capsys.readouterr().err
    assert "'wheel_x'" in said
    assert "pip install 'reefleet[edge]'" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["--log-level", "error", "probe-me"],
        ["probe-me", "--log-level", "error"],
        ["probe-me", "inner", "--log-level", "error"],
    ],
)
def test_the_log_level_may_stand_at_any_level(
    command: Callable[[Answer], None], arguments: list[str]
) -> None:
    command(lambda options: 0 if options.log_level == "error" else 1)
    assert cli.main(arguments) == 0


def test_a_reader_that_leaves_early_brings_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "reefleet", "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert process.stderr == ""


def test_every_exit_code_is_one_that_a_shell_can_tell() -> None:
    branches = [errors.ReefleetError]
    for branch in branches:
        branches += branch.__subclasses__()
    codes = {branch.exit_code for branch in branches}
    assert all(code == 1 or 64 <= code <= 78 for code in codes)


def test_the_documented_exit_codes_are_those_of_the_errors() -> None:
    text = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    documented = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")}
    for branch in errors.ReefleetError.__subclasses__():
        assert str(branch.exit_code) in documented, branch.__name__

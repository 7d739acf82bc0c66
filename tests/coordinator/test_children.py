"""Separate processes: their output, their failures, their end."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from coordinator.children import Children
from reefleet.errors import ExportError
from tests.integration.running import until


def python(code: str) -> Any:
    return [sys.executable, "-c", code]


def test_stdout_comes_back_and_stderr_goes_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "x.log"
    said = Children().run(python("import sys; print('out'); sys.stderr.write('err')"), log, 60)
    assert (said, log.read_text()) == ("out\n", "err")


def test_a_failure_carries_the_last_line_of_stderr_of_this_start(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("an old line\n")
    with pytest.raises(ExportError, match="the reason"):
        Children().run(python("import sys; sys.exit('first\\nthe reason\\n')"), log, 60)
    with pytest.raises(ExportError, match="exit status 3"):
        Children().run(python("import sys; sys.exit(3)"), log, 60)


def test_a_process_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="longer than"):
        Children().run(["sleep", "1000"], tmp_path / "x.log", 0.1)


def test_close_ends_what_runs_and_starts_nothing_more(tmp_path: Path) -> None:
    children = Children()
    failures = []

    def run() -> Any:
        try:
            children.run(["sleep", "1000"], tmp_path / "x.log", 1000)
        except ExportError as error:
            failures.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    children.close()
    thread.join(60)
    assert len(failures) == 1
    with pytest.raises(ExportError, match="stopping"):
        children.run(["true"], tmp_path / "x.log", 10)


CHILDREN = """
import sys, threading
from pathlib import Path
from coordinator.children import Children
work = lambda: Children().run(["sleep", "1000"], Path(sys.argv[1]), 1000)
threading.Thread(target=work).start()
"""


def test_a_killed_coordinator_leaves_no_process_behind(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", CHILDREN, str(tmp_path / "x.log")], cwd=Path(__file__).parents[2]
    )
    try:
        until(lambda: [name for _, name in below(parent.pid)] == ["sleep"], "the child")
        ((child, _),) = below(parent.pid)
    finally:
        parent.kill()
        parent.wait()
    until(lambda: name_of(child) != "sleep", "the child's end")


def below(pid: int) -> list[tuple[int, str]]:
    """Processes that a process has started: id and name."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [
        (int(child), name_of(int(child))) for file in lists for child in file.read_text().split()
    ]


def name_of(pid: int) -> str:
    """What a process runs; '' where it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return ""
    return "" if "\nState:\tZ" in status else status.split()[1]

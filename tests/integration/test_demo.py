"""The demo as a user runs it: real processes, one short run, and two that are cut off."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("sklearn")

from reefleet.demo.scenario import BOARDS

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.torch]

ROOT = Path(__file__).parents[2]
DEADLINE_S = 400.0
MEMORY_OF_THE_SMALLEST_MIB = 180


def reefleet(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # A test run in the background ignores SIGINT and would pass that on.
        ["/usr/bin/env", "--default-signal=INT", sys.executable, "-m", "reefleet", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_below(folder: Path, *words: str) -> list[int]:
    """Ids of running processes whose command line names `folder` and each of `words`."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if any(str(folder) in word for word in line) and set(words) <= set(line):
            found.append(int(entry.name))
    return found


def client_of(out: Path, device: str) -> int:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := processes_below(out / ".run" / "devices" / device, "edge", "run"):
            return found[0]
        time.sleep(0.1)
    pytest.fail(f"{device} never ran")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    out = tmp_path / "out"
    process = reefleet("demo", "--out", str(out))
    yield process, out
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_a_short_run_leaves_table_picture_and_bundles_that_answer(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = reefleet("demo", "--out", str(out), "--rounds", "1")
    stdout, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, stderr
    rows = [line.split() for line in stdout.splitlines()[3:8]]
    assert [row[0] for row in rows] == list(BOARDS)
    assert len({row[1] for row in rows}) > 1  # boards of different size hold different depths
    assert rows[0][-1] == "MiB"
    assert float(rows[0][-2]) < MEMORY_OF_THE_SMALLEST_MIB
    assert "round 1/1" in stderr
    with Image.open(out / "accuracy.png") as picture:
        assert picture.format == "PNG"
    assert {path.name for path in out.iterdir()} == {*BOARDS, "digits", "accuracy.png"}
    for device in BOARDS:
        asked = reefleet("edge", "infer", str(out / device), str(out / "digits/7.png"), "--json")
        answer = json.loads(asked.communicate(timeout=DEADLINE_S)[0])
        assert asked.returncode == 0
        assert answer["label"] in set("0123456789")


def test_a_client_that_dies_ends_the_demo_with_its_name(
    running: tuple[subprocess.Popen[str], Path],
) -> None:
    process, out = running
    os.kill(client_of(out, "rpi-4b"), signal.SIGKILL)
    _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "reefleet: rpi-4b was ended by signal 9" in stderr
    assert "Traceback" not in stderr
    assert processes_below(out) == []


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_takes_its_children_along(
    running: tuple[subprocess.Popen[str], Path], ending: signal.Signals
) -> None:
    process, out = running
    client_of(out, "jetson-orin-nano")
    process.send_signal(ending)
    _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 75
    assert "reefleet: interrupted" in stderr
    assert "Traceback" not in stderr
    assert processes_below(out) == []

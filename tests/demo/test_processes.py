import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from reefleet.demo.processes import Child, ChildFailed, Family, family, first_event

pytestmark = pytest.mark.integration

DEADLINE_S = 20.0


@pytest.fixture(autouse=True)
def _children_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children run `python -c CODE` in the place of `python -m reefleet`."""
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -c "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


@pytest.fixture
def members(tmp_path: Path) -> Family:
    return Family(tmp_path, {"REEFLEET_TEST": "set"})


def ended(child: Child) -> None:
    child.process.wait(DEADLINE_S)


def test_a_child_that_fails_is_reported_with_its_last_words(members: Family) -> None:
    child = members.start("edge rpi-4b", ["import sys; sys.exit('no route')"])
    ended(child)
    with pytest.raises(ChildFailed, match=r"edge rpi-4b ended with exit code 1:\n  no route"):
        members.check()


def test_a_child_ended_by_a_signal_is_a_failure_too(members: Family) -> None:
    child = members.start("edge", ["import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
    ended(child)
    with pytest.raises(ChildFailed, match="edge was ended by signal 9"):
        members.check()


def test_a_child_that_ends_well_is_no_failure(members: Family) -> None:
    ended(members.start("edge", ["pass"]))
    members.check()


def test_run_gives_what_the_command_printed(members: Family) -> None:
    assert members.run("token", ["import os; print(os.environ['REEFLEET_TEST'])"]) == "set\n"


def test_run_gives_up_after_its_time(members: Family) -> None:
    with pytest.raises(ChildFailed, match="did not end within"):
        members.run("init", ["import time; time.sleep(60)"], timeout_s=0.2)
    members.end()


def test_leaving_the_family_ends_every_child_even_a_stubborn_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reefleet.demo.processes.GRACE_S", 0.2)
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        'print(\'{\\"event\\": \\"deaf\\"}\', flush=True); time.sleep(60)'
    )
    with suppress(KeyboardInterrupt), family(tmp_path / "logs", {}) as opened:
        children = [opened.start("calm", ["import time; time.sleep(60)"])]
        children.append(opened.start("stubborn", [stubborn]))
        first_event(opened, children[1], "deaf", DEADLINE_S)
        raise KeyboardInterrupt
    assert all(child.process.returncode is not None for child in children)
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child.process.pid, 0)


def test_the_first_event_is_waited_for_and_given(members: Family) -> None:
    told = 'print(\'starting\'); print(\'{\\"event\\": \\"listening\\", \\"fleet_port\\": 7}\')'
    child = members.start("coordinator", [told])
    ended(child)
    assert first_event(members, child, "listening", DEADLINE_S)["fleet_port"] == 7


def test_a_child_that_ends_before_its_event_is_a_failure(members: Family) -> None:
    child = members.start("coordinator", ["pass"])
    begin = time.monotonic()
    with pytest.raises(ChildFailed, match="ended with exit code 0"):
        first_event(members, child, "listening", DEADLINE_S)
    assert time.monotonic() - begin < DEADLINE_S

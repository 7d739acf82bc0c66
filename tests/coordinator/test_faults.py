"""Points at which a test may have the coordinator killed do nothing unless they are asked to."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from coordinator import faults


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What a kill would have been."""
    made: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _pid, number: made.append(number))
    return made


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "fault"
    monkeypatch.setattr(faults, "_ASKED", str(path))
    return path


def test_nothing_happens_where_no_variable_is_set(
    killed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_ASKED", None)
    faults.point("round.close.before-commit")
    assert killed == []


def test_nothing_happens_at_another_point_or_without_the_file(
    killed: list[int], asked: Path
) -> None:
    faults.point("here")
    asked.write_text("there 1")
    faults.point("here")
    assert (killed, asked.read_text()) == ([], "there 1")


def test_it_dies_once_at_the_count_that_was_asked_for(killed: list[int], asked: Path) -> None:
    asked.write_text("here 3")
    for _ in range(5):
        faults.point("here")
    assert killed == [signal.SIGKILL]
    assert not asked.exists()


def test_one_death_follows_another(killed: list[int], asked: Path) -> None:
    asked.write_text("here 2\nthere 1")
    for name in ("there", "here", "here", "here", "there", "there"):
        faults.point(name)
    assert killed == [signal.SIGKILL] * 2
    assert not asked.exists()

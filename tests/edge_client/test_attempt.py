"""What a client that died was at is found again by its next life."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices.tree import Tree
from edge_client.attempt import CRASH, FILE, MEMORY, MOST_DEATHS, Attempts


@pytest.fixture
def system(tmp_path: Path) -> Path:
    root = tmp_path / "system"
    (root / "proc/sys/kernel/random").mkdir(parents=True)
    set_kills(root, 3)
    set_boot(root, "one")
    return root


def set_kills(root: Path, count: int) -> None:
    (root / "proc/vmstat").write_text(f"nr_free_pages 7\noom_kill {count}\n", encoding="ascii")


def set_boot(root: Path, name: str) -> None:
    (root / "proc/sys/kernel/random/boot_id").write_text(name, encoding="ascii")


def dies_for_memory(root: Path, attempts: Attempts, kills: int) -> None:
    attempts.begin("lease")
    set_kills(root, kills)


def test_killed_for_memory_twice_at_the_same_work_is_told(tmp_path: Path, system: Path) -> None:
    attempts = Attempts(tmp_path, Tree(system))
    dies_for_memory(system, attempts, 4)
    assert attempts.verdict() is None
    dies_for_memory(system, attempts, 5)
    assert Attempts(tmp_path, Tree(system)).verdict() == ("lease", MEMORY)


def test_work_that_ended_leaves_no_verdict(tmp_path: Path, system: Path) -> None:
    attempts = Attempts(tmp_path, Tree(system))
    for kills in (4, 5, 6):
        dies_for_memory(system, attempts, kills)
        attempts.end()
    assert attempts.verdict() is None
    assert not (tmp_path / FILE).exists()


def test_kills_before_a_reboot_and_at_other_work_are_no_evidence(
    tmp_path: Path, system: Path
) -> None:
    attempts = Attempts(tmp_path, Tree(system))
    dies_for_memory(system, attempts, 4)
    attempts.begin("another")
    set_kills(system, 5)
    assert attempts.verdict() is None
    set_boot(system, "two")
    attempts.begin("another")
    set_kills(system, 6)
    assert attempts.verdict() is None


def test_dying_again_and_again_is_told_in_the_end(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, Tree(tmp_path / "nothing to read"))
    for _ in range(MOST_DEATHS - 1):
        attempts.begin("lease")
        assert attempts.verdict() is None
    attempts.begin("lease")
    assert attempts.verdict() == ("lease", CRASH)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"lease": 3, "more": 1}'])
def test_a_damaged_note_is_no_note(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    attempts = Attempts(tmp_path)
    assert attempts.verdict() is None
    attempts.begin("lease")
    assert attempts.verdict() is None

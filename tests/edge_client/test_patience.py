from __future__ import annotations

import pytest

from edge_client.patience import LOOK_EVERY_S, until_the_clock_is_set


class Clocks:
    """Both clocks, moved by waiting; the date jumps after some time."""

    def __init__(self, jump_s: float = 0.0, after_s: float = 0.0) -> None:
        self.passed = 0.0
        self._jump = jump_s, after_s

    def wait(self, seconds: float) -> None:
        assert 0 < seconds <= LOOK_EVERY_S
        self.passed += seconds

    def wall(self) -> float:
        jump_s, after_s = self._jump
        return 1e9 + self.passed + (jump_s if self.passed >= after_s else 0.0)

    def pause(self, seconds: float) -> float:
        until_the_clock_is_set(self.wait, self.wall, lambda: self.passed)(seconds)
        return self.passed


def test_a_pause_lasts_as_long_as_it_was_asked_for() -> None:
    assert Clocks().pause(62.0) == pytest.approx(62.0)


@pytest.mark.parametrize("jump_s", [1e9, -86400.0])
def test_a_pause_ends_soon_after_the_clock_was_set(jump_s: float) -> None:
    assert Clocks(jump_s, after_s=7.0).pause(600.0) <= 7.0 + LOOK_EVERY_S


def test_a_clock_that_is_corrected_a_little_ends_no_pause() -> None:
    assert Clocks(jump_s=2.0, after_s=7.0).pause(60.0) == pytest.approx(60.0)

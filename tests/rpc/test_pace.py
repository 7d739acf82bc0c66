"""How much the messages of a transfer carry."""

from __future__ import annotations

from itertools import accumulate, chain

from reefleet.rpc.limits import CHUNK_BYTES
from reefleet.rpc.pace import FIRST_BYTES, LEAST_BYTES, QUICK_S, SLOW_S, Pace


def sizes(*took_s: float) -> list[int]:
    times = accumulate(chain((0.0,), took_s))
    pace = Pace(lambda: next(times))
    return [pace.next_bytes() for _ in range(len(took_s) + 1)]


def test_a_quick_line_soon_carries_the_most_a_message_may() -> None:
    found = sizes(*[QUICK_S / 2] * 6)
    assert found[0] == FIRST_BYTES
    assert found[-1] == CHUNK_BYTES == max(found)


def test_a_slow_line_loses_little_when_it_is_cut() -> None:
    assert sizes(*[2 * SLOW_S] * 6)[-1] == LEAST_BYTES


def test_a_line_between_keeps_its_size() -> None:
    assert set(sizes(*[(QUICK_S + SLOW_S) / 2] * 6)) == {FIRST_BYTES}

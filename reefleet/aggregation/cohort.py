"""Who takes part in a round: everybody, or a cohort in which every block has its holders.

Block l is trained by devices of exit depth l or more, so a uniform draw from a fleet of mostly
small boards leaves deep blocks without anybody. The cohort first takes, for each block from the
deepest, as many holders as it lacks; the rest of its places are drawn uniformly.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

Member = TypeVar("Member")

# One holder may drop out, and a mean of one is no mean.
LEAST_HOLDERS = 2


def stratified(
    members: Sequence[Member],
    depth_of: Callable[[Member], int],
    size: int,
    seed: int,
    least_holders: int = LEAST_HOLDERS,
) -> list[Member]:
    """Choose `size` of the members (0: all) with `least_holders` of each block if there are.

    The same arguments choose the same members; those of each depth stand together, deepest first.
    """
    if not 0 < size < len(members):
        return list(members)
    places = list(range(len(members)))
    random.Random(seed).shuffle(places)  # noqa: S311  # a fair draw, not a secret
    depths = [depth_of(member) for member in members]
    chosen: list[int] = []
    for depth in sorted(set(depths), reverse=True):
        # Whoever holds this block and is drawn next: deeper members have had their turn.
        held = sum(depths[place] >= depth for place in chosen)
        lacking = min(least_holders, size) - held
        chosen += [place for place in places if depths[place] == depth][: max(0, lacking)]
    rest = [place for place in places if place not in set(chosen)]
    chosen += rest[: size - len(chosen)]
    return [members[place] for place in chosen]

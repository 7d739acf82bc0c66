"""Who takes part in a round: everybody, or a cohort in which every block has its holders."""

from __future__ import annotations

import random
from collections.abc import Sequence

from coordinator.records import Device


def cohort(ready: Sequence[Device], size: int, seed: int) -> list[Device]:
    """Choose `size` of the ready devices (0: all), one of each depth in turn, the deepest first.

    The same arguments choose the same devices. Result by device id.
    """
    if not 0 < size < len(ready):
        return sorted(ready, key=lambda device: device.device_id)
    rng = random.Random(seed)  # noqa: S311  # a fair draw, not a secret
    strata: dict[int, list[Device]] = {}
    for device in sorted(ready, key=lambda device: device.device_id):
        strata.setdefault(device.plan.exit_depth if device.plan else 0, []).append(device)
    for stratum in strata.values():
        rng.shuffle(stratum)
    chosen: list[Device] = []
    while len(chosen) < size:
        for depth in sorted(strata, reverse=True):
            if strata[depth] and len(chosen) < size:
                chosen.append(strata[depth].pop())
    return sorted(chosen, key=lambda device: device.device_id)

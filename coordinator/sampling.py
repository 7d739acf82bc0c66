"""Who takes part in a round: everybody, or a cohort in which every block has its holders.

Block l is trained by devices of exit depth l or more, so a uniform draw from a fleet of mostly
small boards leaves deep blocks without anybody. The cohort first takes, for each block from the
deepest, as many holders as it lacks; the rest of its places are drawn uniformly.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from coordinator.records import Device

# One holder may drop out, and a mean of one is no mean.
LEAST_HOLDERS = 2


def cohort(
    ready: Sequence[Device], size: int, seed: int, least_holders: int = LEAST_HOLDERS
) -> list[Device]:
    """Choose `size` of the ready devices (0: all) with `least_holders` of each block if there are.

    The same arguments choose the same devices. Result by device id.
    """
    everyone = sorted(ready, key=lambda device: device.device_id)
    if not 0 < size < len(everyone):
        return everyone
    shuffled = list(everyone)
    random.Random(seed).shuffle(shuffled)  # noqa: S311  # a fair draw, not a secret
    chosen: list[Device] = []
    for depth in sorted({exit_depth(device) for device in shuffled}, reverse=True):
        # Whoever holds this block and is drawn next: deeper devices have had their turn.
        lacking = min(least_holders, size) - holders(chosen, depth)
        able = [device for device in shuffled if exit_depth(device) == depth][: max(0, lacking)]
        chosen += able
    taken = {device.device_id for device in chosen}
    rest = [device for device in shuffled if device.device_id not in taken]
    chosen += rest[: size - len(chosen)]
    return sorted(chosen, key=lambda device: device.device_id)


def holders(devices: Sequence[Device], block: int) -> int:
    """How many of the devices hold block `block` (from 1)."""
    return sum(exit_depth(device) >= block for device in devices)


def unheld(devices: Sequence[Device], depth: int, least_holders: int = 1) -> list[int]:
    """Blocks 1 to `depth` that fewer than `least_holders` of the devices hold."""
    return [b for b in range(1, depth + 1) if holders(devices, b) < least_holders]


def exit_depth(device: Device) -> int:
    """Blocks of the device's sub-model, 0 where it has no plan."""
    return device.plan.exit_depth if device.plan else 0

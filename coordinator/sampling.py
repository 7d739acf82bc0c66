"""Which devices take part in a round, by the rule of `reefleet.aggregation.cohort`."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.records import Device
from reefleet.aggregation.cohort import LEAST_HOLDERS, stratified


def cohort(
    ready: Sequence[Device], size: int, seed: int, least_holders: int = LEAST_HOLDERS
) -> list[Device]:
    """Choose `size` of the ready devices (0: all) with `least_holders` of each block if there are.

    The same arguments choose the same devices. Result by device id.
    """
    everyone = sorted(ready, key=lambda device: device.device_id)
    chosen = stratified(everyone, exit_depth, size, seed, least_holders)
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

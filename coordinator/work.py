"""A piece of work for one device: its plan, its signed bundle, and its cut of a version."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

from coordinator import records as r
from coordinator.clock import Clock
from coordinator.store import Store
from coordinator.versions import Versions
from reefleet.errors import StoreError

AT_ONCE = 200  # pieces in one transaction, which others wait for


def batches(devices: Sequence[r.Device]) -> Iterator[Sequence[r.Device]]:
    """The devices, as many at a time as are given work together."""
    for first in range(0, len(devices), AT_ONCE):
        yield devices[first : first + AT_ONCE]


def work_for(
    device: r.Device, kind: str, number: int, version: int, versions: Versions, clock: Clock
) -> r.Assignment:
    """New work of `kind` in round or deployment `number`, under a new lease.

    Raises StoreError for a device without plan or bundle, or a version that is not kept.
    """
    store: Store = versions.store
    bundle = store.bundle(device.bundle_key)
    if bundle is None or device.plan is None:
        msg = f"device {device.device_id} was called ready without a plan and a bundle"
        raise StoreError(msg)
    return r.Assignment(
        lease=uuid.uuid4().hex,
        kind=kind,
        round=number,
        device_id=device.device_id,
        plan=device.plan,
        base_version=version,
        manifest=bundle.manifest,
        signature=bundle.signature,
        weights=versions.cut(version, device.plan.exit_depth).artifact,
        opened_at=clock.wall(),
    )

"""Work that a device gives up: it ends at once, and the next review lowers the device's plan."""

from __future__ import annotations

import logging

from coordinator import records as r
from coordinator.clock import Clock
from coordinator.store import Store
from reefleet.errors import Rejected

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = "the device ran out of memory"
DIED = "the client died at it several times"


def give_up(store: Store, device_id: str, lease: str, reason: str, clock: Clock) -> None:
    """End the work of a lease for a reason; again changes nothing. Raises Rejected."""
    work = store.assignment(lease)
    if work is None or work.device_id != device_id or work.kind == r.DEPLOY:
        msg = f"lease {lease[:64]!r} is no work of this device that it may give up"
        raise Rejected(msg)
    if work.state != r.OPEN:
        return
    store.refuse(r.Refusal(work.round, device_id, "", reason, clock.wall()), lease)
    logger.warning("Work given up", extra={"round": work.round, "reason": reason})

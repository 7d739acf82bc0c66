"""The last word of a device: figures of its personal sub-model, whose weights stay with it."""

from __future__ import annotations

import logging

from coordinator import records as r
from coordinator.clock import Clock
from coordinator.faults import point
from coordinator.store import Store
from reefleet.errors import Rejected
from reefleet.report import DeviceMetrics, EarlyExitReport

logger = logging.getLogger(__name__)


def take_report(
    store: Store,
    clock: Clock,
    device_id: str,
    lease: str,
    metrics: DeviceMetrics,
    early_exit: EarlyExitReport,
) -> None:
    """Make a report durable; again changes nothing. Raises Rejected for work of somebody else."""
    work = store.assignment(lease)
    if work is None or work.device_id != device_id or work.kind != r.PERSONALIZE:
        msg = f"lease {lease[:64]!r} is not personal work of this device"
        raise Rejected(msg)
    if work.state == r.COMMITTED:
        return
    report = r.PersonalReport(
        round=work.round,
        device_id=device_id,
        metrics=metrics.to_json(),
        early_exit=early_exit.to_json(),
        at=clock.wall(),
    )
    point("personal-report.before-commit")
    store.add_report(lease, report)
    point("personal-report.committed")
    logger.info("Personal report accepted")

"""The coordinator's state: one class over one SQLite file, the only place with SQL."""

from __future__ import annotations

from coordinator.store.admission import AdmissionState
from coordinator.store.fleet import FleetState
from coordinator.store.overview import OverviewState
from coordinator.store.retention import RetentionState
from coordinator.store.run import RunState


class Store(AdmissionState, FleetState, RunState, OverviewState, RetentionState):
    """State in the file at `path`, made where it does not exist; safe to use from many threads.

    Every method is one transaction, durable when it returns. Raises StoreFull or StoreError.
    """


__all__ = ["Store"]

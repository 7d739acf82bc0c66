"""The coordinator's state: one class over one database, the only place with SQL."""

from __future__ import annotations

from coordinator.store.admission import AdmissionState
from coordinator.store.demand import DemandState
from coordinator.store.deployments import DeploymentState
from coordinator.store.fleet import FleetState
from coordinator.store.overview import OverviewState
from coordinator.store.pages import PageState
from coordinator.store.retention import RetentionState
from coordinator.store.run import RunState
from coordinator.store.updates import UpdateState


class Store(
    AdmissionState,
    FleetState,
    RunState,
    DemandState,
    UpdateState,
    DeploymentState,
    OverviewState,
    PageState,
    RetentionState,
):
    """State in a file or at an address, made where there is none; safe to use from many threads.

    Every method is one transaction, durable when it returns. Raises StoreFull or StoreError.
    """


__all__ = ["Store"]

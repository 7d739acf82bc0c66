"""A deployment on the device: fit, test against what is in place, keep the better one.

Going back is a deployment of the version before: its sub-model still lies here, so it comes back at
once. A client killed in between finds what it did by the lease in the sub-model's own manifest.
"""

from __future__ import annotations

import logging
from pathlib import Path

from edge_client import submodel
from edge_client.client import Client
from edge_client.inference import EarlyExitModel
from edge_client.measurement import measure
from edge_client.personalize import candidate, fitted, measured_part
from edge_client.task import INSTALLED, KEPT, RESTORED, Task
from reefleet.errors import ReefleetError, Rejected
from reefleet.report import EarlyExitReport

logger = logging.getLogger(__name__)


def deploy(client: Client, task: Task) -> None:
    """Do a deploy task and report it; started again, it ends the same. Raises as `federate`."""
    outcome, found, before = _done(client, task)
    facts = {
        "version": task.base_version,
        "outcome": outcome,
        "accuracy": round(found.accuracy, 4),
        "accuracy_before": round(before.accuracy, 4) if before else None,
    }
    try:
        client.coordinator.report_deployment(
            task.lease, outcome, found, before.accuracy if before else None
        )
    except Rejected as error:  # a rollback came meanwhile; it is the next task
        logger.warning("deployment no longer wanted", extra={**facts, "reason": str(error)})
        return
    logger.info("deployment reported", extra=facts)


def _done(client: Client, task: Task) -> tuple[str, EarlyExitReport, EarlyExitReport | None]:
    here, aside = client.submodel, submodel.before(client.submodel)
    in_place, kept = submodel.origin_of(here), submodel.origin_of(aside)
    if in_place and in_place.lease == task.lease:
        return INSTALLED, _measured(client, here), _tried(client, aside)
    if in_place and in_place.base_version == task.base_version:
        return RESTORED, _measured(client, here), _tried(client, aside)
    if kept and kept.base_version == task.base_version and (back := _tried(client, aside)):
        before = _tried(client, here)
        submodel.bring_back(here)
        return RESTORED, back, before
    found = _built(client, task)
    before = _tried(client, here)
    if before is not None and _is_worse(client, found, before):
        submodel.discard(here)
        return KEPT, found, before
    submodel.publish(here)
    return INSTALLED, found, before


def _built(client: Client, task: Task) -> EarlyExitReport:
    bundle = client.prepare(task)
    state, _ = fitted(client, task, bundle, bundle.weights(task.weights))
    bundle.release()
    found = candidate(client, task, bundle, state)
    client.tidy(bundle)
    return found


def _is_worse(client: Client, found: EarlyExitReport, before: EarlyExitReport) -> bool:
    samples = len(measured_part(client))
    lost = (before.accuracy - found.accuracy) * samples
    return lost > max(1.0, client.config.self_test.tolerance * samples) + 1e-6


def _measured(client: Client, folder: Path) -> EarlyExitReport:
    model = EarlyExitModel.open(folder, client.config.threads)
    return measure(model, measured_part(client), client.check)


def _tried(client: Client, folder: Path) -> EarlyExitReport | None:
    """Figures of the sub-model in a folder; None where there is none that works."""
    if not folder.exists():
        return None
    try:
        return _measured(client, folder)
    except ReefleetError as error:
        logger.warning("sub-model cannot be used", extra={"reason": str(error)})
        return None

"""After the last round: fit the personal model, build what the device answers from, measure it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_client import personal, snapping, submodel
from edge_client.bundle import Bundle
from edge_client.client import Client
from edge_client.evaluation import accuracy
from edge_client.measurement import measure
from edge_client.memory import peak_resident_bytes
from edge_client.task import PERSONALIZE, Task
from edge_client.training import Lesson, Trained, seed_of, train
from reefleet.datasets.pack import Part
from reefleet.report import DeviceMetrics, EarlyExitReport

logger = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[np.float32]]


def personalize(client: Client, task: Task) -> None:
    """Do a personalize task and report it; the stored personal state is neither read nor changed.

    So the same lease gives the same sub-model, however often it is started. Raises as `federate`.
    """
    received = client.coordinator.bytes_down
    bundle = client.prepare(task)
    weights = bundle.weights(task.weights)
    shared_accuracy = _accuracy(client, bundle, weights)
    bundle.release()
    state, trained = fitted(client, task, bundle, weights)
    bundle.release()
    personal_accuracy = _accuracy(client, bundle, snapping.quantized(state))
    bundle.release()
    early_exit = candidate(client, task, bundle, state)
    submodel.publish(client.submodel)
    metrics = DeviceMetrics(
        loss=trained.loss,
        shared_accuracy=shared_accuracy,
        personal_accuracy=personal_accuracy,
        held_out_samples=len(client.data.test),
        bytes_down=client.coordinator.bytes_down - received,
        peak_resident_bytes=peak_resident_bytes() or 0,
        train_seconds=trained.seconds,
    )
    client.coordinator.report_personal(task.lease, metrics, early_exit)
    client.tidy(bundle)
    logger.info("personal model reported", extra={"accuracy": round(early_exit.accuracy, 4)})


def fitted(
    client: Client, task: Task, bundle: Bundle, weights: Arrays
) -> tuple[dict[str, NDArray[np.float32]], Trained]:
    """The personal state of the task, snapped to its grid, fitted from the shared weights.

    Not from the personal model of the rounds: it has seen this device's data alone.
    """
    program = bundle.program(PERSONALIZE, client.config.threads, client.max_state_bytes)
    program.load(personal.first_state(program.program, weights, {}, bundle.initial()))
    seed = seed_of(client.device_id, task)
    lesson = Lesson(client.data.train, bundle.manifest.preprocessing, task.plan.bits, seed)
    trained = train(program, lesson, client.check)
    snapping.snap(program.state)
    return program.state, trained


def candidate(client: Client, task: Task, bundle: Bundle, state: Arrays) -> EarlyExitReport:
    """Build the sub-model beside the one in place and measure it; `publish` swaps it in."""
    origin = submodel.Origin(client.device_id, task.base_version, task.lease)
    building = submodel.build(client.submodel, bundle, state, origin)
    calibration = client.config.calibration
    model = submodel.calibrate(
        building, client.data.validation, calibration, client.config.threads, client.check
    )
    return measure(model, measured_part(client), client.check)


def measured_part(client: Client) -> Part:
    """The test samples that answers are measured on."""
    part, count = client.data.test, client.config.calibration.measured_images
    return Part(part.images[:count], part.labels[:count])


def _accuracy(client: Client, bundle: Bundle, weights: Arrays) -> tuple[float, ...]:
    part = client.data.test
    predictor = bundle.predictor(client.config.threads)
    logits = predictor.logits(weights, part, bundle.manifest.preprocessing)
    return accuracy(logits, part.labels)

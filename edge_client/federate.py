"""One round on the device: evaluate what arrived, fine-tune it, leave the update in the outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_client import personal, snapping, tensorfile
from edge_client.bundle import Bundle
from edge_client.client import Client
from edge_client.evaluation import accuracy
from edge_client.memory import peak_resident_bytes
from edge_client.outbox import RESIDUAL_FILE, STATE_FILE, Entry
from edge_client.program import ResidentProgram
from edge_client.task import FEDERATE, Task
from edge_client.training import Lesson, Span, Trained, seed_of, train
from reefleet.report import DeviceMetrics
from reefleet.wire.codecs import encode_parts

logger = logging.getLogger(__name__)

SHARED = "shared/"
# Shares of the time that are kept for packing and pushing: at least, and at most.
LEAST_RESERVE, MOST_RESERVE = 0.15, 0.5
UPWARD = 2.0  # a link's way up is slower than its way down

Arrays = Mapping[str, NDArray[np.float32]]


def federate(client: Client, task: Task) -> Entry:
    """Do a federated task; the finished work is on disk when this returns.

    Where the deadline comes near, training ends early and what is done counts for as much less.

    Raises WireError where what arrived cannot be used, NonFiniteUpdate where training diverged,
    Stopped where the client is to end; in each case nothing is kept.
    """
    begun = time.monotonic()
    received = client.coordinator.bytes_down
    bundle = client.prepare(task)
    fetched_s = time.monotonic() - begun
    weights = bundle.weights(task.weights)
    shared_accuracy = _accuracy(client, bundle, weights)
    left_s = training_s(task.deadline_s, fetched_s, time.monotonic() - begun)
    program, trained = _fine_tuned(client, task, bundle, weights, left_s)
    own_accuracy: tuple[float, ...] = ()
    if own := snapping.quantized(program.state):
        own_accuracy = _accuracy(client, bundle, own)
    metrics = DeviceMetrics(
        loss=trained.loss,
        shared_accuracy=shared_accuracy,
        personal_accuracy=own_accuracy,
        held_out_samples=len(client.data.validation),
        bytes_down=client.coordinator.bytes_down - received,
        peak_resident_bytes=peak_resident_bytes() or 0,
        train_seconds=trained.seconds,
        steps=trained.steps,
        steps_asked=trained.asked,
    )
    entry = _packed(client, task, program, weights, metrics)
    client.personal.adopt(entry.state_file)
    client.tidy(bundle)
    facts = {
        "loss": round(trained.loss, 4),
        "steps": trained.steps,
        "bytes": entry.update.size_bytes,
    }
    logger.info("round trained", extra=facts)
    return entry


def training_s(deadline_s: float, fetched_s: float, passed_s: float) -> float:
    """How long training may take: what is left of the deadline, but for packing and pushing.

    An update is no larger than what was fetched, so the time that took tells how long it needs.
    """
    wanted = max(LEAST_RESERVE * deadline_s, UPWARD * fetched_s)
    return deadline_s - min(wanted, MOST_RESERVE * deadline_s) - passed_s


def _fine_tuned(
    client: Client, task: Task, bundle: Bundle, weights: Arrays, left_s: float
) -> tuple[ResidentProgram, Trained]:
    program = bundle.program(FEDERATE, client.config.threads, client.max_state_bytes)
    stored = client.personal.state(bundle.digest)
    program.load(personal.first_state(program.program, weights, stored, bundle.initial()))
    span = Span((task.round - 1) / task.rounds_total, min(1.0, task.round / task.rounds_total))
    pre = bundle.manifest.preprocessing
    seed, steps = seed_of(client.device_id, task), task.plan.local_steps
    lesson = Lesson(client.data.train, pre, task.plan.bits, seed, span, steps, left_s)
    return program, train(program, lesson, client.check)


def _packed(
    client: Client, task: Task, program: ResidentProgram, weights: Arrays, metrics: DeviceMetrics
) -> Entry:
    delta = {
        name: program.state[SHARED + name] - value
        for name, value in weights.items()
        if SHARED + name in program.state
    }
    shapes = {name: value.shape for name, value in delta.items()}
    update, residual = encode_parts(delta, task.plan.codec, client.personal.residual(shapes))
    folder = client.outbox.begin(task.lease)
    personal.write_state(folder / STATE_FILE, program.program, program.state, task.manifest.sha256)
    tensorfile.write(folder / RESIDUAL_FILE, residual)
    samples = max(1, len(client.data.train) * metrics.steps // max(1, metrics.steps_asked))
    return client.outbox.commit(
        task.lease, update, metrics, round_number=task.round, samples=samples
    )


def _accuracy(client: Client, bundle: Bundle, weights: Arrays) -> tuple[float, ...]:
    part = client.data.validation
    predictor = bundle.predictor(client.config.threads)
    logits = predictor.logits(weights, part, bundle.manifest.preprocessing)
    return accuracy(logits, part.labels)

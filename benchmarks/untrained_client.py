"""A client that does everything of a round but train: what a coordinator's cost is measured with.

    python -m benchmarks.untrained_client STATE [CODEC]

It fetches the weights and pushes a share of them, raw float32 by default, until the run asks for
something else. Weights look like noise, where a constant would be compressed to nothing.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.networks import DEIT_TI
from devices import catalog
from edge_client.config import Deadlines
from edge_client.enrollment import load
from edge_client.session import Patience, Session
from edge_client.task import FEDERATE, Artifact, Task, Wait
from edge_client.transfer import download, in_memory, upload
from reefleet.blobs import BlobStore, sha256_hex
from reefleet.model import tensor_shapes
from reefleet.report import DeviceMetrics
from reefleet.retry import Retry
from reefleet.v1 import fleet_pb2
from reefleet.wire import convert
from reefleet.wire.codecs import encode_parts
from reefleet.wire.packed import PackedFile

SAMPLES = 100
MOST_BYTES = 1 << 28
STEP = 1e-3


def main() -> None:
    """Work until the run is over."""
    state, codec = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "float32"
    enrolled = load(state)
    patience = Patience(Retry(base_s=0.1, ceiling_s=2.0), time.sleep, rng=random.Random(0))  # noqa: S311
    session = Session(enrolled.address, enrolled.identity, Deadlines(), patience)
    profile = catalog.reference_profile(enrolled.board, train_samples=SAMPLES)
    request = fleet_pb2.ReportProfileRequest(
        profile=convert.profile_to_pb(profile), codecs=codec.split(",")
    )
    session._call(session._fleet.ReportProfile, request)  # noqa: SLF001  # says one codec only
    blobs = BlobStore(state / "blobs")
    share = np.float32(STEP * (1 + sum(enrolled.device_id.encode()) % 7))
    moved = {n: np.empty(s, np.float32) for n, s in tensor_shapes(DEIT_TI).items()}
    while True:
        found = session.next_task()
        if isinstance(found, Wait):
            time.sleep(found.seconds)
        elif isinstance(found, Task) and found.kind == FEDERATE:
            push(session, blobs, found, codec, share, moved)
        else:
            return


def push(
    session: Session,
    blobs: BlobStore,
    task: Task,
    codec: str,
    share: np.float32,
    moved: dict[str, NDArray[np.float32]],
) -> None:
    """One round; what moved stands in `moved`, as a client that trains holds its state."""
    received = session.bytes_down
    download(session, blobs, task.weights, MOST_BYTES)
    shapes = tensor_shapes(DEIT_TI, task.plan.exit_depth)
    weights = PackedFile(blobs.checked(task.weights.sha256), "the weights", shapes)
    held = {n: np.multiply(value, share, out=moved[n]) for n, value in weights.passing()}
    parts, _ = encode_parts(held, codec, {})
    update = Artifact(sha256_hex(*parts), sum(map(len, parts)))
    upload(session, task.lease, update, in_memory(*parts))
    metrics = DeviceMetrics(
        loss=1.0, bytes_down=session.bytes_down - received, bytes_up=session.bytes_up
    )
    session.commit_update(task.lease, update, SAMPLES, metrics)
    blobs.delete(task.weights.sha256)


if __name__ == "__main__":
    main()

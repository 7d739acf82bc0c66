"""Measuring a form of a sub-model in a process of its own; as a module it is that process.

The process imports a runtime and numpy, as a board would, so that load time and memory are the
runtime's. A job comes as one line of JSON on stdin, the figures go as one to stdout.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from export.runtimes import Array, Chain, Named, open_chain
from reefleet.errors import ExportError

WARM_UP = 5
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Job:
    """Files of one graph or chain, its runtime, threads, and the batch to feed it.

    `weights` names the bundle whose packed weights fill the stages.
    """

    runtime: str
    files: tuple[str, ...]
    threads: int
    image_shape: tuple[int, ...]
    runs: int
    weights: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a job measured; memory is what loading and running added to the process."""

    p50_ms: float
    p95_ms: float
    load_ms: float
    loaded_mib: float
    running_mib: float


def measure(job: Job) -> Figures:
    """Run a job in a fresh process; raises ExportError where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "export.measurement"],
        input=json.dumps(asdict(job)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        msg = f"measuring {job.files[0]} failed: {done.stderr.strip().splitlines()[-1:]}"
        raise ExportError(msg)
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


def _measured(job: Job) -> Figures:
    graphs = [Path(name).read_bytes() for name in job.files]
    filled = _weights(job)
    image = np.random.default_rng(0).normal(size=job.image_shape).astype(np.float32)
    _first_use(job.runtime)
    before, begun = _resident_mib(), time.perf_counter()
    chain = open_chain(job.runtime, graphs, job.threads, filled)
    load_ms, loaded = (time.perf_counter() - begun) * 1e3, _resident_mib()
    times = [_timed(chain, image) for _ in range(WARM_UP + job.runs)][WARM_UP:]
    p50, p95 = np.percentile(times, (50, 95))
    return Figures(
        round(float(p50), 3),
        round(float(p95), 3),
        round(load_ms, 1),
        round(loaded - before, 1),
        round(_resident_mib() - before, 1),
    )


def _timed(chain: Chain, image: Array) -> float:
    begun = time.perf_counter()
    for _ in chain.exits(image):
        pass
    return (time.perf_counter() - begun) * 1e3


def _weights(job: Job) -> list[Named]:
    if not job.weights:
        return [{} for _ in job.files]
    from reefleet.model import parameter_count
    from reefleet.wire.initializers import Initializers
    from reefleet.wire.manifest_json import submodel_from_bytes
    from reefleet.wire.tensors import unpack_tensors

    folder = Path(job.weights)
    manifest = submodel_from_bytes((folder / "manifest.json").read_bytes())
    packed = (folder / manifest.weights).read_bytes()
    forms = Initializers(unpack_tensors(packed, 4 * parameter_count(manifest.model)))
    return [forms.of(stage.initializers) for stage in manifest.stages[: len(job.files)]]


def _first_use(runtime: str) -> None:
    """Import the runtime, whose own size is no form's."""
    from export import runtimes

    runtimes.load(runtime)


def _resident_mib() -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / _KIB
    return 0.0


if __name__ == "__main__":
    given = json.loads(sys.stdin.readline())
    shape, names = tuple(given.pop("image_shape")), tuple(given.pop("files"))
    result = _measured(Job(**given, image_shape=shape, files=names))
    sys.stdout.write(json.dumps(asdict(result)) + "\n")

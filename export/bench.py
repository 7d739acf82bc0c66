"""Latency, load time, memory and size of a bundle's forms, each measured in a process of its own.

The yardstick is the full model as a float32 ONNX graph, built here with random weights: latency
does not depend on their values.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.check import SAMPLES, read_bundle
from export.lowering import lower
from export.measurement import Figures, Job, measure
from export.parity import run_stages
from export.runtimes import ONNX
from export.stages import model_part
from export.weights import Embedded
from reefleet.datasets.pack import load_parts, normalized
from reefleet.learning.thresholds import confidence, exits_taken
from reefleet.model import ModelSpec, forward_macs, parameter_count
from reefleet.wire.checkpoint import initial
from reefleet.wire.manifest import SubmodelBundle
from reefleet.wire.tensors import Float32Tensor, unpack_tensors

THREADS = (1, 2)
DEFAULT_RUNS = 50
FULL = "full model, float32"


@dataclass(frozen=True, slots=True)
class Row:
    """A form at a number of threads; `ratio` is its median over the full model's float32 one."""

    name: str
    threads: int
    macs: int
    size_bytes: int
    figures: Figures
    ratio: float


@dataclass(frozen=True, slots=True)
class EarlyExit:
    """The chain with thresholds on the samples inside, from medians of each exit at one thread."""

    samples: int
    accuracy: float
    full_depth_accuracy: float
    mean_ms: float
    full_depth_ms: float


@dataclass(frozen=True, slots=True)
class Bench:
    """All rows of a run, and early exit where the bundle holds samples."""

    rows: tuple[Row, ...]
    early_exit: EarlyExit | None


def bench_bundle(folder: Path, runs: int, tell: Callable[[Row], None]) -> Bench:
    """Measure the full model, every variant, and the chain to each exit; raises ReefleetError."""
    manifest, files = read_bundle(folder)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        full = Path(scratch) / "full.onnx"
        full.write_bytes(full_model(manifest.model))
        for name, macs, size, job in _jobs(folder, manifest, full, runs):
            figures = measure(job)
            base = next((r for r in rows if r.name == FULL and r.threads == job.threads), None)
            batch = job.image_shape[0]
            ratio = 1.0 if base is None else figures.p50_ms / batch / base.figures.p50_ms
            rows.append(Row(name, job.threads, macs, size, figures, round(ratio, 3)))
            tell(rows[-1])
    return Bench(tuple(rows), _early_exit(folder, manifest, files, rows))


def full_model(spec: ModelSpec) -> bytes:
    """The full model as one float32 ONNX graph with random weights."""
    weights = {name: Float32Tensor(value) for name, value in initial(spec, 0).items()}
    graph = lower(model_part(spec, spec.depth).trace, "full", Embedded(weights))
    data: bytes = graph.SerializeToString(deterministic=True)
    return data


def _jobs(
    folder: Path, manifest: SubmodelBundle, full: Path, runs: int
) -> Iterator[tuple[str, int, int, Job]]:
    spec = manifest.model
    image = (1, *spec.image_shape)
    packed = manifest.files[manifest.weights].size_bytes
    macs = forward_macs(spec, manifest.plan.exit_depth)
    for threads in THREADS:
        job = Job(ONNX, (str(full),), threads, image, runs)
        yield FULL, forward_macs(spec, spec.depth), full.stat().st_size, job
        for variant in manifest.variants:
            paths = tuple(str(folder / name) for name in variant.files)
            size = sum(manifest.files[name].size_bytes for name in variant.files)
            batch = (variant.batch, *image[1:])
            job = Job(variant.runtime, paths, threads, batch, runs)
            yield variant.name, macs, size, job
        for count, stage in enumerate(manifest.stages, 1):
            names = [kept.file for kept in manifest.stages[:count]]
            size = packed + sum(manifest.files[name].size_bytes for name in names)
            paths = tuple(str(folder / name) for name in names)
            job = Job(ONNX, paths, threads, image, runs, weights=str(folder))
            yield _chain(stage.exit_depth), stage.macs, size, job


def _chain(depth: int) -> str:
    return f"stages to exit {depth}"


def _early_exit(
    folder: Path, manifest: SubmodelBundle, files: dict[str, bytes], rows: list[Row]
) -> EarlyExit | None:
    if not manifest.samples:
        return None
    (part,) = load_parts(folder / manifest.samples, (SAMPLES,))
    tensors = unpack_tensors(files[manifest.weights], 4 * parameter_count(manifest.model))
    images = normalized(part.images, manifest.preprocessing)
    logits = run_stages(manifest.stages, files, tensors, images)
    taken = exits_taken(confidence(logits), manifest.thresholds)
    hits = logits.argmax(-1) == part.labels[:, None]
    times = np.array(
        [
            next(r.figures.p50_ms for r in rows if r.name == _chain(depth) and r.threads == 1)
            for depth in (stage.exit_depth for stage in manifest.stages)
        ]
    )
    return EarlyExit(
        samples=len(part),
        accuracy=float(hits[np.arange(len(hits)), taken].mean()),
        full_depth_accuracy=float(hits[:, -1].mean()),
        mean_ms=round(float(times[taken].mean()), 3),
        full_depth_ms=float(times[-1]),
    )

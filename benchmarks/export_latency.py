"""Latency, memory and size of every form of a sub-model against the float32 graph, in one run.

DeiT-Ti size at 65 and 197 tokens, depth 12, exits after 3, 6, 9 and 12 blocks, random weights of 4
bits: latency does not depend on values. All forms take turns in one process, so that other load on
the machine hits them alike; a turn is several images in a row, as a device answers them, for the
first still finds the weights of others in the cache. One thread is timed in CPU time, which on an
idle core is wall time; two threads in wall time. The least time of an opening counts, for what else
runs only adds to it; of several openings the median, for where memory happens to lie is worth some
percent either way, but of wall times the least, which others can hold up for a whole opening.
Memory is what loading and running added to a process of its own. A convolutional model of the same
depth is measured too, for which no floor is set. Run it with `python benchmarks/export_latency.py`;
it ends with 1 where a figure misses its floor.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from export.build import Recipe, build_submodel
from export.measurement import Job, measure
from export.quantize import quantize
from export.runtimes import Array, Chain, open_chain, run_chain
from export.source import Source
from export.stages import model_part
from export.targets import Form, target_for
from export.variants import SubModel, build_variant
from reefleet.datasets.pack import Part
from reefleet.model import VIT, ConvGeometry, ModelContract, ModelSpec, Preprocessing
from reefleet.plan import SubmodelPlan
from reefleet.wire.checkpoint import initial
from reefleet.wire.manifest import Variant
from reefleet.wire.tensors import CodebookTensor, Float32Tensor, pack_tensors

Times = dict[tuple[str, int], float]
Built = Mapping[str, tuple[Variant, dict[str, bytes]]]

DEIT_TINY = ModelSpec(
    image_size=224,
    patch_size=16,
    channels=3,
    width=192,
    heads=3,
    depth=12,
    classes=100,
    exits=(3, 6, 9, 12),
)
CONV = ConvGeometry(32, (32, 32, 48, 48, 48, 64, 64, 64, 96, 96, 96, 96), (1, 1, 2) * 4)
SIZES = {
    "DeiT-Ti, 65 tokens": replace(DEIT_TINY, image_size=32, patch_size=4),
    "DeiT-Ti, 197 tokens": DEIT_TINY,
    "convolutional, 96 x 96": replace(
        DEIT_TINY, image_size=96, patch_size=4, heads=1, width=96, conv=CONV
    ),
}
BITS = 4
OPENINGS = 5
TURNS = 4
IN_A_ROW = 5
WARM_UP = 1  # turns
PACKED_BITS = (1, 2, 3, 4, 5, 6, 7, 8)
SAMPLES = 32  # that each build is checked on
FORMS = (
    Form("onnx", "float32", staged=False),
    Form("onnx", "float32", staged=True),
    Form("onnx", "int8", staged=False),
    Form("onnx", "int8", staged=True),
    Form("onnx", "packed", staged=False),
    Form("tflite", "float32", staged=False),
    Form("tflite", "float32", staged=True),
    Form("tflite", "int8", staged=False),
    Form("tflite", "int8", staged=True),
)


@dataclass(frozen=True)
class Floor:
    """A promise: a figure and the most it may be."""

    name: str
    found: float
    bound: float


def measured(opened: Callable[[], Mapping[tuple[str, int], Callable[[], object]]]) -> Times:
    """Milliseconds of each call, from the least of each opening."""
    least: dict[tuple[str, int], list[float]] = {}
    for _ in range(OPENINGS):
        calls = opened()
        times: dict[tuple[str, int], list[float]] = {key: [] for key in calls}
        for _turn in range(WARM_UP + TURNS):
            for key, call in calls.items():
                times[key] += [timed(call, key[1]) for _ in range(IN_A_ROW)]
        for key, found in times.items():
            least.setdefault(key, []).append(min(found[WARM_UP * IN_A_ROW :]))
    return {key: (statistics.median if key[1] == 1 else min)(least[key]) for key in least}


def timed(call: Callable[[], object], threads: int) -> float:
    """Milliseconds of one call."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    begun = clock()
    call()
    return (clock() - begun) * 1e3


def bench(spec: ModelSpec) -> Iterator[Floor]:
    """Print the tables of one size and yield its floors."""
    weights = quantize(initial(spec, 0), spec, spec.depth, BITS)
    model = SubModel(spec, spec.depth, weights)
    built = {form.name: build_variant(model, form) for form in FORMS}
    shape = (1, *spec.image_shape)
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    times = measured(partial(opened, built, image))
    sizes = {name: sum(map(len, files.values())) for name, (_, files) in built.items()}
    print_times(times, sizes, built, shape)
    if spec.kind == VIT:
        yield from floors(times, sizes)
        yield from packed_sizes(spec)
        yield from export_time(spec)


def opened(built: Built, image: Array) -> dict[tuple[str, int], Callable[[], object]]:
    """Each form and the first stage of each chain, at one thread and at two."""
    calls: dict[tuple[str, int], Callable[[], object]] = {}
    for name, (variant, files) in built.items():
        for threads in (1, 2):
            chain = open_chain(variant.runtime, [files[f] for f in variant.files], threads)
            calls[name, threads] = partial(run_chain, chain, image)
            if variant.staged:
                calls[f"{name}, first", threads] = partial(first_exit, chain, image)
    return calls


def first_exit(chain: Chain, image: Array) -> Array:
    """Logits of the first stage alone."""
    return next(chain.exits(image))


def print_times(
    times: Times,
    sizes: Mapping[str, int],
    built: Built,
    shape: tuple[int, ...],
) -> None:
    """One line a form."""
    heads = f"{'1 thread, ms':>13}{'2 threads, ms':>14}{'bytes':>12}{'loaded MiB':>11}"
    print(f"{'form':<34}{heads}{'running MiB':>12}")
    for name in dict.fromkeys(name for name, _ in times):
        line = f"{name:<34}{times[name, 1]:>13.2f}{times[name, 2]:>14.2f}"
        if name in sizes:
            loaded, running = memory(*built[name], shape)
            line += f"{sizes[name]:>12,}{loaded:>11.1f}{running:>12.1f}"
        print(line)
    print()


def memory(
    variant: Variant, files: Mapping[str, bytes], shape: tuple[int, ...]
) -> tuple[float, float]:
    """MiB that loading and running a variant adds to a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        paths = tuple(str(Path(folder) / name) for name in variant.files)
        figures = measure(Job(variant.runtime, paths, 1, shape, 3))
    return figures.loaded_mib, figures.running_mib


def floors(times: Times, sizes: Mapping[str, int]) -> Iterator[Floor]:
    """What is promised of latency and size."""
    yield Floor("onnx int8 / float", times["onnx-int8", 1] / times["onnx-float32", 1], 0.55)
    yield Floor("litert int8 / float", times["tflite-int8", 1] / times["tflite-float32", 1], 0.50)
    for name in ("onnx", "tflite"):
        found = sizes[f"{name}-int8"] / sizes[f"{name}-float32"]
        yield Floor(f"{name} int8 file / float file", found, 0.28)
    for form in ("onnx-float32", "onnx-int8", "tflite-float32", "tflite-int8"):
        chain = f"{form}-stages"
        yield Floor(f"{form}: chain / graph", times[chain, 1] / times[form, 1], 1.05)
        yield Floor(f"{form}: first / graph", times[f"{chain}, first", 1] / times[form, 1], 0.30)
        yield Floor(f"{form}: chain / graph, 2 threads", times[chain, 2] / times[form, 2], 1.10)


def packed_sizes(spec: ModelSpec) -> Iterator[Floor]:
    """The packed files of each number of bits against what they have to hold."""
    weights = initial(spec, 0)
    for bits in PACKED_BITS:
        model = SubModel(spec, spec.depth, quantize(weights, spec, spec.depth, bits))
        _, files = build_variant(model, Form("onnx", "packed", staged=False))
        graph = sum(map(len, files.values()))
        packed = len(pack_tensors(model.tensors, compress=False))
        for name, found in (("weights.rft", packed), ("onnx packed", graph)):
            yield Floor(f"{name}, {bits} bits / bits and floats", found / plain_bytes(model), 1.06)


def plain_bytes(model: SubModel) -> float:
    """An eighth of a byte for each bit of a coded weight, four bytes for each other one."""
    return sum(
        tensor.codes.size * tensor.bits / 8
        if isinstance(tensor, CodebookTensor)
        else 4 * math.prod(tensor.shape)
        for tensor in model.tensors.values()
    )


def export_time(spec: ModelSpec) -> Iterator[Floor]:
    """Whole builds for two devices, with every check; the second finds the trace made."""
    model_part.cache_clear()
    rng = np.random.default_rng(0)
    # Biases far apart: logits of random weights nearly tie, and parity would count what is noise.
    weights = {**initial(spec, 0), "head.bias": 0.5 * np.arange(spec.classes, dtype=np.float32)}
    tensors = {name: Float32Tensor(value) for name, value in weights.items()}
    channels, high, _ = spec.image_shape
    labels = tuple(str(label) for label in range(spec.classes))
    contract = ModelContract(spec, Preprocessing(high, channels, 0.5, 0.25), labels)
    images = rng.integers(0, 256, (SAMPLES, *spec.image_shape), np.uint8)
    part = Part(images, rng.integers(0, spec.classes, SAMPLES))
    source = Source(contract, spec.depth, 0, tensors, {})
    for number, bits in (("first", 4), ("second", 3)):
        plan = SubmodelPlan(spec.depth, bits, 1, 1, 1, "float32")
        begun = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            recipe = Recipe(plan, target_for(None, ["onnx", "tflite"], []))
            build_submodel(source, recipe, part, Path(folder) / "bundle")
        yield Floor(f"export, {number} device, CPU s", time.process_time() - begun, 30)


def main() -> int:
    """Print both sizes; 1 where a floor is missed."""
    missed = 0
    for name, spec in SIZES.items():
        print(name)
        for floor in bench(spec):
            kept = floor.found <= floor.bound
            missed += not kept
            state = "ok" if kept else "MISSED"
            print(f"{floor.name:<42}{floor.found:>8.3f} (at most {floor.bound:g}) {state}")
        print(flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())

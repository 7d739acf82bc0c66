"""The board's own speed: two depths of three small networks, answering and training, timed.

The graphs are shipped with the client, so nothing is compiled here. They run in a process of their
own, which is ended when its time is over; what it had measured by then counts. A process that runs
out of memory takes nobody with it.
"""

from __future__ import annotations

import json
import logging
import lzma
import os
import resource
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.probe_models import ANSWERS, PROBES, STEPS
from devices.profile import Timing
from edge_client import runtime
from edge_client.memory import keep_freed, peak_resident_bytes
from reefleet.errors import ConfigError, InputError, ReefleetError
from reefleet.model import ModelSpec, quantized_tensors, tensor_shapes
from reefleet.wire.codebook import Grid
from reefleet.wire.initializers import Initializers
from reefleet.wire.manifest import Initializer, Stage
from reefleet.wire.tensors import CodebookTensor, EncodedTensor, Float32Tensor

logger = logging.getLogger(__name__)

FILE = "probes.tar.xz"
INDEX = "index.json"
TRAIN = "train"
TOTAL_S = 60.0
EACH_S = 0.4
LEAST_RUNS, MOST_RUNS = 4, 200
LEAST_MEMORY_MIB = 160  # below this much free memory no probe is worth the risk

Values = NDArray[np.generic]
Clock = Callable[[], float]


def run_benchmark(
    threads: int = 1, total_s: float = TOTAL_S, memory_mib: int | None = None
) -> tuple[Timing, ...]:
    """Timings of this board, as many as fit into `total_s`; none where memory is short.

    Never raises: a board that cannot run the benchmark is planned by its prior.
    """
    if memory_mib is not None and memory_mib < LEAST_MEMORY_MIB:
        logger.warning("benchmark skipped", extra={"reason": f"{memory_mib} MiB of memory"})
        return ()
    command = [sys.executable, "-m", "edge_client.benchmark", str(threads), str(memory_mib or 0)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, timeout=total_s, env=environment
        )
        said, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as stopped:
        said, code = stopped.stdout or b"", 0
    except OSError as error:
        logger.warning("benchmark failed", extra={"reason": str(error)})
        return ()
    timings = tuple(_timings(said))
    logger.info("benchmark done", extra={"timings": len(timings), "code": code})
    return timings


def measure(threads: int, graphs: Mapping[str, bytes]) -> Iterator[Timing]:
    """Time each probe in this process, the most telling first; a graph that fails is left out."""
    clock = time.process_time if threads == 1 else time.perf_counter
    answers: dict[str, list[Any]] = {work: [] for work in ANSWERS}
    for entry in json.loads(graphs[INDEX]):
        answers[entry["work"]].append(entry)
    for entry in answers["answer"]:
        yield from _timed(_about(entry), partial(_answer, entry, graphs, threads), clock)
    for probe, depth, batch, models, bits in STEPS:
        file = f"{probe}-{depth}-{batch}-{models}-{bits}.onnx"
        about = Timing(TRAIN if models == 1 else f"{TRAIN}-2-{bits}", probe, depth, batch, 1.0, 0.0)
        opened = partial(_step, file, PROBES[probe], graphs, threads)
        yield from _timed(about, opened, clock)
    for entry in answers["float"]:
        yield from _timed(_about(entry), partial(_answer, entry, graphs, threads), clock)


def time_answer(probe: str, depth: int) -> float:
    """Processor milliseconds of one answer of a probe here; raises RuntimeUnavailable."""
    graphs = read_graphs()
    for entry in json.loads(graphs[INDEX]):
        if (entry["work"], entry["probe"], entry["depth"]) == ("answer", probe, depth):
            return _time(_answer(entry, graphs, 1), time.process_time)[0]
    msg = f"there is no probe {probe} of depth {depth}"
    raise InputError(msg)


def _about(entry: Mapping[str, Any]) -> Timing:
    return Timing(entry["work"], entry["probe"], entry["depth"], 1, 1.0, 0.0)


def _timed(
    about: Timing, opened: Callable[[], Callable[[], None]], clock: Clock
) -> Iterator[Timing]:
    _forget_peak()
    try:
        ms, sigma = _time(opened(), clock)
    except ReefleetError as error:
        logger.warning("probe failed", extra={"probe": about.probe, "reason": str(error)})
        return
    peak = peak_resident_bytes()
    yield replace(about, ms=ms, rel_sigma=sigma, peak_mib=peak / 2**20 if peak else None)


def _forget_peak() -> None:
    """Begin the kernel's peak anew, where it lets us."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def read_graphs() -> dict[str, bytes]:
    """The shipped graphs and their index by name."""
    data = (resources.files("edge_client") / FILE).read_bytes()
    found = {}
    with tarfile.open(fileobj=BytesIO(lzma.decompress(data)), mode="r:") as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            if file is not None:
                found[member.name] = file.read()
    return found


def main(arguments: list[str]) -> None:
    """Print one JSON line a timing: `python -m edge_client.benchmark THREADS MEMORY_MIB`."""
    threads, memory_mib = int(arguments[0]), int(arguments[1])
    if memory_mib:
        # Address space is not resident memory: leave room for libraries that are mapped only.
        bound = (memory_mib + 1024) << 20
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    os.nice(5)
    keep_freed()  # as the client does
    for timing in measure(threads, read_graphs()):
        values = {name: getattr(timing, name) for name in Timing.__slots__}
        sys.stdout.write(json.dumps(values) + "\n")
        sys.stdout.flush()


def _timings(said: bytes) -> Iterator[Timing]:
    for line in said.splitlines(keepends=True):
        if line.endswith(b"\n"):
            try:
                yield Timing(**json.loads(line))
            except (ValueError, TypeError, ConfigError) as error:
                logger.warning("benchmark line dropped", extra={"reason": str(error)})


def _time(step: Callable[[], None], clock: Clock) -> tuple[float, float]:
    """Least milliseconds of several runs, and how far the middle one lies above it."""
    step()
    runs: list[float] = []
    begin = time.perf_counter()
    while len(runs) < LEAST_RUNS or (
        len(runs) < MOST_RUNS and time.perf_counter() - begin < EACH_S
    ):
        started = clock()
        step()
        runs.append(clock() - started)
    runs.sort()
    least = max(runs[0], 1e-7)
    return least * 1e3, min(runs[len(runs) // 2] / least - 1, 10.0)


def _answer(
    entry: Mapping[str, Any], graphs: Mapping[str, bytes], threads: int
) -> Callable[[], None]:
    spec = PROBES[entry["probe"]]
    forms = Initializers(_weights(spec, entry["depth"]))
    sessions = []
    for values in entry["stages"]:
        initializers = tuple(Initializer(**item) for item in values["initializers"])
        stage = Stage(**{**values, "initializers": initializers})
        weights = forms.of(stage.initializers)
        sessions.append(
            runtime.open_session(graphs[stage.file], stage.file, threads, weights, fuse=True)
        )
    names = [[node.name for node in session.get_inputs()] for session in sessions]
    image = np.ones((1, *spec.image_shape), np.float32)

    def step() -> None:
        known: dict[str, Values] = {"image": image}
        for session, inputs in zip(sessions, names, strict=True):
            found = runtime.run(session, {name: known[name] for name in inputs}, entry["probe"])
            outputs = [node.name.removesuffix("_out") for node in session.get_outputs()]
            known = dict(zip(outputs, found, strict=True))
        _keep(forms)

    return step


def _keep(_value: object) -> None:
    """Hold a value as long as the closure lives: sessions read from its arrays."""


def _weights(spec: ModelSpec, depth: int) -> dict[str, EncodedTensor]:
    rng = np.random.default_rng(0)
    coded = frozenset(quantized_tensors(spec, depth))
    grid = Grid(np.linspace(-127, 127, 256).astype(np.int8), 1e-3)
    return {
        name: CodebookTensor(rng.integers(0, 256, shape).astype(np.uint8), 8, grid)
        if name in coded
        else Float32Tensor(_small(name, shape, rng))
        for name, shape in tensor_shapes(spec, depth).items()
    }


def _step(
    file: str, spec: ModelSpec, graphs: Mapping[str, bytes], threads: int
) -> Callable[[], None]:
    """One training step with its state in two sets that swap, as the client runs it."""
    session = runtime.open_session(graphs[file], file, threads)
    rng = np.random.default_rng(0)
    inputs = {node.name: _value(node, spec, rng) for node in session.get_inputs()}
    outputs = {node.name: np.zeros(tuple(node.shape), np.float32) for node in session.get_outputs()}
    carried = {name for name in inputs if f"next.{name}" in outputs}
    sets = [inputs, {**inputs, **{name: outputs[f"next.{name}"] for name in carried}}]
    bindings = []
    for live in range(2):
        binding = session.io_binding()
        for name, array in sets[live].items():
            binding.bind_ortvalue_input(name, runtime.bind(array))
        for name, array in outputs.items():
            state = name.removeprefix("next.")
            target = sets[1 - live][state] if state in carried else array
            binding.bind_ortvalue_output(name, runtime.bind(target))
        bindings.append(binding)

    def step() -> None:
        runtime.run_bound(session, bindings[0], file)
        bindings.reverse()
        _keep(sets)

    return step


def _value(node: Any, spec: ModelSpec, rng: np.random.Generator) -> Values:
    """A plausible first value for an input, by its name."""
    shape, name = tuple(node.shape), node.name
    if name == "label":
        return rng.integers(0, spec.classes, shape)
    if name == "mask":
        return np.ones(shape, np.float32)
    if name == "image":
        return rng.standard_normal(shape).astype(np.float32)
    if name.startswith("centers/"):
        return np.linspace(-0.1, 0.1, shape[0]).astype(np.float32)
    if name.startswith(("shared/", "personal/")):
        return _small(name, shape, rng)
    return np.full(shape, 1e-3 if not shape else 0.0, np.float32)


def _small(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    if name.endswith(("norm1.weight", "norm2.weight", "norm.weight")):
        return np.ones(shape, np.float32)
    return (0.02 * rng.standard_normal(shape)).astype(np.float32)


if __name__ == "__main__":
    main(sys.argv[1:])

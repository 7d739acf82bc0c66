"""The cost model against this machine: predicted and measured time and memory of whole configs.

The board's speed is fitted to the client's own benchmark (three small networks at two depths); no
configuration here takes part in that. Each is compiled, then run by the client's code in a process
of its own, first under a control group of the least memory that it is predicted to fit into. Times
are processor time of one thread, the least of all runs; turns lie minutes apart.

    python benchmarks/cost_model.py --json result.json        (under four minutes on two idle cores)
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from devices import cost
from devices.calibration import calibrate
from devices.cost import Rates
from devices.emulation import Means, OutOfBoardMemory, Wanted, means, run
from devices.profile import DeviceProfile, Timing
from edge_client.benchmark import run_benchmark
from reefleet.model import ModelSpec

SPECS = {
    "digits": ModelSpec(8, 2, 1, 64, 4, 6, 10, (1, 2, 4, 6)),
    "digits-8": ModelSpec(8, 2, 1, 64, 4, 8, 10, (2, 3, 6, 8)),
    "mnist-128": ModelSpec(28, 4, 1, 128, 4, 8, 10, (2, 4, 6, 8)),
    "cifar-96": ModelSpec(32, 4, 3, 96, 3, 12, 10, (3, 6, 9, 12)),
    "cifar-192": ModelSpec(32, 4, 3, 192, 3, 12, 100, (3, 6, 9, 12)),
    "deit-tiny": ModelSpec(224, 16, 3, 192, 3, 12, 100, (3, 6, 9, 12)),
}
# Network, exit depth, batch, models, bits.
STEPS = (
    *(("digits", d, b, 1, 8) for d, b in ((1, 8), (1, 32), (2, 32), (4, 8), (6, 8), (6, 16))),
    *(("digits", d, b, 2, w) for d, b, w in ((1, 8, 4), (2, 8, 8), (4, 16, 4), (6, 8, 3))),
    *(("digits-8", d, b, 1, 8) for d, b in ((3, 8), (6, 4), (8, 8))),
    *(("mnist-128", d, b, 1, 8) for d, b in ((2, 8), (4, 4), (6, 8), (8, 2), (8, 16))),
    *(("mnist-128", d, 4, 2, w) for d, w in ((2, 4), (4, 6))),
    *(("cifar-96", d, b, 1, 8) for d, b in ((3, 4), (6, 8), (9, 2), (12, 4))),
    *(("cifar-192", d, b, 1, 8) for d, b in ((3, 2), (3, 16), (6, 4), (9, 2), (12, 1))),
    ("cifar-192", 3, 4, 2, 4),
    *(("deit-tiny", d, b, 1, 8) for d, b in ((3, 1), (3, 2), (6, 1))),
)
ANSWERS = tuple((name, depth) for name, spec in SPECS.items() for depth in spec.exits)
FLOATS = tuple((name, depth) for name, depth in ANSWERS if depth in {4, 6, 12})
RUN_S, ANSWER_S = 0.35, 0.15
BUILDERS = 2
PATIENCE_S = 900.0  # other processes may keep this machine busy; a board gets 60 s
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """One configuration: what was predicted and what was measured, in one unit."""

    name: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.measured - 1


def build(cache: Path) -> None:
    """Compile what the cache does not hold yet, in processes of their own."""
    cache.mkdir(parents=True, exist_ok=True)
    missing = [step for step in STEPS if not _file(cache, step).exists()]
    with ProcessPoolExecutor(BUILDERS, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(partial(_build_step, cache), missing))
        if not (cache / "answers").exists():
            pool.submit(_build_answers, cache).result()


def _build_step(cache: Path, step: tuple[str, int, int, int, int]) -> None:
    import torch

    from export.programs import build_program, objectives_for
    from reefleet.learning.objectives import Settings
    from reefleet.plan import SubmodelPlan

    torch.set_num_threads(1)
    name, depth, batch, models, bits = step
    plan = SubmodelPlan(depth, bits, batch, 1, models, "int8")
    found = objectives_for(SPECS[name], plan, Settings())
    wanted = ["federate"] if models == 2 else ["federate", "personalize"]
    built = [build_program(found[n], SPECS[name], batch, f"{n}.onnx") for n in wanted]
    kept = [(each.contract, each.graph.SerializeToString()) for each in built]
    _file(cache, step).write_bytes(pickle.dumps(kept))


def _build_answers(cache: Path) -> None:
    import torch

    from export.stages import stage_graphs

    torch.set_num_threads(1)
    kept = []
    for quantized, wanted in ((True, ANSWERS), (False, FLOATS)):
        for name, depth in wanted:
            stages = stage_graphs(SPECS[name], depth, quantized=quantized)
            graphs = [(stage, graph.SerializeToString()) for stage, graph in stages]
            kept.append(("answer" if quantized else "float", name, depth, graphs))
    (cache / "answers").write_bytes(pickle.dumps(kept))


def run_step(file: Path, *, short: bool = False) -> Row:
    """What the client holds and takes: the federated program, then the personal one."""
    import edge_client.session
    from edge_client import personal
    from edge_client.memory import keep_freed, peak_resident_bytes
    from edge_client.program import ResidentProgram
    from reefleet.model import tensor_shapes

    del edge_client
    keep_freed()
    name, depth, *_ = _parts(file)
    spec = SPECS[name]
    rng = np.random.default_rng(0)
    weights = {
        key: (0.02 * rng.standard_normal(shape)).astype(np.float32)
        for key, shape in tensor_shapes(spec, depth).items()
    }
    found: Row = {}
    programs = pickle.loads(file.read_bytes())  # noqa: S301  # written by this program
    for place, (contract, graph) in enumerate(programs[:1] if short else programs):
        program = ResidentProgram(contract, graph, 1, 1 << 34)
        zeros = {item.name: np.zeros(item.shape, np.float32) for item in contract.state}
        program.load(personal.first_state(contract, weights, {}, zeros))
        program.batch.image[...] = rng.standard_normal(program.batch.image.shape)
        program.batch.mask[...] = 1
        scalars = {scalar.name: 1e-3 for scalar in contract.scalars}
        if place == 0:
            found["ms"] = _least_ms(partial(program.step, scalars), RUN_S)
        else:
            program.step(scalars)
            program.step(scalars)
        del program
    peak = peak_resident_bytes()
    return {**found, "mib": peak / 2**20 if peak else None}


def run_answers(file: Path) -> Row:
    """Every answer through all stages, one after another."""
    from edge_client import benchmark
    from edge_client.memory import keep_freed

    keep_freed()
    benchmark.PROBES = {**benchmark.PROBES, **SPECS}  # type: ignore[misc]
    found = {}
    for work, name, depth, kept in pickle.loads(file.read_bytes()):  # noqa: S301  # ours
        graphs = {stage.file: graph for stage, graph in kept}
        entry = {"probe": name, "depth": depth, "stages": [asdict(stage) for stage, _ in kept]}
        step = benchmark._answer(entry, graphs, 1)  # noqa: SLF001  # the same code
        found[f"{work} {name} {depth}"] = _least_ms(step, ANSWER_S)
    return found


def main() -> None:
    """Build, calibrate, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, help="folder for compiled graphs (default: none)")
    parser.add_argument("--repeats", type=int, default=2, help="turns through all of them")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        is_step = options.one.suffix == ".step"
        found = partial(run_step, short=options.short) if is_step else run_answers
        print(json.dumps(found(options.one)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or Path(temporary)
        build(cache)
        measured = measure(cache, options.repeats)
    tables = compare(measured, calibrated(measured.timings))
    for title, results in tables.items():
        report(title, results)
    print(measured.verdict)
    if options.json:
        plain = {title: [asdict(result) for result in each] for title, each in tables.items()}
        timings = [asdict(timing) for timing in measured.timings]
        text = json.dumps({**plain, "timings": timings, "limit": measured.verdict}, indent=1)
        options.json.write_text(text, encoding="utf-8")


@dataclass(slots=True)
class Measured:
    """The benchmark's timings, the least time and the peak of each configuration, and a verdict."""

    timings: tuple[Timing, ...] = ()
    answers: Row = field(default_factory=dict)
    steps: dict[str, Row] = field(default_factory=dict)
    verdict: str = ""


def measure(cache: Path, repeats: int) -> Measured:
    """Every configuration and the benchmark, `repeats` times; the first turn under limits."""
    found, least = Measured(), dict[tuple[Any, ...], Timing]()
    ended: list[str] = []
    able = means()
    for turn in range(repeats):
        print(f"turn {turn + 1} of {repeats}", file=sys.stderr)
        for step in STEPS:
            file, row = _file(cache, step), None
            if turn == 0:
                row = _under_limit(file, Means(memory=able.memory))
                if row is None:
                    ended.append(f"{file.stem} of {_limit_mib(file)} MiB")
            row = row or _run(file, short=turn > 0)  # the time alone, once the peak is known
            known = found.steps.setdefault(file.stem, row)
            known["ms"] = min(row["ms"], known["ms"])
        for name, ms in _run(cache / "answers").items():
            found.answers[name] = min(ms, found.answers.get(name, ms))
        for timing in run_benchmark(total_s=PATIENCE_S):
            key = (timing.work, timing.probe, timing.depth, timing.batch)
            least[key] = min(timing, least.get(key, timing), key=lambda each: each.ms)
    found.timings = tuple(least.values())
    how = "a control group" if able.memory else "a bound on address space"
    found.verdict = (
        f"under {how} of the least memory that each is predicted to fit into: "
        f"{len(ended)} of {len(STEPS)} did not fit {ended or ''}"
    )
    return found


def _limit_mib(file: Path) -> int:
    """The least free memory that the planner takes for enough."""
    name, depth, batch, models, _ = _parts(file)
    peak = cost.client_peak_mib(SPECS[name], depth, models, batch).value
    return next(free for free in range(1 << 20) if cost.memory_to_reserve_mib(peak, free) <= free)


def _under_limit(file: Path, able: Means) -> Row | None:
    """As `_run` in that much memory; None where it was too little."""
    said = file.with_suffix(".json")
    command = ["sh", "-c", 'exec "$0" "$@" > "$SAID"', *_command(file)]
    environment = {**_environment(), "SAID": str(said)}
    try:
        outcome = run(command, Wanted(file.stem, _limit_mib(file)), able, environment)
    except OutOfBoardMemory:
        return None
    return json.loads(said.read_text()) if outcome.code == 0 else None


def calibrated(timings: tuple[Timing, ...]) -> Rates:
    """This machine's speed."""
    speed = calibrate(DeviceProfile("", timings=timings))
    if speed is None:
        sys.exit("the benchmark gave too few timings")
    print(f"answer {[round(c, 3) for c in speed.answer]}, ", end="")
    print(f"float {[round(c, 3) for c in speed.answer_float]}, ", end="")
    print(f"step {[round(c, 3) for c in speed.step]}, caches {speed.cache_mb} MB, ", end="")
    print(f"sigmas {speed.answer_sigma:.2f} and {speed.step_sigma:.2f}")
    return Rates(1.0, speed.step_sigma, 1.0, 1.0, measured=speed)


def compare(measured: Measured, rates: Rates) -> dict[str, list[Result]]:
    """Results for answers, steps and memory."""
    tables: dict[str, list[Result]] = {
        "answer (int8), ms": [],
        "answer (float), ms": [],
        "training step, ms": [],
        "peak memory, MiB": [],
    }
    answers, floats, steps, memory = tables.values()
    for words, ms in measured.answers.items():
        work, name, depth = words.split()
        runtime = "onnxruntime-int8" if work == "answer" else "onnxruntime-float"
        predicted = cost.answer_ms(SPECS[name], int(depth), rates, runtime).value
        (answers if work == "answer" else floats).append(Result(words, predicted, ms))
    for name, depth, batch, models, bits in STEPS:
        row = measured.steps[f"{name}-{depth}-{batch}-{models}-{bits}"]
        words = f"{name} depth {depth} batch {batch} models {models} bits {bits}"
        step = cost.train_step_ms(SPECS[name], depth, models, bits, batch, rates).value
        steps.append(Result(words, step, row["ms"]))
        peak = cost.client_peak_mib(SPECS[name], depth, models, batch).value
        memory.append(Result(words, peak, row["mib"]))
    return tables


def report(title: str, results: list[Result]) -> None:
    """Print one table and its errors."""
    print(f"\n{title:<48}{'predicted':>10}{'measured':>10}{'error':>8}")
    for result in results:
        print(
            f"{result.name:<48}{result.predicted:>10.2f}{result.measured:>10.2f}"
            f"{result.error:>8.0%}"
        )
    errors = [abs(result.error) for result in results]
    print(f"{len(results)}: median {statistics.median(errors):.1%}, most {max(errors):.1%}")


def _run(file: Path, *, short: bool = False) -> Row:
    command = [*_command(file), *(["--short"] if short else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=_environment())
    found: Row = json.loads(done.stdout)
    return found


def _command(file: Path) -> list[str]:
    return [sys.executable, __file__, "--one", str(file)]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def _file(cache: Path, step: tuple[str, int, int, int, int]) -> Path:
    return cache / ("-".join(map(str, step)) + ".step")


def _parts(file: Path) -> tuple[str, int, int, int, int]:
    name, *numbers = file.stem.rsplit("-", 4)
    depth, batch, models, bits = map(int, numbers)
    return name, depth, batch, models, bits


def _least_ms(step: Callable[[], None], run_s: float) -> float:
    step()
    runs = []
    begin = time.process_time()
    while len(runs) < 4 or (len(runs) < 300 and time.process_time() - begin < run_s):
        started = time.process_time()
        step()
        runs.append(time.process_time() - started)
    return min(runs) * 1e3


if __name__ == "__main__":
    main()

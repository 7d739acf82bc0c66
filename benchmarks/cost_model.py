"""The cost model against this machine: predicted and measured time and memory of whole configs.

The board's speed is fitted to the client's own benchmark (three small networks at two depths); no
configuration here takes part in that. Each is compiled, then run by the client's code in a fresh
process, several times; times are processor time of one thread, the least of all runs.

    python benchmarks/cost_model.py --cache /tmp/cost --repeats 2 --json result.json
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from devices import cost
from devices.calibration import calibrate
from devices.cost import Rates
from devices.profile import DeviceProfile
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
RUN_S = 0.7
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
    """Compile what the cache does not hold yet."""
    import torch

    from export.programs import build_program, objectives_for
    from export.stages import stage_graphs
    from reefleet.learning.objectives import Settings
    from reefleet.plan import SubmodelPlan

    torch.set_num_threads(1)
    cache.mkdir(parents=True, exist_ok=True)
    for name, depth, batch, models, bits in STEPS:
        file = cache / f"{name}-{depth}-{batch}-{models}-{bits}.step"
        if not file.exists():
            plan = SubmodelPlan(depth, bits, batch, 1, models, "int8")
            found = objectives_for(SPECS[name], plan, Settings())
            built = [build_program(o, SPECS[name], batch, f"{n}.onnx") for n, o in found.items()]
            kept = [(each.contract, each.graph.SerializeToString()) for each in built]
            file.write_bytes(pickle.dumps(kept))
    for name, depth in ANSWERS:
        file = cache / f"{name}-{depth}.answer"
        if not file.exists():
            stages = stage_graphs(SPECS[name], depth, quantized=True)
            kept = [(stage, graph.SerializeToString()) for stage, graph in stages]
            file.write_bytes(pickle.dumps(kept))


def run_step(file: Path) -> Row:
    """What the client holds and takes: the federated program, then the personal one."""
    import edge_client.session
    from edge_client import personal
    from edge_client.memory import peak_resident_bytes
    from edge_client.program import ResidentProgram
    from reefleet.model import tensor_shapes

    del edge_client
    name, depth, _, models, bits = _parts(file)
    spec = SPECS[name]
    rng = np.random.default_rng(0)
    weights = {
        key: (0.02 * rng.standard_normal(shape)).astype(np.float32)
        for key, shape in tensor_shapes(spec, depth).items()
    }
    found: Row = {}
    programs = pickle.loads(file.read_bytes())  # noqa: S301  # written by this program
    for place, (contract, graph) in enumerate(programs[: 1 if models == 2 else 2]):
        program = ResidentProgram(contract, graph, 1, 1 << 34)
        zeros = {item.name: np.zeros(item.shape, np.float32) for item in contract.state}
        program.load(personal.first_state(contract, weights, {}, zeros, bits))
        program.batch.image[...] = rng.standard_normal(program.batch.image.shape)
        program.batch.mask[...] = 1
        scalars = {scalar.name: 1e-3 for scalar in contract.scalars}
        if place == 0:
            found["ms"] = _least_ms(partial(program.step, scalars))
        else:
            program.step(scalars)
            program.step(scalars)
        del program
    peak = peak_resident_bytes()
    return {**found, "mib": peak / 2**20 if peak else None}


def run_answer(file: Path) -> Row:
    """One answer through all stages."""
    from edge_client import benchmark

    name, depth = file.stem.rsplit("-", 1)
    stages = pickle.loads(file.read_bytes())  # noqa: S301  # written by this program
    graphs = {stage.file: graph for stage, graph in stages}
    benchmark.PROBES = {**benchmark.PROBES, name: SPECS[name]}  # type: ignore[misc]
    entry = {"probe": name, "depth": int(depth), "stages": [asdict(stage) for stage, _ in stages]}
    return {"ms": _least_ms(benchmark._answer(entry, graphs, 1))}  # noqa: SLF001  # the same code


def main() -> None:
    """Build, calibrate, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder for compiled graphs")
    parser.add_argument("--repeats", type=int, default=2, help="turns through all of them")
    parser.add_argument("--under-limit", action="store_true", help="run each where it just fits")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        found = run_step if options.one.suffix == ".step" else run_answer
        print(json.dumps(found(options.one)))
        return
    build(options.cache)
    timings, rows = measured(options.cache, options.repeats)
    answers, steps, memory = compare(rows, calibrated(timings))
    report("answer, ms", answers)
    report("training step, ms", steps)
    report("peak memory, MiB", memory)
    if options.under_limit:
        under_limit(options.cache)
    if options.json:
        values = {"answer": answers, "step": steps, "memory": memory}
        plain = {key: [asdict(result) for result in each] for key, each in values.items()}
        plain["timings"] = [asdict(timing) for timing in timings]
        options.json.write_text(json.dumps(plain, indent=1), encoding="utf-8")


def measured(cache: Path, repeats: int) -> tuple[tuple[Any, ...], dict[str, Row]]:
    """The benchmark and every configuration, in turn, `repeats` times: the least time of each.

    Turns lie minutes apart, so that a busy machine is seldom busy for all of one's runs.
    """
    from edge_client.benchmark import run_benchmark

    files = [f"{name}-{depth}.answer" for name, depth in ANSWERS]
    files += ["-".join(map(str, step)) + ".step" for step in STEPS]
    timings: dict[tuple[Any, ...], Any] = {}
    rows: dict[str, Row] = {}
    for turn in range(repeats):
        print(f"turn {turn + 1} of {repeats}", file=sys.stderr)
        for file in files:
            row = _run(cache / file)
            known = rows.get(file, row)
            row["ms"] = min(row["ms"], known["ms"])
            row["mib"] = max(row.get("mib") or 0.0, known.get("mib") or 0.0)
            rows[file] = row
        for timing in run_benchmark():
            key = (timing.work, timing.probe, timing.depth, timing.batch)
            if key not in timings or timing.ms < timings[key].ms:
                timings[key] = timing
    return tuple(timings.values()), rows


def calibrated(timings: tuple[Any, ...]) -> Rates:
    """This machine's speed."""
    speed = calibrate(DeviceProfile("", timings=timings))
    if speed is None:
        sys.exit("the benchmark gave too few timings")
    print(f"answer coefficients {[round(c, 4) for c in speed.answer]}, ", end="")
    print(f"step coefficients {[round(c, 4) for c in speed.step]}, ", end="")
    print(f"sigmas {speed.answer_sigma:.2f} and {speed.step_sigma:.2f}")
    return Rates(1.0, speed.step_sigma, 1.0, 1.0, measured=speed)


def compare(rows: dict[str, Row], rates: Rates) -> tuple[list[Result], list[Result], list[Result]]:
    """Results for answers, steps and memory."""
    answers, steps, memory = [], [], []
    for name, depth in ANSWERS:
        row = rows[f"{name}-{depth}.answer"]
        predicted = cost.answer_ms(SPECS[name], depth, rates).value
        answers.append(Result(f"{name} depth {depth}", predicted, row["ms"]))
    for name, depth, batch, models, bits in STEPS:
        row = rows[f"{name}-{depth}-{batch}-{models}-{bits}.step"]
        words = f"{name} depth {depth} batch {batch} models {models} bits {bits}"
        step = cost.train_step_ms(SPECS[name], depth, models, bits, batch, rates).value
        steps.append(Result(words, step, row["ms"]))
        peak = cost.client_peak_mib(SPECS[name], depth, models, batch).value
        memory.append(Result(words, peak, row["mib"]))
    return answers, steps, memory


def under_limit(cache: Path) -> None:
    """Run each configuration under the least memory that it is predicted to fit into."""
    from devices.emulation import Means, OutOfBoardMemory, Wanted, means, run

    able = means()
    if able.memory is None:
        print("no control group can be made here; nothing was run under a limit")
        return
    ended = []
    for name, depth, batch, models, bits in STEPS:
        peak = cost.client_peak_mib(SPECS[name], depth, models, batch).value
        limit = next(a for a in range(1 << 20) if cost.memory_to_reserve_mib(peak, a) <= a)
        file = cache / f"{name}-{depth}-{batch}-{models}-{bits}.step"
        one = [sys.executable, __file__, "--cache", str(cache), "--one", str(file)]
        command = ["sh", "-c", 'exec "$@" > /dev/null', "sh", *one]
        environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        try:
            run(command, Wanted(file.stem, limit), Means(memory=able.memory), environment)
        except OutOfBoardMemory:
            ended.append(f"{file.stem} at {limit} MiB")
    print(f"ended under the limit that should have fitted: {len(ended)} of {len(STEPS)} {ended}")


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


def _run(file: Path) -> Row:
    done = subprocess.run(
        [sys.executable, __file__, "--cache", str(file.parent), "--one", str(file)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    found: Row = json.loads(done.stdout)
    return found


def _parts(file: Path) -> tuple[str, int, int, int, int]:
    name, *numbers = file.stem.rsplit("-", 4)
    depth, batch, models, bits = map(int, numbers)
    return name, depth, batch, models, bits


def _least_ms(step: Callable[[], None]) -> float:
    step()
    runs = []
    begin = time.process_time()
    while len(runs) < 4 or (len(runs) < 300 and time.process_time() - begin < RUN_S):
        started = time.process_time()
        step()
        runs.append(time.process_time() - started)
    return min(runs) * 1e3


if __name__ == "__main__":
    main()

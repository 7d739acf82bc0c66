"""The training step as a graph against the same step in eager PyTorch, and how long it compiles.

Both run the same state and batches on one thread, each in a process of its own, one after the
other, several times over; the least CPU time of a step is kept, which a busy machine disturbs
least. `torch.onnx.export` compiles the same step for comparison where onnxscript is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

REPEATS = 3
STEPS = 20
EXPORTER_TIMEOUT_S = 240
CASES = (("reefl", 2, 1), ("reefl", 6, 1), ("reefl-quped", 2, 2), ("reefl-quped", 6, 2))

COMMON = """
import json, resource, sys, time
from pathlib import Path
depth, models, steps, folder = *map(int, sys.argv[1:4]), Path(sys.argv[4])
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def least(step, steps):
    times = []
    for _ in range(steps):
        begin = time.process_time(); step(); times.append(time.process_time() - begin)
    return min(times) * 1000
"""
BUILD = """
import torch
torch.set_num_threads(1)
from export.programs import example_inputs, flat_step, objectives_for
from reefleet.learning.objectives import Settings
from reefleet.model import ModelSpec
from reefleet.plan import SubmodelPlan
spec = ModelSpec(8, 2, 1, 64, 4, 6, 10, (1, 2, 4, 6))
plan = SubmodelPlan(depth, 4, 16, 1, models, "int8")
objective = objectives_for(spec, plan, Settings())["federate"]
inputs = example_inputs(objective, spec, plan.batch_size)
generator = torch.Generator().manual_seed(0)
for name, value in inputs.items():
    if value.dtype == torch.float32 and value.ndim and name != "mask":
        value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    if name.startswith("centers/"):
        value.copy_(value.sort().values)
step = flat_step(objective)
"""
COMPILE = (
    COMMON
    + BUILD
    + """
import numpy as np
from export.programs import build_program
begin = time.process_time()
built = build_program(objective, spec, plan.batch_size, "train.onnx")
seconds = time.process_time() - begin
(folder / "train.onnx").write_bytes(built.graph.SerializeToString())
np.savez(folder / "inputs.npz", **{n.replace("/", "|"): v.numpy() for n, v in inputs.items()})
nodes = len(built.graph.graph.node)
print(json.dumps({"seconds": seconds, "nodes": nodes}))
"""
)
EXPORTER = (
    COMMON
    + BUILD
    + """
import warnings; warnings.simplefilter("ignore")
import torch.utils._pytree as pytree
from torch._decomp import core_aten_decompositions
from torch.fx.experimental.proxy_tensor import make_fx
names = list(inputs)
def flat(*values): return list(step(dict(zip(names, values))).values())
begin = time.process_time()
module = make_fx(flat, decomposition_table=core_aten_decompositions())(*inputs.values())
torch.onnx.export(module, tuple(inputs.values()), dynamo=True, opset_version=18, verbose=False)
print(json.dumps({"seconds": time.process_time() - begin}))
"""
)
EAGER = (
    COMMON
    + BUILD
    + """
def once(): step(inputs)
once()
print(json.dumps({"ms": least(once, steps), "mib": peak()}))
"""
)
GRAPH = (
    COMMON
    + """
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.enable_cpu_mem_arena = options.enable_mem_pattern = False
level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
options.graph_optimization_level = level
session = onnxruntime.InferenceSession((folder / "train.onnx").read_bytes(), options)
with np.load(folder / "inputs.npz") as arrays:
    feed = {n.replace("|", "/"): arrays[n] for n in arrays}
def once(): session.run(None, feed)
once()
print(json.dumps({"ms": least(once, steps), "mib": peak()}))
"""
)


def run(script: str, depth: int, models: int, folder: Path) -> dict[str, Any]:
    """Run one script in a fresh interpreter and read the JSON of its last line."""
    command = [sys.executable, "-c", script, str(depth), str(models), str(STEPS), str(folder)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=EXPORTER_TIMEOUT_S
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def best(script: str, depth: int, models: int, folder: Path) -> dict[str, float]:
    """The least of each figure over the repeats."""
    runs = [run(script, depth, models, folder) for _ in range(REPEATS)]
    return {key: min(one[key] for one in runs) for key in runs[0]}


def by_exporter(depth: int, models: int, folder: Path) -> str:
    """Seconds that torch's exporter takes for the same step, or that it takes too many."""
    try:
        return f"{run(EXPORTER, depth, models, folder)['seconds']:.1f}"
    except subprocess.TimeoutExpired:
        return f"> {EXPORTER_TIMEOUT_S}"


def main() -> None:
    """Print one line an objective and depth."""
    exporter = find_spec("onnxscript") is not None
    print("one step, batch 16, width 64, one thread; CPU time")
    header = f"{'objective':<13}{'depth':>6}{'nodes':>7}{'compile s':>11}{'torch.onnx s':>14}"
    print(
        header + f"{'eager ms':>10}{'graph ms':>10}{'ratio':>7}{'eager MiB':>11}{'graph MiB':>11}"
    )
    for name, depth, models in CASES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            compiled = run(COMPILE, depth, models, folder)
            other = by_exporter(depth, models, folder) if exporter else "-"
            eager, graph = best(EAGER, depth, models, folder), best(GRAPH, depth, models, folder)
        print(
            f"{name:<13}{depth:>6}{compiled['nodes']:>7}{compiled['seconds']:>11.1f}{other:>14}"
            f"{eager['ms']:>10.1f}{graph['ms']:>10.1f}{graph['ms'] / eager['ms']:>7.2f}"
            f"{eager['mib']:>11.0f}{graph['mib']:>11.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

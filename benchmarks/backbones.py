"""The two backbones on the digits: size, arithmetic, accuracy of each exit, time of a step.

Both are trained centrally on 1,200 of the 1,797 digits (`--epochs`, 20 unless told) and judged on
the rest. Times are the least CPU time of a training step of batch 16 on one thread, by onnxruntime
and by eager PyTorch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import onnxruntime
import torch

from export.programs import build_program, example_inputs, flat_step
from reefleet.datasets.digits import digits
from reefleet.datasets.pack import normalized
from reefleet.learning.network import Network
from reefleet.learning.objectives import Settings
from reefleet.learning.objectives.exits import Recipe, exits_objective
from reefleet.learning.pretraining import Pretraining, accuracy, pretrain
from reefleet.model import (
    ConvGeometry,
    ModelSpec,
    Preprocessing,
    forward_macs,
    packed_bytes,
    parameter_count,
)

VIT = ModelSpec(8, 2, 1, 48, 4, 6, 10, (1, 2, 4, 6))
CONV = ModelSpec(
    8,
    1,
    1,
    48,
    1,
    6,
    10,
    (1, 2, 4, 6),
    conv=ConvGeometry(12, (12, 12, 24, 24, 32, 32), (1, 1, 2, 1, 2, 1)),
)
SEEN, BATCH, STEPS = 1200, 16, 30


def step_ms(spec: ModelSpec) -> tuple[float, float]:
    """CPU milliseconds of ReeFL's step at full depth: onnxruntime, eager."""
    objective = exits_objective(Recipe("reefl", Network(spec)), spec.depth, 1, Settings())
    inputs = example_inputs(objective, spec, BATCH)
    graph = build_program(objective, spec, BATCH, "step").graph.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options)
    arrays = {name: value.numpy() for name, value in inputs.items()}
    step = flat_step(objective)
    return _least(lambda: session.run(None, arrays)), _least(lambda: step(inputs))


def _least(run: Callable[[], object]) -> float:
    times = []
    for _ in range(STEPS):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return 1000 * min(times)


def main() -> None:
    """Print one line a backbone."""
    torch.set_num_threads(1)
    epochs = int(sys.argv[sys.argv.index("--epochs") + 1]) if "--epochs" in sys.argv else 20
    raw, labels = digits()
    order = np.random.default_rng(0).permutation(len(labels))
    images = torch.from_numpy(normalized(raw, Preprocessing(8, 1, 0.305, 0.376)))[order]
    answers = torch.from_numpy(labels)[order]
    names = f"{'backbone':<10}{'weights':>9}{'MMAC':>7}{'KiB, 4 bits':>13}"
    print(f"{names}{'step ms':>9}{'eager':>7}  accuracy by exit")
    for spec in (VIT, CONV):
        weights = pretrain(
            spec, images[:SEEN], answers[:SEEN], 0, Pretraining(epochs=epochs), lambda *_: None
        )
        found = accuracy(weights, spec, spec.depth, images[SEEN:], answers[SEEN:])
        graph, eager = step_ms(spec)
        told = "  ".join(f"{share:.1%}" for share in found)
        size = packed_bytes(spec, spec.depth, 4) / 1024
        macs = forward_macs(spec, spec.depth) / 1e6
        print(
            f"{spec.kind:<10}{parameter_count(spec):>9,}{macs:>7.2f}{size:>13.1f}"
            f"{graph:>9.1f}{eager:>7.1f}  {told}",
            flush=True,
        )


if __name__ == "__main__":
    main()

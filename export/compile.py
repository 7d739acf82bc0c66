"""Compiling a task bundle: the graphs of one plan, without weights, deterministic in its inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from export.bundle import entries, write_bundle
from export.programs import build_program, first_values, objectives_for
from export.stages import predict_graph, stage_graphs
from reefleet.learning.objectives import Settings
from reefleet.model import ModelContract, tensor_shapes
from reefleet.plan import SubmodelPlan
from reefleet.wire.manifest import Predict, Program, TaskBundle

PREDICT_BATCH = 32
PRODUCER = "reefleet compiler 1"
PROGRAM_FILES = {"federate": "train.onnx", "personalize": "personalize.onnx"}
INIT_FILE = "init.safetensors"
PREDICT_FILE = "predict.onnx"


def compile_task(
    contract: ModelContract, plan: SubmodelPlan, folder: Path, settings: Settings | None = None
) -> str:
    """Build the bundle of `plan` in `folder`; gives the manifest's sha256. Raises ExportError."""
    from safetensors.numpy import save

    torch.set_num_threads(1)  # several compilers may run beside a daemon
    spec, depth = contract.spec, plan.exit_depth
    spec.exits_within(depth)
    files: dict[str, bytes] = {}
    programs: dict[str, Program] = {}
    first: dict[str, NDArray[np.float32]] = {}
    for name, objective in objectives_for(spec, plan, settings or Settings()).items():
        built = build_program(objective, spec, plan.batch_size, PROGRAM_FILES[name])
        programs[name] = built.contract
        files[built.contract.file] = built.graph.SerializeToString(deterministic=True)
        first |= first_values(objective)
    files[INIT_FILE] = save(first)
    files[PREDICT_FILE] = predict_graph(spec, depth, PREDICT_BATCH).SerializeToString(
        deterministic=True
    )
    stages = stage_graphs(spec, depth, quantized=True)
    files |= {stage.file: graph.SerializeToString(deterministic=True) for stage, graph in stages}
    manifest = TaskBundle(
        model=spec,
        plan=plan,
        programs=programs,
        predict=Predict(PREDICT_FILE, PREDICT_BATCH, tuple(tensor_shapes(spec, depth))),
        stages=tuple(stage for stage, _ in stages),
        labels=contract.labels,
        preprocessing=contract.preprocessing,
        files=entries(files),
        producer=PRODUCER,
    )
    return write_bundle(folder, manifest, files)

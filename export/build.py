"""Building the sub-model of a board from a checkpoint: cut, quantize, check, calibrate, write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from reefleet.learning.thresholds import choose, confidence, exits_taken

from export.bundle import entries, write_bundle
from export.parity import ExitParity, check_stages, run_stages, torch_logits
from export.quantize import quantize
from export.stages import stage_graphs
from reefleet.datasets.pack import Part, normalized
from reefleet.errors import DataTooSmall
from reefleet.model import ModelContract, parameter_count
from reefleet.plan import SubmodelPlan
from reefleet.wire.checkpoint import Weights
from reefleet.wire.manifest import SubmodelBundle
from reefleet.wire.tensors import Float32Tensor, pack_tensors

WEIGHTS_FILE = "weights.rft"
PARITY_SAMPLES = 64


@dataclass(frozen=True, slots=True)
class Built:
    """What a build measured: parity, accuracy on the validation samples, sizes."""

    manifest_sha256: str
    exits: tuple[ExitParity, ...]
    float_accuracy: tuple[float, ...]
    accuracy: tuple[float, ...]
    early_exit_accuracy: float
    mean_exit_depth: float
    packed_bytes: int
    float32_bytes: int


def build_submodel(
    contract: ModelContract,
    weights: Weights,
    plan: SubmodelPlan,
    validation: Part,
    folder: Path,
    source: str,
) -> Built:
    """Write the bundle of `plan` cut from `weights`; nothing is left where a check fails.

    Raises DataTooSmall without validation samples, ParityFailure where a stage in its runtime
    disagrees with torch.
    """
    spec, depth = contract.spec, plan.exit_depth
    if not len(validation):
        msg = "the data hold no validation samples; thresholds need at least one"
        raise DataTooSmall(msg)
    validation.require(spec, "validation")
    images = normalized(validation.images, contract.preprocessing)
    tensors = quantize(weights, spec, depth, plan.bits)
    built = stage_graphs(spec, depth, quantized=True)
    stages = tuple(stage for stage, _ in built)
    files = {stage.file: graph.SerializeToString(deterministic=True) for stage, graph in built}
    parity = check_stages(stages, files, tensors, spec, images[:PARITY_SAMPLES], quantized=True)
    logits = run_stages(stages, files, tensors, images)
    hits = logits.argmax(-1) == validation.labels[:, None]  # [N, E]
    thresholds = choose(confidence(logits), hits)
    taken = exits_taken(confidence(logits), thresholds)
    files[WEIGHTS_FILE] = pack_tensors(tensors)
    manifest = SubmodelBundle(
        model=spec,
        plan=plan,
        stages=stages,
        weights=WEIGHTS_FILE,
        thresholds=thresholds,
        labels=contract.labels,
        preprocessing=contract.preprocessing,
        files=entries(files),
        provenance={"checkpoint": source},
    )
    plain = {name: Float32Tensor(weights[name]) for name in tensors}
    float_hits = torch_logits(plain, spec, depth, images).argmax(-1) == validation.labels[:, None]
    return Built(
        manifest_sha256=write_bundle(folder, manifest, files),
        exits=tuple(parity),
        float_accuracy=tuple(float(a) for a in float_hits.mean(0)),
        accuracy=tuple(float(a) for a in hits.mean(0)),
        early_exit_accuracy=float(hits[np.arange(len(hits)), taken].mean()),
        mean_exit_depth=float(np.asarray([s.exit_depth for s in stages])[taken].mean()),
        packed_bytes=len(files[WEIGHTS_FILE]),
        float32_bytes=4 * parameter_count(spec),
    )

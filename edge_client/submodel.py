"""The sub-model bundle: stage graphs, packed weights and thresholds in one folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_client import folder, snapping
from edge_client.bundle import Bundle
from edge_client.config import Calibration
from edge_client.inference import MANIFEST_FILE, EarlyExitModel
from reefleet.blobs import sha256_hex, write_atomic
from reefleet.datasets.pack import Part, normalize
from reefleet.errors import TensorMismatch
from reefleet.learning import thresholds
from reefleet.model import tensor_shapes
from reefleet.wire import codebook
from reefleet.wire.manifest import FileEntry, SubmodelBundle, submodel_from_bytes, to_bytes
from reefleet.wire.tensors import CodebookTensor, EncodedTensor, Float32Tensor, pack_tensors

WEIGHTS_FILE = "weights.rft"

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a sub-model comes from; it travels as the bundle's provenance."""

    device: str
    base_version: int
    lease: str


def build(target: Path, bundle: Bundle, state: Arrays, origin: Origin) -> Path:
    """Write everything but the thresholds beside `target`; the folder that `publish` moves in.

    `state` holds `personal/NAME` weights and `centers/NAME` codebooks. Raises TensorMismatch where
    a tensor of the sub-model is missing.
    """
    manifest = bundle.manifest
    packed = pack_tensors(_encoded(bundle, state))
    files = {stage.file: bundle.read(stage.file) for stage in manifest.stages}
    files[WEIGHTS_FILE] = packed
    built = SubmodelBundle(
        model=manifest.model,
        plan=manifest.plan,
        stages=manifest.stages,
        weights=WEIGHTS_FILE,
        thresholds=(*[thresholds.NEVER] * (len(manifest.stages) - 1), 0.0),
        labels=manifest.labels,
        preprocessing=manifest.preprocessing,
        files={name: FileEntry(sha256_hex(data), len(data)) for name, data in files.items()},
        provenance={
            "base_version": str(origin.base_version),
            "device": origin.device,
            "lease": origin.lease,
            "task_bundle": bundle.digest,
        },
    )
    building = folder.begin(target)
    for name, data in files.items():
        write_atomic(building / name, data)
    write_atomic(building / MANIFEST_FILE, to_bytes(built))
    return building


def calibrate(
    building: Path,
    validation: Part,
    settings: Calibration,
    threads: int,
    check: Callable[[], None],
) -> EarlyExitModel:
    """Choose thresholds on `validation`, write them into the manifest, give the opened model."""
    model = EarlyExitModel.open(building, threads)
    pre = model.manifest.preprocessing
    image = np.empty((1, *validation.images.shape[1:]), np.float32)
    rows = []
    for pixels in validation.images:
        check()
        normalize(pixels[None], pre, image)
        rows.append(model.logits(image))
    logits = np.stack(rows)  # N E classes
    hits = logits.argmax(axis=2) == validation.labels[:, None]
    model.thresholds = thresholds.choose(
        thresholds.confidence(logits),
        hits,
        settings.tolerance,
        settings.least_samples,
        settings.margin,
    )
    manifest = submodel_from_bytes((building / MANIFEST_FILE).read_bytes())
    write_atomic(building / MANIFEST_FILE, to_bytes(replace(manifest, thresholds=model.thresholds)))
    return model


def publish(target: Path) -> None:
    """Put the built bundle at `target` in place of the one before."""
    folder.publish(target)


def _encoded(bundle: Bundle, state: Arrays) -> dict[str, EncodedTensor]:
    plan = bundle.manifest.plan
    weights, books = snapping.personal(state), snapping.coded(state)
    encoded: dict[str, EncodedTensor] = {}
    for name, shape in tensor_shapes(bundle.manifest.model, plan.exit_depth).items():
        value = weights.get(name)
        if value is None or value.shape != shape:
            msg = f"the personal model holds no {name!r} of shape {shape}"
            raise TensorMismatch(msg)
        if name in books:
            grid = codebook.snap(books[name])
            codes = codebook.assign(value, grid.centers)
            encoded[name] = CodebookTensor(codes, plan.bits, grid)
        else:
            encoded[name] = Float32Tensor(value)
    return encoded

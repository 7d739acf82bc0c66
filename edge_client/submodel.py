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
from reefleet.errors import TensorMismatch, WireError
from reefleet.learning import thresholds
from reefleet.model import tensor_shapes
from reefleet.wire import codebook
from reefleet.wire.manifest import FileEntry, SubmodelBundle
from reefleet.wire.manifest_json import submodel_from_bytes, to_bytes
from reefleet.wire.tensors import CodebookTensor, EncodedTensor, Float32Tensor, pack_tensors

WEIGHTS_FILE = "weights.rft"
BEFORE = ".before"

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
    """Put the built bundle at `target`; the one before is kept beside it for a way back.

    What the same work built earlier, before a crash, is no way back and is dropped.
    """
    built, in_place = origin_of(folder.building(target)), origin_of(target)
    is_repeated = built is not None and built == in_place
    folder.publish(target, None if is_repeated else before(target))


def discard(target: Path) -> None:
    """Drop what was built; the bundle at `target` stays."""
    folder.discard(target)


def bring_back(target: Path) -> None:
    """Exchange the bundle at `target` with the one that it replaced."""
    folder.swap(target, before(target))


def before(target: Path) -> Path:
    """Where the bundle lies that the one at `target` replaced."""
    return target.with_name(target.name + BEFORE)


def origin_of(bundle: Path) -> Origin | None:
    """Where the bundle in this folder comes from; None where there is none to be read."""
    try:
        told = submodel_from_bytes((bundle / MANIFEST_FILE).read_bytes()).provenance
        return Origin(told["device"], int(told["base_version"]), told["lease"])
    except (OSError, WireError, KeyError, ValueError):
        return None


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
            encoded[name] = CodebookTensor(codes, len(grid.steps).bit_length() - 1, grid)
        else:
            encoded[name] = Float32Tensor(value)
    return encoded

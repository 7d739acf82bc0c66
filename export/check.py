"""Verifying a bundle again: digests, schemas, rules, weights bit for bit, parity on its samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from export import tensorrt
from export.bundle import MANIFEST
from export.parity import check_variant, compare, run_stages, torch_logits
from export.readback import onnx_steps, tflite_steps
from export.runtimes import LITERT, TENSORRT
from export.tflite.graph import FILE_IDENTIFIER
from export.weights import grid_of, grid_steps
from reefleet.blobs import sha256_hex
from reefleet.datasets.pack import load_parts, normalized
from reefleet.errors import (
    ChecksumMismatch,
    DataTooSmall,
    ExportError,
    MissingFile,
    ParityFailure,
    UnsupportedVersion,
)
from reefleet.model import parameter_count
from reefleet.wire.manifest import SubmodelBundle, Variant
from reefleet.wire.manifest_json import submodel_from_bytes
from reefleet.wire.tensors import CodebookTensor, EncodedTensor, unpack_tensors

SAMPLES = "sample"
_IDENTIFIER_AT = 4
_INVALID = (DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError)


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that holds, in words, for a subject of the bundle."""

    subject: str
    finding: str


def read_bundle(folder: Path) -> tuple[SubmodelBundle, dict[str, bytes]]:
    """Manifest and files, each the one that the manifest names.

    Raises MissingFile or ChecksumMismatch naming the file, or WireError for the manifest.
    """
    try:
        manifest = submodel_from_bytes((folder / MANIFEST).read_bytes())
        files = {name: (folder / name).read_bytes() for name in manifest.files}
    except OSError as error:
        msg = f"{error.filename} cannot be read: {error.strerror}"
        raise MissingFile(msg) from error
    for name, entry in manifest.files.items():
        if sha256_hex(files[name]) != entry.sha256:
            msg = f"{folder / name} is not the file that the manifest names"
            raise ChecksumMismatch(msg)
    return manifest, files


def check_bundle(folder: Path, tell: Callable[[Checked], None]) -> None:
    """Verify everything, telling each finding; raises a ReefleetError for the first that fails.

    Weights differing from the packed codes and logits outside tolerance raise ParityFailure.
    """
    manifest, files = read_bundle(folder)
    size = sum(len(data) for data in files.values())
    tell(Checked("digests", f"{len(files)} files, {size:,} bytes"))
    _check_schemas(manifest, files)
    tell(Checked("schemas", "every graph is well-formed"))
    depth = manifest.plan.exit_depth
    tensors = unpack_tensors(files[manifest.weights], 4 * parameter_count(manifest.model))
    images, stored = _samples(folder, manifest)
    torch = torch_logits(tensors, manifest.model, depth, images)
    named = [(stage.file, stage.exit_depth) for stage in manifest.stages]
    compare([(manifest.samples, d) for _, d in named], stored, torch, exact=True)
    found = run_stages(manifest.stages, files, tensors, images)
    worst = max(r.relative_error for r in compare(named, found, torch, exact=False))
    tell(Checked("stages", f"parity on {len(images)} samples, largest error {worst:.2%}"))
    depths = [depth for _, depth in named]
    for variant in manifest.variants:
        words = [_check_rules(manifest, variant, files), _check_weights(variant, files, tensors)]
        results = check_variant(variant, files, depths, images, torch)
        words.append(f"parity, largest error {max(r.relative_error for r in results):.2%}")
        tell(Checked(variant.name, "; ".join(word for word in words if word)))


def _check_schemas(manifest: SubmodelBundle, files: Mapping[str, bytes]) -> None:
    for variant in manifest.variants:
        for name in variant.files:
            if variant.runtime != LITERT:
                _check_onnx(name, files[name])
            elif files[name][_IDENTIFIER_AT:][:4] != FILE_IDENTIFIER:
                msg = f"{name} is no TFLite file"
                raise ExportError(msg)


def _check_onnx(name: str, data: bytes) -> None:
    try:
        onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    except _INVALID as error:
        msg = f"{name} is not a valid ONNX model: {error}"
        raise ExportError(msg) from error


def _check_rules(manifest: SubmodelBundle, variant: Variant, files: Mapping[str, bytes]) -> str:
    if variant.runtime != TENSORRT:
        return ""
    parser = tensorrt.PARSERS.get(manifest.provenance.get("jetpack", ""))
    if parser is None:
        msg = f"the bundle does not say a JetPack that is known, so {variant.name} is not checked"
        raise UnsupportedVersion(msg)
    for name in variant.files:
        tensorrt.check(onnx.load_from_string(files[name]), parser, name)
    return f"rules of {parser.label}"


def _check_weights(
    variant: Variant, files: Mapping[str, bytes], tensors: Mapping[str, EncodedTensor]
) -> str:
    read = tflite_steps if variant.runtime == LITERT else onnx_steps
    same_as: set[str] = set()
    for file in variant.files:
        for name, (steps, scale) in read(files[file]).items():
            tensor = tensors[name]
            if not isinstance(tensor, CodebookTensor):
                continue
            same = np.array_equal(steps, grid_steps(name, tensor))
            grid = np.float32(grid_of(name, tensor).scale)
            if not same or (steps.any() and np.float32(scale) != grid):
                msg = f"{file}: the weights of {name!r} are not the packed codes"
                raise ParityFailure(msg)
            same_as.add(name)
    return f"{len(same_as)} weights equal the packed codes" if same_as else ""


def _samples(
    folder: Path, manifest: SubmodelBundle
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if not manifest.samples:
        msg = f"{folder} holds no samples to check against; a device's own bundle has none"
        raise DataTooSmall(msg)
    (part,) = load_parts(folder / manifest.samples, (SAMPLES,))
    part.require(manifest.model, SAMPLES)
    with np.load(folder / manifest.samples, allow_pickle=False) as arrays:
        stored = np.asarray(arrays["logits"], np.float32)
    return normalized(part.images, manifest.preprocessing), stored

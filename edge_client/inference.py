"""Answers from a sub-model bundle: stage by stage, leaving at the first confident exit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_client.chain import OnnxChain
from edge_client.geometry import require_agreement
from edge_client.tflite import TfliteChain
from reefleet.blobs import sha256_hex
from reefleet.errors import (
    ChecksumMismatch,
    InputError,
    MissingFile,
    TensorMismatch,
    TruncatedPayload,
)
from reefleet.learning.thresholds import confidence
from reefleet.model import parameter_count, tensor_shapes
from reefleet.wire.initializers import Initializers
from reefleet.wire.layout import MAX_HEADER_BYTES
from reefleet.wire.manifest import FileEntry, SubmodelBundle
from reefleet.wire.manifest_json import MAX_MANIFEST_BYTES, submodel_from_bytes
from reefleet.wire.tensors import EncodedTensor, unpack_tensors

MANIFEST_FILE = "manifest.json"
MAX_GRAPH_BYTES = 256 << 20
ONNXRUNTIME, LITERT = ENGINES = ("onnxruntime", "litert")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: what, how sure, after how many blocks, in what time."""

    label: str
    class_index: int
    confidence: float
    exit_depth: int
    milliseconds: float


class EarlyExitModel:
    """A sub-model ready to answer."""

    def __init__(self, manifest: SubmodelBundle, chain: _Chain) -> None:
        """Take the opened stages."""
        self.manifest = manifest
        self.thresholds = manifest.thresholds
        self._chain = chain
        self._image_shape = (1, *manifest.preprocessing.shape)

    @classmethod
    def open(cls, folder: Path, threads: int = 1, engine: str = ONNXRUNTIME) -> EarlyExitModel:
        """Open a bundle folder; every file is checked against its digest before it is used.

        `engine` litert answers from the .tflite file of stages. Raises MissingFile,
        ChecksumMismatch, UnsupportedVersion, WireError where graphs, weights and manifest disagree,
        InputError where the bundle holds no stages for the engine, RuntimeUnavailable without its
        wheel.
        """
        if not (folder / MANIFEST_FILE).is_file():
            msg = f"{folder} is no sub-model bundle: it has no {MANIFEST_FILE}"
            raise MissingFile(msg)
        manifest = submodel_from_bytes(_bounded(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES))
        require_agreement(manifest)
        opened = _tflite_chain if engine == LITERT else _onnx_chain
        return cls(manifest, opened(folder, manifest, threads))

    @property
    def exit_depths(self) -> tuple[int, ...]:
        """Blocks kept at each exit, shallow to deep."""
        return tuple(stage.exit_depth for stage in self.manifest.stages)

    def answer(self, image: NDArray[np.float32], *, full_depth: bool = False) -> Answer:
        """Answer one normalised image [1, C, H, W]; `full_depth` ignores all thresholds."""
        self._require_image(image)
        begun = time.perf_counter()
        last = len(self.exit_depths) - 1
        for index, (logits,) in enumerate(self._chain.exits(image)):
            if full_depth and index < last:
                continue
            sure = float(confidence(logits))
            if index == last or sure >= self.thresholds[index]:
                break
        elapsed = (time.perf_counter() - begun) * 1000
        chosen = int(logits.argmax())
        label = self.manifest.labels[chosen]
        return Answer(label, chosen, sure, self.exit_depths[index], elapsed)

    def logits(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [E, classes] of every exit for one normalised image [1, C, H, W]."""
        self._require_image(image)
        return np.concatenate(list(self._chain.exits(image)))

    def _require_image(self, image: NDArray[np.float32]) -> None:
        if image.shape != self._image_shape or image.dtype != np.float32:
            msg = f"the model reads float32 {self._image_shape}, found {image.dtype} {image.shape}"
            raise InputError(msg)


class _Chain(Protocol):
    """The stages, in whichever runtime."""

    def exits(self, image: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Logits [1, classes] of one exit after the other; raises WireError."""


def _onnx_chain(folder: Path, manifest: SubmodelBundle, threads: int) -> OnnxChain:
    named = {manifest.weights, *(stage.file for stage in manifest.stages)}
    files = {name: _verified(folder / name, manifest.files[name]) for name in sorted(named)}
    forms = Initializers(_checked_weights(manifest, files[manifest.weights]))
    chain = OnnxChain((1, *manifest.preprocessing.shape), len(manifest.labels), threads)
    for stage in manifest.stages:
        chain.add(stage.file, files[stage.file], forms.of(stage.initializers))
    return chain


def _tflite_chain(folder: Path, manifest: SubmodelBundle, threads: int) -> TfliteChain:
    fitting = (v for v in manifest.variants if v.runtime == LITERT and v.staged and v.batch == 1)
    variant = next(fitting, None)
    if variant is None or len(variant.files) != 1:
        msg = f"{folder} holds no TFLite stages; build it with --format tflite"
        raise InputError(msg)
    (name,) = variant.files
    data = _verified(folder / name, manifest.files[name])
    return TfliteChain(name, data, len(manifest.stages), len(manifest.labels), threads)


def _checked_weights(manifest: SubmodelBundle, data: bytes) -> dict[str, EncodedTensor]:
    model, depth = manifest.model, manifest.plan.exit_depth
    tensors = unpack_tensors(data, 4 * parameter_count(model, depth))
    expected = tensor_shapes(model, depth)
    for name in sorted(expected.keys() ^ tensors.keys()):
        state = "missing" if name in expected else "unknown"
        msg = f"tensor {name!r} of {manifest.weights} is {state}"
        raise TensorMismatch(msg)
    for name, tensor in tensors.items():
        if tensor.shape != expected[name]:
            msg = f"tensor {name!r} has shape {tensor.shape}, the model needs {expected[name]}"
            raise TensorMismatch(msg)
    return tensors


def _verified(path: Path, entry: FileEntry) -> bytes:
    data = _bounded(path, min(entry.size_bytes, MAX_GRAPH_BYTES + MAX_HEADER_BYTES))
    if len(data) < entry.size_bytes:
        msg = f"{path} has {len(data)} bytes, the manifest says {entry.size_bytes}"
        raise TruncatedPayload(msg)
    if sha256_hex(data) != entry.sha256:
        msg = f"{path} is not the file that the manifest names; fetch the bundle again"
        raise ChecksumMismatch(msg)
    return data


def _bounded(path: Path, max_bytes: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > max_bytes:
            msg = f"{path} has {size} bytes, {max_bytes} were expected"
            raise ChecksumMismatch(msg)
        return path.read_bytes()
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise MissingFile(msg) from error

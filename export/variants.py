"""Building the variants of one sub-model: its traces lowered into every form that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from export import tensorrt
from export.lowering import lower
from export.onnx_graph import OPSET
from export.stages import MODEL, Part, model_part, stage_parts
from export.static_quantization import Calibration, StaticQdq
from export.targets import Form
from export.tensorrt import Parser
from export.tflite.graph import SIGNATURE
from export.tflite.lowering import lower_tflite
from export.weights import Embedded, EmbeddedInt8, Packed, WeightForm
from reefleet.errors import ConfigError
from reefleet.model import ModelSpec
from reefleet.wire.manifest import Variant
from reefleet.wire.tensors import EncodedTensor


@dataclass(frozen=True, slots=True)
class SubModel:
    """What every variant is built from: geometry, packed tensors, what calibration saw.

    `batch` is of the one-file graphs.
    """

    spec: ModelSpec
    depth: int
    tensors: Mapping[str, EncodedTensor]
    batch: int = 1
    calibration: Calibration | None = None
    parser: Parser | None = None


def build_variant(model: SubModel, form: Form) -> tuple[Variant, dict[str, bytes]]:
    """One variant and its files by name.

    Raises ExportError where the network cannot be said in that form, RuleBroken where TensorRT
    would refuse it.
    """
    # A chain leaves early, which images of a batch would not do together.
    batch = 1 if form.staged else model.batch
    parts: Sequence[Part] = (
        stage_parts(model.spec, model.depth)
        if form.staged
        else (model_part(model.spec, model.depth, batch),)
    )
    if form.format == "tflite":
        files = {_tflite_file(form): _tflite(model, form, parts)}
    else:
        files = {_file(part, form): _lowered(model, form, part) for part in parts}
    variant = Variant(form.name, form.runtime, form.form, tuple(files), form.staged, batch)
    return variant, files


def _tflite_file(form: Form) -> str:
    return f"{'stages' if form.staged else MODEL}.{form.form}.tflite"


def _tflite(model: SubModel, form: Form, parts: Sequence[Part]) -> bytes:
    """One file of one interpreter: stages of their own would each have threads that spin."""
    traces = {part.name if form.staged else SIGNATURE: part.trace for part in parts}
    return lower_tflite(traces, model.tensors, form.form)


def _file(part: Part, form: Form) -> str:
    prefix = "tensorrt-" if form.format == "tensorrt" else ""
    return f"{part.name}.{prefix}{form.form}.onnx"


def _lowered(model: SubModel, form: Form, part: Part) -> bytes:
    opset = OPSET if model.parser is None or form.format == "onnx" else model.parser.opset
    graph = lower(part.trace, part.name, _weights(model, form), opset=opset)
    if form.format == "tensorrt" and model.parser is not None:
        tensorrt.check(graph, model.parser, _file(part, form))
    data: bytes = graph.SerializeToString(deterministic=True)
    return data


def _weights(model: SubModel, form: Form) -> WeightForm:
    if form.form == "float32":
        return Embedded(model.tensors)
    if form.form == "int8":
        return EmbeddedInt8(model.tensors)
    if form.form == "packed":
        return Packed(model.tensors)
    if form.form == "qdq" and model.calibration is not None and model.parser is not None:
        return StaticQdq(model.tensors, model.calibration, float_weights=model.parser.float_weights)
    msg = f"the form {form.name} needs calibration samples and a TensorRT version"
    raise ConfigError(msg)

"""Quantized weights read back from built files: grid steps [out, in] and scale by tensor name."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.tflite.graph import schema
from reefleet.wire.bitpack import unpack

Steps = dict[str, tuple[NDArray[np.int8], float]]


def onnx_steps(data: bytes) -> Steps:
    """Steps of an int8, packed or Q/DQ graph; empty for a float one."""
    graph = onnx.load_from_string(data).graph
    arrays = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_location != onnx.TensorProto.EXTERNAL
    }
    shapes = _gathered_shapes(graph, arrays)
    found: Steps = {}
    for name in (key.removesuffix(".scale") for key in arrays if key.endswith(".scale")):
        scale = float(arrays[f"{name}.scale"])
        if f"{name}.codes" in arrays:
            shape, centers = shapes[name], arrays[f"{name}.centers"]
            bits = len(centers).bit_length() - 1
            codes = unpack(arrays[f"{name}.codes"].tobytes(), bits, int(np.prod(shape)))
            steps = centers[codes].reshape(shape)
        elif f"{name}.float" in arrays:
            steps = np.rint(arrays[f"{name}.float"] / np.float32(scale)).astype(np.int8)
        else:
            steps = arrays[f"{name}.weight"] if f"{name}.weight" in arrays else arrays[name]
        found[name] = (np.ascontiguousarray(steps.T), scale)
    return found


def tflite_steps(data: bytes) -> Steps:
    """Steps of the integer weights of a TFLite file, by the name their tensors have."""
    made = schema()
    model = made.ModelT.InitFromPackedBuf(data, 0)
    kinds = {made.TensorType.INT8: np.int8, made.TensorType.INT4: None}
    found: Steps = {}
    for tensor in model.subgraphs[0].tensors:
        if tensor.type not in kinds or tensor.quantization is None:
            continue
        raw = np.asarray(model.buffers[tensor.buffer].data, np.uint8)
        flat = _nibbles(raw) if tensor.type == made.TensorType.INT4 else raw.view(np.int8)
        shape = tuple(int(extent) for extent in tensor.shape)
        steps = flat[: int(np.prod(shape))].reshape(shape)
        found[tensor.name.decode()] = (steps, float(tensor.quantization.scale[0]))
    return found


def _gathered_shapes(graph: onnx.GraphProto, arrays: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    makers = {output: node for node in graph.node for output in node.output}
    shapes = {}
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0].endswith(".centers"):
            shape = arrays[makers[node.input[1]].input[1]]
            shapes[node.output[0]] = tuple(int(extent) for extent in shape)
    return shapes


def _nibbles(raw: NDArray[np.uint8]) -> NDArray[np.int8]:
    pairs = np.stack([raw & 0xF, raw >> 4], -1).reshape(-1).astype(np.int8)
    return np.where(pairs > 7, pairs - 16, pairs).astype(np.int8)

"""Quantized weights read back from built files: grid steps [out, in] and scale by tensor name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.tflite.graph import schema
from export.weights import planes
from reefleet.errors import ParityFailure
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
    shapes = _stored_shapes(graph, arrays)
    found: Steps = {}
    for name in (key.removesuffix(".scale") for key in arrays if key.endswith(".scale")):
        scale = float(arrays[f"{name}.scale"])
        if f"{name}.centers" in arrays:
            steps = _looked_up(name, arrays, shapes[name])
        elif f"{name}.float" in arrays:
            steps = np.rint(arrays[f"{name}.float"] / np.float32(scale)).astype(np.int8)
        else:
            steps = arrays[f"{name}.weight"] if f"{name}.weight" in arrays else arrays[name]
        found[name] = (np.ascontiguousarray(steps.T), scale)
    return found


def tflite_steps(data: bytes) -> Steps:
    """Steps of the integer weights of a TFLite file, by the name their tensors have.

    Raises ParityFailure where two subgraphs hold different weights of one name.
    """
    made = schema()
    model = made.ModelT.InitFromPackedBuf(data, 0)
    found: Steps = {}
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        if tensor.type not in {made.TensorType.INT8, made.TensorType.INT4}:
            continue
        raw = np.asarray(model.buffers[tensor.buffer].data, np.uint8)
        flat = _nibbles(raw) if tensor.type == made.TensorType.INT4 else raw.view(np.int8)
        shape = tuple(int(extent) for extent in tensor.shape)
        steps = flat[: int(np.prod(shape))].reshape(shape)
        name, scale = tensor.name.decode(), float(tensor.quantization.scale[0])
        before, same_scale = found.setdefault(name, (steps, scale))
        if scale != same_scale or not np.array_equal(steps, before):
            msg = f"two stages hold different weights {name!r}"
            raise ParityFailure(msg)
    return found


def _looked_up(
    name: str, arrays: Mapping[str, NDArray[Any]], shape: tuple[int, ...]
) -> NDArray[Any]:
    count, centers = int(np.prod(shape)), arrays[f"{name}.centers"]
    bits = len(centers).bit_length() - 1
    if f"{name}.codes" in arrays:
        codes = unpack(arrays[f"{name}.codes"].tobytes(), bits, count)
    else:
        codes = np.zeros(count, np.uint8)
        for width, offset in planes(bits):
            stream = arrays[f"{name}.codes.{width}"].tobytes()
            codes |= (unpack(stream, width, count) << offset).astype(np.uint8)
    found: NDArray[Any] = centers[codes].reshape(shape)
    return found


def _stored_shapes(graph: onnx.GraphProto, arrays: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights that are unpacked, by the last Reshape between codes and product."""
    unpacked = {name: name.partition(".codes")[0] for name in arrays if ".codes" in name}
    shapes: dict[str, tuple[int, ...]] = {}
    for node in graph.node:
        weight = next((unpacked[name] for name in node.input if name in unpacked), None)
        if weight is None or node.op_type == "MatMulInteger":
            continue
        unpacked[node.output[0]] = weight
        if node.op_type == "Reshape":
            shapes[weight] = tuple(int(extent) for extent in arrays[node.input[1]])
    return shapes


def _nibbles(raw: NDArray[np.uint8]) -> NDArray[np.int8]:
    pairs = np.stack([raw & 0xF, raw >> 4], -1).reshape(-1).astype(np.int8)
    return np.where(pairs > 7, pairs - 16, pairs).astype(np.int8)

"""A small builder of TFLite models over the maintained schema: a signature for each subgraph.

Subgraphs share what is stored and, in the runtime, one pool of threads. Batch and shapes are fixed.
What runtimes are known to compute wrongly is refused here, because they raise no error themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import RuntimeUnavailable, UnsupportedOperator

Array = NDArray[Any]

FILE_IDENTIFIER = b"TFL3"
MODEL_VERSION = 3
SIGNATURE = "serving_default"

INT4 = "int4"
INT2 = "int2"
# Operators that multiply float activations by integer weights ("hybrid").
_HYBRID = frozenset({"FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"})


def schema() -> Any:
    """The generated schema module; raises RuntimeUnavailable naming the extra that brings it."""
    try:
        from ai_edge_litert import schema_py_generated
    except ModuleNotFoundError as error:
        msg = "writing .tflite files needs ai-edge-litert; run: pip install 'reefleet[export]'"
        raise RuntimeUnavailable(msg) from error
    return schema_py_generated


def require_right_results(op: str, kind: str, scales: Sequence[float]) -> None:
    """Raise UnsupportedOperator for integer weights that a runtime gets wrong in silence."""
    if op not in _HYBRID:
        return
    if len(scales) != 1:
        msg = (
            f"{op} with {kind} weights of {len(scales)} scales (per channel) gives garbage in "
            "tflite-runtime 2.14 without an error; use one scale a tensor"
        )
        raise UnsupportedOperator(msg)
    if kind == INT2 and op != "FULLY_CONNECTED":
        msg = f"{op} with int2 weights gives garbage and NaN in LiteRT 2.3 without an error"
        raise UnsupportedOperator(msg)


class TfliteFile:
    """Collects subgraphs and what they share: equal buffers are stored once."""

    def __init__(self) -> None:
        """Start an empty file."""
        self._schema = schema()
        self._buffers: dict[bytes, int] = {b"": 0}  # the schema's first buffer is nobody's
        self._codes: dict[tuple[int, int], int] = {}
        self._graphs: list[Any] = []
        self._signatures: list[Any] = []

    def buffer(self, data: bytes) -> int:
        """The buffer that holds these bytes."""
        return self._buffers.setdefault(data, len(self._buffers))

    def operator(self, op: int, version: int) -> int:
        """The code of an operator of that version."""
        return self._codes.setdefault((op, version), len(self._codes))

    def add(self, graph: Any, signature: Any) -> None:
        """Append a subgraph and the signature that names its inputs and outputs."""
        signature.subgraphIndex = len(self._graphs)
        self._graphs.append(graph)
        self._signatures.append(signature)

    def finish(self) -> bytes:
        """The file."""
        import flatbuffers

        made = self._schema
        stored = [np.frombuffer(data, np.uint8) for data in list(self._buffers)[1:]]
        model = made.ModelT(
            version=MODEL_VERSION,
            operatorCodes=[self._operator_code(*key) for key in self._codes],
            subgraphs=self._graphs,
            description="reefleet",
            buffers=[made.BufferT(), *(made.BufferT(data=data) for data in stored)],
            signatureDefs=self._signatures,
        )
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _operator_code(self, op: int, version: int) -> Any:
        # Old readers know only the byte-sized field, which holds 127 for newer operators.
        return self._schema.OperatorCodeT(
            deprecatedBuiltinCode=min(op, 127), builtinCode=op, version=version
        )


class TfliteBuilder:
    """Collects tensors and operators of one subgraph in order; `finish` adds it to the file."""

    def __init__(self, file: TfliteFile) -> None:
        """Start an empty subgraph of the file."""
        self._schema = schema()
        self._file = file
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], int] = {}
        self._inputs: dict[str, int] = {}

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Static shape of a tensor."""
        return tuple(self._tensors[tensor].shape)

    def input(self, name: str, shape: Sequence[int]) -> int:
        """Declare a float32 input of the subgraph."""
        self._inputs[name] = self._tensor(name, shape, "FLOAT32")
        return self._inputs[name]

    def constant(self, value: Array) -> int:
        """A float32 or int32 constant; equal ones are stored once."""
        array = np.asarray(value, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            kind = {"float32": "FLOAT32", "int32": "INT32"}[array.dtype.name]
            name = f"const_{len(self._tensors)}"
            self._constants[key] = self._tensor(name, array.shape, kind, array.tobytes())
        return self._constants[key]

    def weight(self, name: str, steps: Array, scales: Sequence[float], kind: str) -> int:
        """An integer weight steps * scale, `kind` int8 or int4; the caller names it once."""
        require_right_results("FULLY_CONNECTED", kind, scales)
        data = _nibbles(steps) if kind == INT4 else steps.astype(np.int8).tobytes()
        tensor = self._tensor(name, steps.shape, kind.upper(), data)
        self._tensors[tensor].quantization = self._schema.QuantizationParametersT(
            scale=[float(scale) for scale in scales], zeroPoint=[0] * len(scales)
        )
        return tensor

    def add(
        self,
        op: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        options: tuple[str, Mapping[str, Any]] | None = None,
        version: int = 1,
    ) -> int:
        """Append an operator with one float32 output of that shape."""
        made = self._tensor(f"{op.lower()}_{len(self._tensors)}", shape, "FLOAT32")
        call = self._schema.OperatorT()
        code = getattr(self._schema.BuiltinOperator, op)
        call.opcodeIndex = self._file.operator(code, version)
        call.inputs, call.outputs = list(inputs), [made]
        if options is not None:
            name, values = options
            call.builtinOptionsType = getattr(self._schema.BuiltinOptions, name)
            call.builtinOptions = getattr(self._schema, f"{name}T")(**values)
        self._operators.append(call)
        return made

    def finish(self, name: str, outputs: Mapping[str, int]) -> None:
        """Add the subgraph, with a signature of its name for inputs and outputs."""
        made = self._schema
        for output, tensor in outputs.items():
            self._tensors[tensor].name = output
        graph = made.SubGraphT(
            tensors=self._tensors,
            inputs=list(self._inputs.values()),
            outputs=list(outputs.values()),
            operators=self._operators,
            name=name,
        )
        signature = made.SignatureDefT(
            inputs=self._named(self._inputs), outputs=self._named(outputs), signatureKey=name
        )
        self._file.add(graph, signature)

    def _tensor(self, name: str, shape: Sequence[int], kind: str, data: bytes = b"") -> int:
        self._tensors.append(
            self._schema.TensorT(
                shape=[int(extent) for extent in shape],
                type=getattr(self._schema.TensorType, kind),
                buffer=self._file.buffer(data),
                name=name,
                hasRank=True,
            )
        )
        return len(self._tensors) - 1

    def _named(self, tensors: Mapping[str, int]) -> list[Any]:
        return [
            self._schema.TensorMapT(name=name, tensorIndex=tensor)
            for name, tensor in tensors.items()
        ]


def _nibbles(steps: Array) -> bytes:
    flat = np.ascontiguousarray(steps).reshape(-1).astype(np.int8).view(np.uint8) & 0xF
    padded = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    packed: bytes = (padded[0::2] | (padded[1::2] << 4)).astype(np.uint8).tobytes()
    return packed

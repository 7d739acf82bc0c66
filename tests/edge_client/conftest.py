"""A tiny fleet for the client's tests: hand-made graphs, a bundle, data, a coordinator in memory.

The model is a linear classifier on the mean row. Its graphs keep every convention of real ones:
all tensors of the sub-model are state, stages carry no weights, two exits, one int8 weight.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_client.client import Client
from edge_client.config import EdgeConfig
from edge_client.data import DeviceData
from edge_client.task import FEDERATE, Artifact, Finished, Next, Task
from edge_client.transfer import Chunks
from reefleet.blobs import sha256_hex
from reefleet.datasets.pack import Part
from reefleet.model import ModelSpec, Preprocessing, tensor_shapes
from reefleet.plan import SubmodelPlan
from reefleet.report import DeviceMetrics, EarlyExitReport
from reefleet.rpc import identity
from reefleet.rpc.limits import CHUNK_BYTES
from reefleet.wire import manifest as m
from reefleet.wire import manifest_json as mj
from reefleet.wire.tensors import Float32Tensor, pack_tensors

SPEC = ModelSpec(
    image_size=4,
    patch_size=2,
    channels=1,
    width=8,
    heads=1,
    depth=2,
    classes=3,
    exits=(1, 2),
    ree_heads=1,
    ree_width=4,
)
PRE = Preprocessing(4, 1, 0.5, 0.25)
PLAN = SubmodelPlan(2, bits=2, batch_size=4, local_epochs=2, models=1, codec="float32")
CODED = "blocks.1.mlp.fc1.weight"  # the one int8 weight a stage uses
TRAINED = ("patch_embed.weight", "head.weight", "head.bias")
KEY = identity.new_manifest_key()
FLOAT, INT64, INT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT8


def a_value(name: str, kind: int, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def a_graph(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], initializers: list[Any]
) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    return bytes(model.SerializeToString(deterministic=True))


def logits_nodes(weight: Callable[[str], str], rows: int) -> tuple[list[Any], list[Any]]:
    """Nodes from `image` to `pooled` [rows, 4], `hidden` [rows, 8] and `deep` [rows, 3]."""
    node = helper.make_node
    nodes = [
        node("Reshape", ["image", "patches"], ["tiles"]),
        node("ReduceMean", ["tiles", "axis"], ["pooled"], keepdims=0),
        node("Transpose", [weight("patch_embed.weight")], ["embed_t"], perm=[1, 0]),
        node("MatMul", ["pooled", "embed_t"], ["hidden"]),
        node("Transpose", [weight("head.weight")], ["head_t"], perm=[1, 0]),
        node("MatMul", ["hidden", "head_t"], ["plain"]),
        node("Add", ["plain", weight("head.bias")], ["deep"]),
    ]
    constants = [
        helper.make_tensor("patches", INT64, [3], [rows, 4, 4]),
        helper.make_tensor("axis", INT64, [1], [1]),
    ]
    return nodes, constants


def a_step_graph(program: m.Program, role: str) -> bytes:
    """Softmax regression by SGD on three tensors of `role`; every other state passes through."""
    rows = program.batch[0].shape[0]
    node = helper.make_node
    nodes, constants = logits_nodes(lambda name: f"{role}/{name}", rows)
    nodes += [
        node("LogSoftmax", ["deep"], ["log_p"], axis=1),
        node("Exp", ["log_p"], ["p"]),
        node("OneHot", ["label", "depth", "off_on"], ["hot"]),
        node("ReduceSum", ["mask", "first"], ["count"], keepdims=0),
        node("Div", ["mask", "count"], ["share"]),
        node("Unsqueeze", ["share", "axis"], ["share_2"]),
        node("Mul", ["hot", "log_p"], ["picked"]),
        node("Mul", ["picked", "share_2"], ["weighed"]),
        node("ReduceSum", ["weighed"], ["negative"], keepdims=0),
        node("Neg", ["negative"], ["metric.loss"]),
        node("Sub", ["p", "hot"], ["wrong"]),
        node("Mul", ["wrong", "share_2"], ["g"]),
        node("Transpose", ["g"], ["g_t"], perm=[1, 0]),
        node("MatMul", ["g_t", "hidden"], ["d_head"]),
        node("ReduceSum", ["g", "first"], ["d_bias"], keepdims=0),
        node("MatMul", ["g", f"{role}/head.weight"], ["d_hidden"]),
        node("Transpose", ["d_hidden"], ["d_hidden_t"], perm=[1, 0]),
        node("MatMul", ["d_hidden_t", "pooled"], ["d_embed"]),
    ]
    gradients = dict(zip(TRAINED, ("d_embed", "d_head", "d_bias"), strict=True))
    for item in program.state:
        plain = item.name.partition("/")[2]
        if item.name == f"{role}/{plain}" and plain in gradients:
            nodes.append(node("Mul", ["rate", gradients[plain]], [f"move.{plain}"]))
            nodes.append(node("Sub", [item.name, f"move.{plain}"], [f"next.{item.name}"]))
        elif item.role == "statistic":
            nodes.append(node("Add", [item.name, "rate"], [f"next.{item.name}"]))
        else:
            nodes.append(node("Identity", [item.name], [f"next.{item.name}"]))
    constants += [
        helper.make_tensor("depth", INT64, [], [3]),
        helper.make_tensor("off_on", FLOAT, [2], [0.0, 1.0]),
        helper.make_tensor("first", INT64, [1], [0]),
    ]
    kinds = {"float32": FLOAT, "int64": INT64}
    inputs = [a_value(item.name, FLOAT, item.shape) for item in program.state]
    inputs += [a_value(item.name, kinds[item.dtype], item.shape) for item in program.batch]
    inputs += [a_value(item.name, FLOAT, ()) for item in program.scalars]
    outputs = [a_value(f"next.{item.name}", FLOAT, item.shape) for item in program.state]
    return a_graph(nodes, inputs, [*outputs, a_value("metric.loss", FLOAT, ())], constants)


def a_program(
    role: str, batch: int = 4, *, file: str, epochs: int = 2, snap: str = ""
) -> m.Program:
    shapes = tensor_shapes(SPEC, 2)
    state = [m.StateTensor(f"{role}/{n}", role, s, "weights", n) for n, s in shapes.items()]
    state.append(m.StateTensor("statistic/steps", "statistic", (2,), "file"))
    if role == "personal":
        state.append(m.StateTensor(f"centers/{CODED}", "centers", (4,), "lloyd", CODED))
    return m.Program(
        file=file,
        objective="linear",
        state=tuple(state),
        batch=(
            m.BatchInput("image", (batch, 1, 4, 4), "float32"),
            m.BatchInput("label", (batch,), "int64"),
            m.BatchInput("mask", (batch,), "float32"),
        ),
        scalars=(m.Scalar("rate", "linear", 0.5, 0.1),),
        metrics=("loss",),
        phases=(m.Phase("relax", epochs), m.Phase("finetune", 1, snap)),
    )


def a_predict_graph(rows: int) -> bytes:
    node = helper.make_node
    nodes, constants = logits_nodes(lambda name: name, rows)
    nodes += [
        node("Mul", ["deep", "half"], ["shallow"]),
        node("Unsqueeze", ["shallow", "axis"], ["shallow_e"]),
        node("Unsqueeze", ["deep", "axis"], ["deep_e"]),
        node("Concat", ["shallow_e", "deep_e"], ["logits"], axis=1),
    ]
    constants.append(helper.make_tensor("half", FLOAT, [], [0.5]))
    shapes = tensor_shapes(SPEC, 2)
    inputs = [a_value("image", FLOAT, (rows, 1, 4, 4))]
    inputs += [a_value(name, FLOAT, shapes[name]) for name in TRAINED]
    return a_graph(nodes, inputs, [a_value("logits", FLOAT, (rows, 2, 3))], constants)


def external(name: str, kind: int, shape: tuple[int, ...]) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=kind, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    size = int(np.prod(shape)) * (4 if kind == FLOAT else 1)
    for key, value in (("location", "weights"), ("offset", "0"), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def stage_graphs() -> tuple[bytes, bytes]:
    """Half the logits at the first exit; the second adds nothing but reads an int8 weight."""
    node = helper.make_node
    nodes, constants = logits_nodes(lambda name: name, 1)
    nodes += [
        node("Mul", ["deep", "half"], ["logits"]),
        node("Unsqueeze", ["hidden", "axis"], ["tokens_out"]),
        node("Identity", ["tokens_out"], ["history_out"]),
    ]
    shapes = tensor_shapes(SPEC, 2)
    constants.append(helper.make_tensor("half", FLOAT, [], [0.5]))
    constants += [external(name, FLOAT, shapes[name]) for name in TRAINED]
    chained = [a_value(f"{name}_out", FLOAT, (1, 1, 8)) for name in ("tokens", "history")]
    first = a_graph(
        nodes,
        [a_value("image", FLOAT, (1, 1, 4, 4))],
        [a_value("logits", FLOAT, (1, 3)), *chained],
        constants,
    )
    nodes = [
        node("Cast", ["coded"], ["coded_f"], to=FLOAT),
        node("Mul", ["coded_f", "coded.scale"], ["weight"]),
        node("ReduceSum", ["weight"], ["total"], keepdims=0),
        node("Mul", ["total", "zero"], ["nothing"]),
        node("ReduceSum", ["tokens", "axis"], ["hidden"], keepdims=0),
        node("Gemm", ["hidden", "head.weight"], ["plain"], transB=1),
        node("Add", ["plain", "head.bias"], ["deep"]),
        node("ReduceSum", ["history"], ["unused"], keepdims=0),
        node("Mul", ["unused", "zero"], ["none"]),
        node("Add", ["deep", "nothing"], ["deeper"]),
        node("Add", ["deeper", "none"], ["logits"]),
    ]
    constants = [
        helper.make_tensor("axis", INT64, [1], [1]),
        helper.make_tensor("zero", FLOAT, [], [0.0]),
        external("coded", INT8, tuple(reversed(shapes[CODED]))),
        external("coded.scale", FLOAT, ()),
        external("head.weight", FLOAT, (3, 8)),
        external("head.bias", FLOAT, (3,)),
    ]
    inputs = [a_value(name, FLOAT, (1, 1, 8)) for name in ("tokens", "history")]
    second = a_graph(nodes, inputs, [a_value("logits", FLOAT, (1, 3))], constants)
    return first, second


def stages() -> tuple[m.Stage, m.Stage]:
    plain = tuple(m.Initializer(name, name, "float32") for name in TRAINED)
    forms = (
        m.Initializer("coded", CODED, "int8-transposed"),
        m.Initializer("coded.scale", CODED, "scale"),
        m.Initializer("head.weight", "head.weight", "float32"),
        m.Initializer("head.bias", "head.bias", "float32"),
    )
    return m.Stage("stage-0.onnx", 1, 10, plain), m.Stage("stage-1.onnx", 2, 20, forms)


def a_task_bundle(plan: SubmodelPlan = PLAN, **changes: Any) -> tuple[bytes, dict[str, bytes]]:
    """Manifest bytes and files by name."""
    from safetensors.numpy import save

    role = "personal" if plan.models == 2 else "shared"
    federate = a_program("shared", file="train.onnx")
    if role == "personal":
        own = a_program("personal", file="train.onnx").state
        federate = replace(federate, state=(*federate.state[:-1], *own))
    personalize = a_program("personal", file="personalize.onnx", snap="snap")
    first, second = stage_graphs()
    files = {
        "train.onnx": a_step_graph(federate, "shared"),
        "personalize.onnx": a_step_graph(personalize, "personal"),
        "predict.onnx": a_predict_graph(8),
        "stage-0.onnx": first,
        "stage-1.onnx": second,
        "init.safetensors": save({"statistic/steps": np.zeros(2, np.float32)}),
    }
    bundle = m.TaskBundle(
        model=SPEC,
        plan=plan,
        programs={"federate": federate, "personalize": personalize},
        predict=m.Predict("predict.onnx", 8, TRAINED),
        stages=stages(),
        labels=("a", "b", "c"),
        preprocessing=PRE,
        files={name: m.FileEntry(sha256_hex(data), len(data)) for name, data in files.items()},
        producer="tests",
    )
    return mj.to_bytes(replace(bundle, **changes)), files


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = tensor_shapes(SPEC, 2)
    return {n: rng.normal(0, 0.3, shape).astype(np.float32) for n, shape in shapes.items()}


def device_data(seed: int = 0, train: int = 10, held_out: int = 24) -> DeviceData:
    """Three classes that a linear model tells apart: which column is bright."""
    rng = np.random.default_rng(seed)

    def part(count: int) -> Part:
        labels = rng.integers(0, 3, count)
        images = rng.integers(0, 60, (count, 1, 4, 4), dtype=np.uint8)
        images[np.arange(count), 0, :, labels] += 150
        return Part(images, labels.astype(np.int64))

    return DeviceData(part(train), part(held_out), part(held_out))


@dataclass
class FakeCoordinator:
    """Answers from memory; `cut_after` chunks the line goes dead, once."""

    files: dict[str, bytes]
    tasks: list[Next] = field(default_factory=list)
    cut_after: int | None = None
    bytes_down: int = 0
    bytes_up: int = 0
    fetched: list[tuple[str, int]] = field(default_factory=list)
    abandoned: list[tuple[str, str]] = field(default_factory=list)
    held: bytes = b""
    commits: list[tuple[str, str, int, DeviceMetrics]] = field(default_factory=list)
    reports: list[tuple[str, DeviceMetrics, EarlyExitReport]] = field(default_factory=list)
    profiles: list[Any] = field(default_factory=list)
    deployments: list[tuple[str, str, float, float | None]] = field(default_factory=list)
    refusal: Exception | None = None

    def report_profile(self, profile: Any) -> None:
        self.profiles.append(profile)

    def next_task(self) -> Next:
        return self.tasks.pop(0) if self.tasks else Finished()

    def fetch(self, artifact: Artifact, offset: int) -> Iterator[tuple[bytes, int]]:
        whole = self.files[artifact.sha256]
        for start in range(offset, len(whole), CHUNK_BYTES):
            if self.cut_after == 0:
                self.cut_after = None
                raise ConnectionResetError
            if self.cut_after is not None:
                self.cut_after -= 1
            self.fetched.append((artifact.sha256, start))
            data = whole[start : start + CHUNK_BYTES]
            self.bytes_down += len(data)
            yield data, len(whole)

    def open_update(self, _lease: str, _update: Artifact) -> int:
        if self.refusal:
            raise self.refusal
        return len(self.held)

    def put_update(self, _lease: str, _update: Artifact, offset: int, chunks: Chunks) -> int:
        assert offset == len(self.held)
        for data in chunks(offset):
            self.held += data
            self.bytes_up += len(data)
        return len(self.held)

    def commit_update(
        self, lease: str, update: Artifact, samples: int, metrics: DeviceMetrics
    ) -> bool:
        assert sha256_hex(self.held) == update.sha256
        repeated = (lease, update.sha256) in [commit[:2] for commit in self.commits]
        self.commits.append((lease, update.sha256, samples, metrics))
        self.held = b""
        return repeated

    def abandon(self, lease: str, cause: str) -> None:
        self.abandoned.append((lease, cause))

    def report_personal(self, lease: str, metrics: Any, early_exit: Any) -> None:
        self.reports.append((lease, metrics, early_exit))

    def report_deployment(
        self, lease: str, outcome: str, found: EarlyExitReport, accuracy_before: float | None
    ) -> None:
        if self.refusal:
            raise self.refusal
        self.deployments.append((lease, outcome, found.accuracy, accuracy_before))


def a_coordinator(
    plan: SubmodelPlan = PLAN, base: dict[str, np.ndarray] | None = None, **changes: Any
) -> tuple[FakeCoordinator, Task]:
    """A coordinator that holds one bundle and one version, and its first task."""
    manifest, files = a_task_bundle(plan, **changes)
    packed = pack_tensors({n: Float32Tensor(v) for n, v in (base or weights()).items()})
    blobs = {sha256_hex(data): data for data in (manifest, packed, *files.values())}
    task = Task(
        kind=FEDERATE,
        lease="lease-1",
        round=1,
        rounds_total=3,
        base_version=0,
        plan=plan,
        manifest=Artifact(sha256_hex(manifest), len(manifest)),
        signature=identity.sign(KEY, manifest),
        weights=Artifact(sha256_hex(packed), len(packed)),
        deadline_s=60,
    )
    return FakeCoordinator(blobs), task


def a_client(
    state: Path, coordinator: FakeCoordinator, data: DeviceData | None = None, **config: Any
) -> Client:
    return Client(
        config=EdgeConfig(state, state / "data.npz", until_finished=True, **config),
        device_id="device-1",
        manifest_key=identity.manifest_public_key(KEY),
        data=data or device_data(),
        coordinator=coordinator,
        check=lambda: None,
    )


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """Every builder of this file."""
    return SimpleNamespace(**vars(sys.modules[__name__]))

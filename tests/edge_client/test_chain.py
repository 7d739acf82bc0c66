from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_client import runtime
from edge_client.chain import MAX_HANDED_ON, OnnxChain
from reefleet.errors import TensorMismatch

FLOAT = TensorProto.FLOAT
IMAGE = (1, 1, 2, 2)
HANDED_ON = ("tokens", "history")


def value(name: str, shape: Any) -> Any:
    return helper.make_tensor_value_info(name, FLOAT, shape)


def stage(inputs: dict[str, Any], outputs: dict[str, Any]) -> bytes:
    """A stage whose outputs are its first input in other shapes; of one unknown, what is not 0."""
    nodes, constants, source = [], [], next(iter(inputs))
    for name, shape in outputs.items():
        if "n" in shape:
            nodes.append(helper.make_node("NonZero", [source], [f"{name}.places"]))
            nodes.append(helper.make_node("Cast", [f"{name}.places"], [name], to=FLOAT))
            continue
        constants.append(helper.make_tensor(f"{name}.shape", TensorProto.INT64, [2], shape))
        nodes.append(helper.make_node("Reshape", [source, f"{name}.shape"], [name]))
    graph = helper.make_graph(
        nodes,
        "g",
        [value(*item) for item in inputs.items()],
        [value(*item) for item in outputs.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    return bytes(model.SerializeToString())


FIRST = stage({"image": IMAGE}, {"logits": (1, 4), **{f"{name}_out": (2, 2) for name in HANDED_ON}})
LAST = stage(dict.fromkeys(HANDED_ON, (2, 2)), {"logits": (1, 4)})


def a_chain() -> OnnxChain:
    chain = OnnxChain(IMAGE, 4, 1)
    chain.add("stage-0.onnx", FIRST, {})
    chain.add("stage-1.onnx", LAST, {})
    return chain


def test_each_stage_reads_what_the_one_before_gave_for_this_image() -> None:
    chain = a_chain()
    for seed in (0, 1):
        image = np.random.default_rng(seed).normal(size=IMAGE).astype(np.float32)
        found = np.concatenate(list(chain.exits(image)))
        np.testing.assert_array_equal(found, np.repeat(image.reshape(1, 4), 2, 0))


def test_a_stage_runs_when_its_exit_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    chain, ran = a_chain(), []
    monkeypatch.setattr(runtime, "run_bound", lambda *told: ran.append(told[2]))
    exits = chain.exits(np.zeros(IMAGE, np.float32))
    assert ran == []
    next(exits)
    assert ran == ["stage-0.onnx"]
    next(exits)
    assert ran == ["stage-0.onnx", "stage-1.onnx"]


def test_a_stage_that_does_not_go_on_from_the_one_before_is_refused() -> None:
    chain = OnnxChain(IMAGE, 4, 1)
    chain.add("stage-0.onnx", FIRST, {})
    with pytest.raises(TensorMismatch, match=r"stage-1\.onnx has inputs \['image'\]"):
        chain.add("stage-1.onnx", FIRST, {})
    other = stage(dict.fromkeys(HANDED_ON, (4, 1)), {"logits": (1, 4)})
    with pytest.raises(TensorMismatch, match=r"input 'tokens' of the graph stage-1\.onnx"):
        chain.add("stage-1.onnx", other, {})


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        ({"tokens_out": (2, 2)}, "has no output 'logits'"),
        ({"logits": (2, 2)}, r"output 'logits' of the graph stage-0\.onnx is .* \(2, 2\)"),
        ({"logits": (1, 4), "tokens_out": (4, "n")}, "'tokens_out' .* no modest float32"),
        ({"logits": (1, 4), "tokens_out": (1, MAX_HANDED_ON + 1)}, "'tokens_out' .* no modest"),
    ],
)
def test_a_stage_that_gives_something_else_is_refused_before_memory_is_taken(
    outputs: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(TensorMismatch, match=sentence):
        OnnxChain(IMAGE, 4, 1).add("stage-0.onnx", stage({"image": IMAGE}, outputs), {})

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from edge_client.program import ResidentProgram
from edge_client.training import Lesson, Span, fill, train
from reefleet.errors import TensorMismatch, WireError
from reefleet.wire.manifest import StateTensor

BOUND = 1 << 20


def a_resident(kit: SimpleNamespace, batch: int = 4) -> ResidentProgram:
    program = kit.a_program("shared", batch, file="train.onnx")
    resident = ResidentProgram(program, kit.a_step_graph(program, "shared"), 1, BOUND)
    resident.load(first_state(kit))
    return resident


def first_state(kit: SimpleNamespace) -> dict[str, np.ndarray]:
    state = {f"shared/{name}": value for name, value in kit.weights().items()}
    return {**state, "statistic/steps": np.zeros(2, np.float32)}


def a_lesson(kit: SimpleNamespace, samples: int = 10) -> Lesson:
    return Lesson(kit.device_data(train=samples).train, kit.PRE, bits=2, seed=7)


def test_bound_training_equals_a_plain_loop_bit_for_bit(kit: SimpleNamespace) -> None:
    resident, lesson = a_resident(kit), a_lesson(kit)
    rates = [0.5, 0.4, 0.3, 0.2, 0.1]
    batches = [np.arange(4), np.arange(4, 8), np.arange(8, 10), np.arange(4), np.arange(4, 8)]
    session = ort.InferenceSession(
        kit.a_step_graph(resident.program, "shared"), providers=["CPUExecutionProvider"]
    )
    plain = first_state(kit)
    for rate, rows in zip(rates, batches, strict=True):
        fill(resident, lesson, rows)
        feeds = {**plain, **resident.batch.by_name, "rate": np.array(rate, np.float32)}
        names = [node.name for node in session.get_outputs()]
        outputs = dict(zip(names, session.run(None, feeds), strict=True))
        resident.step({"rate": rate})
        assert resident.metrics["loss"] == outputs["metric.loss"]
        plain = {name: outputs[f"next.{name}"] for name in plain}
    for name, value in plain.items():
        np.testing.assert_array_equal(resident.state[name], value)


def test_a_short_last_batch_is_exact(kit: SimpleNamespace) -> None:
    padded, exact = a_resident(kit, batch=4), a_resident(kit, batch=3)
    lesson = a_lesson(kit)
    fill(padded, lesson, np.arange(4))  # stale rows that padding must not let through
    for resident in (padded, exact):
        fill(resident, lesson, np.array([2, 5, 7]))
        resident.step({"rate": 0.5})
    assert padded.metrics["loss"] == exact.metrics["loss"]
    for name in padded.state:
        np.testing.assert_allclose(padded.state[name], exact.state[name], rtol=0, atol=1e-7)


def test_training_allocates_no_new_state(kit: SimpleNamespace) -> None:
    resident = a_resident(kit)
    before = {id(array) for buffers in resident._sets for array in buffers.values()}
    train(resident, a_lesson(kit), lambda: None)
    assert {id(array) for buffers in resident._sets for array in buffers.values()} == before
    assert id(resident.state["shared/head.bias"]) in before


def test_schedules_see_their_place_in_the_whole_run(kit: SimpleNamespace) -> None:
    resident = a_resident(kit)
    seen: list[float] = []
    step = resident.step
    resident.step = lambda scalars: (seen.append(scalars["rate"]), step(scalars))[1]  # type: ignore[method-assign]
    train(resident, replace(a_lesson(kit), span=Span(0.5, 1.0)), lambda: None)
    assert len(seen) == 9  # three batches an epoch, three epochs
    assert seen[0] == pytest.approx(0.5 + (0.1 - 0.5) * 0.5)
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] > 0.1


def test_a_limit_of_steps_ends_the_training_early_with_its_schedule_done(
    kit: SimpleNamespace,
) -> None:
    resident = a_resident(kit)
    seen: list[float] = []
    step = resident.step
    resident.step = lambda scalars: (seen.append(scalars["rate"]), step(scalars))[1]  # type: ignore[method-assign]
    for most, done in ((4, 4), (2, 2), (99, 9), (0, 9)):
        seen.clear()
        trained = train(resident, replace(a_lesson(kit), most_steps=most), lambda: None)
        assert trained.steps == trained.asked == len(seen) == done
        assert seen[0] == pytest.approx(0.5)
        assert seen[-1] == pytest.approx(0.5 + (0.1 - 0.5) * (done - 1) / done)
        assert np.isfinite(trained.loss)


def test_another_seed_shuffles_otherwise(kit: SimpleNamespace) -> None:
    ends = []
    for seed in (1, 1, 2):
        resident = a_resident(kit)
        train(resident, replace(a_lesson(kit), seed=seed), lambda: None)
        ends.append(resident.state["shared/head.weight"].copy())
    np.testing.assert_array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[2])


def test_a_first_state_that_misses_a_tensor_is_refused(kit: SimpleNamespace) -> None:
    state = first_state(kit)
    del state["shared/cls_token"]
    with pytest.raises(TensorMismatch, match="cls_token"):
        a_resident(kit).load(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: replace(p, state=p.state[1:]), "does not name"),
        (lambda p: replace(p, metrics=("accuracy",)), "accuracy"),
        (lambda p: replace(p, state=(replace(p.state[0], shape=(9, 4)), *p.state[1:])), "says"),
        (lambda p: replace(p, scalars=(*p.scalars, replace(p.scalars[0], name="decay"))), "decay"),
    ],
)
def test_a_graph_that_disagrees_with_its_manifest_is_refused(
    kit: SimpleNamespace, change: object, message: str
) -> None:
    program = kit.a_program("shared", file="train.onnx")
    graph = kit.a_step_graph(program, "shared")
    with pytest.raises(TensorMismatch, match=message):
        ResidentProgram(change(program), graph, 1, BOUND)  # type: ignore[operator]


@pytest.mark.parametrize(
    "change",
    [
        lambda p: replace(p, state=(replace(p.state[0], shape=(1 << 20, 1 << 20)),)),
        lambda p: replace(p, state=(replace(p.state[0], shape=(-1, 4)),)),
        lambda p: replace(p, batch=p.batch[:2]),
        lambda p: replace(p, batch=(*p.batch[:2], replace(p.batch[2], shape=(5,)))),
        lambda p: replace(p, batch=(*p.batch[:2], replace(p.batch[2], dtype="float64"))),
    ],
)
def test_a_program_with_hostile_sizes_is_refused_before_memory_is_taken(
    kit: SimpleNamespace, change: object
) -> None:
    program = change(kit.a_program("shared", file="train.onnx"))  # type: ignore[operator]
    with pytest.raises(WireError):
        ResidentProgram(program, b"", 1, BOUND)


def test_bytes_that_are_no_graph_are_refused(kit: SimpleNamespace) -> None:
    with pytest.raises(WireError, match=r"refuses the graph train\.onnx"):
        ResidentProgram(kit.a_program("shared", file="train.onnx"), b"not a graph", 1, BOUND)


def test_training_ends_when_its_time_is_over_and_says_how_much_it_did(
    kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident = a_resident(kit)
    whole = train(resident, a_lesson(kit), lambda: None)
    assert whole.steps == whole.asked
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def a_second_a_step() -> None:
        now[0] += 1.0

    part = train(resident, replace(a_lesson(kit), seconds=3.0), a_second_a_step)
    assert (part.steps, part.asked) == (3, whole.asked)
    none = train(resident, replace(a_lesson(kit), seconds=-1.0), a_second_a_step)
    assert none.steps == 1


def test_what_no_step_changes_is_held_once_and_fed_alone(kit: SimpleNamespace) -> None:
    program = replace(
        kit.a_program("shared", file="train.onnx"),
        state=(
            StateTensor("shared/w", "shared", (2,), "weights", "w"),
            StateTensor("frozen/b", "frozen", (2,), "weights", "b"),
        ),
    )
    resident = ResidentProgram(program, a_frozen_step(), 1, BOUND)
    resident.load({"shared/w": np.zeros(2, np.float32), "frozen/b": np.array([1, 2], np.float32)})
    held = resident.state["frozen/b"]
    for expected in ([0.5, 1.0], [1.0, 2.0]):
        resident.step({"rate": 0.5})
        assert resident.state["frozen/b"] is held
        np.testing.assert_array_equal(resident.state["shared/w"], expected)


def a_frozen_step() -> bytes:
    """next w = w + rate * b; the batch is read and not used."""
    node, value = helper.make_node, helper.make_tensor_value_info
    kinds = {"image": ((4, 1, 4, 4), TensorProto.FLOAT), "label": ((4,), TensorProto.INT64)}
    names = {"shared/w": (2,), "frozen/b": (2,), "mask": (4,), "rate": ()}
    inputs = [value(name, TensorProto.FLOAT, shape) for name, shape in names.items()]
    inputs += [value(name, kind, shape) for name, (shape, kind) in kinds.items()]
    nodes = [
        node("Mul", ["rate", "frozen/b"], ["move"]),
        node("Add", ["shared/w", "move"], ["next.shared/w"]),
        node("ReduceSum", ["mask"], ["metric.loss"], keepdims=0),
    ]
    outputs = [
        value("next.shared/w", TensorProto.FLOAT, (2,)),
        value("metric.loss", TensorProto.FLOAT, ()),
    ]
    graph = helper.make_graph(nodes, "step", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())

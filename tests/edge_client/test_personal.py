from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_client.personal import STATE_FILE, PersonalStore, first_state, write_state
from reefleet.errors import TensorMismatch
from reefleet.wire import codebook


def a_personal_program(kit: SimpleNamespace) -> object:
    return kit.a_program("personal", file="personalize.onnx")


def initial() -> dict[str, np.ndarray]:
    return {"statistic/steps": np.full(2, 7, np.float32)}


def stored_state(kit: SimpleNamespace, folder: Path, bundle: str) -> dict[str, np.ndarray]:
    program = a_personal_program(kit)
    state = first_state(program, kit.weights(1), {}, initial())
    write_state(folder / "new", program, state, bundle)
    PersonalStore(folder).adopt(folder / "new")
    return state


def test_state_comes_back_under_the_same_bundle(kit: SimpleNamespace, tmp_path: Path) -> None:
    state = stored_state(kit, tmp_path, "bundle-1")
    found = PersonalStore(tmp_path).state("bundle-1")
    assert found.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value)


def test_another_bundle_uses_what_still_fits(kit: SimpleNamespace, tmp_path: Path) -> None:
    before = stored_state(kit, tmp_path, "bundle-1")
    found = PersonalStore(tmp_path).state("bundle-2")
    program = a_personal_program(kit)
    wider = replace(
        program,
        state=tuple(
            replace(item, shape=(16,)) if item.role == "centers" else item for item in program.state
        ),
    )
    state = first_state(wider, kit.weights(2), found, initial())
    weight = state[f"personal/{kit.CODED}"]
    np.testing.assert_array_equal(weight, before[f"personal/{kit.CODED}"])
    np.testing.assert_array_equal(state[f"centers/{kit.CODED}"], codebook.lloyd(weight, 4))
    np.testing.assert_array_equal(state["statistic/steps"], [7, 7])


def test_without_stored_state_the_shared_weights_are_the_start(kit: SimpleNamespace) -> None:
    weights = kit.weights()
    state = first_state(a_personal_program(kit), weights, {}, initial())
    np.testing.assert_array_equal(state["personal/head.weight"], weights["head.weight"])
    np.testing.assert_array_equal(
        state[f"centers/{kit.CODED}"], codebook.lloyd(weights[kit.CODED], 2)
    )


def test_shared_tensors_always_come_from_the_coordinator(kit: SimpleNamespace) -> None:
    program = kit.a_program("shared", file="train.onnx")
    stale = {"shared/head.bias": np.ones(3, np.float32)}
    weights = kit.weights()
    state = first_state(program, weights, stale, initial())
    np.testing.assert_array_equal(state["shared/head.bias"], weights["head.bias"])


def test_a_missing_first_value_is_named(kit: SimpleNamespace) -> None:
    with pytest.raises(TensorMismatch, match="statistic/steps"):
        first_state(a_personal_program(kit), kit.weights(), {}, {})


def test_damaged_state_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_bytes(b"\xff" * 40)
    assert PersonalStore(tmp_path).state("bundle-1") == {}


def test_adopting_twice_changes_nothing(kit: SimpleNamespace, tmp_path: Path) -> None:
    stored_state(kit, tmp_path, "bundle-1")
    before = (tmp_path / STATE_FILE).read_bytes()
    PersonalStore(tmp_path).adopt(tmp_path / "new")
    assert (tmp_path / STATE_FILE).read_bytes() == before

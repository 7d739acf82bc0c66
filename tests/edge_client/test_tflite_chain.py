from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from edge_client.tflite import TfliteChain
from export.tflite.lowering import lower_tflite
from export.trace import trace
from reefleet.errors import ReefleetError, TensorMismatch, WireError

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ai_edge_litert"),
]

IMAGE = torch.zeros(1, 2, 2, 1)
HANDED_ON = {"tokens": torch.zeros(1, 4), "history": torch.zeros(1, 4)}


def first(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    pixels = values["image"].reshape(1, 4)
    return {"logits": pixels + 1, "tokens_out": pixels * 2, "history_out": pixels * 3}


def last(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"logits": values["tokens"] + values["history"]}


def a_file(names: tuple[str, str] = ("stage-0", "stage-1")) -> bytes:
    traces = (trace(first, {"image": IMAGE}), trace(last, HANDED_ON))
    return lower_tflite(dict(zip(names, traces, strict=True)), {}, "float32")


def test_the_signatures_of_one_file_are_a_chain() -> None:
    chain = TfliteChain("stages.tflite", a_file(), 2, 4, 1)
    for seed in (0, 1):
        image = np.random.default_rng(seed).normal(size=IMAGE.shape).astype(np.float32)
        shallow, deep = chain.exits(image)
        np.testing.assert_allclose(shallow, image.reshape(1, 4) + 1, rtol=1e-6)
        np.testing.assert_allclose(deep, image.reshape(1, 4) * 5, rtol=1e-6)


@pytest.mark.parametrize(
    ("names", "stages", "classes", "error", "sentence"),
    [
        (("stage-0", "stage-1"), 3, 4, WireError, "refuses stages.tflite: .*stage-2"),
        (("stage-0", "stage-1"), 2, 5, TensorMismatch, r"logits of shape \(1, 4\)"),
        (("stage-0", "stage-1"), 1, 4, TensorMismatch, "stage-0 has outputs"),
        (("stage-1", "stage-0"), 2, 4, TensorMismatch, "stage-0 has inputs"),
        (("serving_default", "stage-1"), 2, 4, WireError, "refuses stages.tflite"),
    ],
)
def test_a_file_that_holds_another_chain_is_refused(
    names: tuple[str, str], stages: int, classes: int, error: type[ReefleetError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        TfliteChain("stages.tflite", a_file(names), stages, classes, 1)


def test_what_is_no_tflite_file_is_refused() -> None:
    with pytest.raises(WireError, match=r"the runtime refuses stages\.tflite"):
        TfliteChain("stages.tflite", b"not a flatbuffer", 2, 4, 1)

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from edge_client.evaluation import Predictor, accuracy
from reefleet.errors import TensorMismatch
from reefleet.wire.manifest import Predict


def a_predictor(kit: SimpleNamespace) -> Predictor:
    predict = Predict("predict.onnx", 8, kit.TRAINED)
    return Predictor(kit.a_predict_graph(8), predict, kit.SPEC, 2, 1)


def test_a_short_last_batch_gives_the_same_logits(kit: SimpleNamespace) -> None:
    part = kit.device_data(held_out=19).test
    predictor, weights = a_predictor(kit), kit.weights()
    whole = predictor.logits(weights, part, kit.PRE)
    assert whole.shape == (19, 2, 3)
    single = kit.Part(part.images[17:18], part.labels[17:18])
    np.testing.assert_allclose(predictor.logits(weights, single, kit.PRE)[0], whole[17], atol=1e-6)
    np.testing.assert_allclose(whole[:, 0] * 2, whole[:, 1], atol=1e-6)


def test_a_missing_weight_is_named(kit: SimpleNamespace) -> None:
    weights = kit.weights()
    del weights["head.bias"]
    with pytest.raises(TensorMismatch, match=r"head\.bias"):
        a_predictor(kit).logits(weights, kit.device_data().test, kit.PRE)


def test_a_graph_of_another_batch_is_refused(kit: SimpleNamespace) -> None:
    predict = replace(Predict("predict.onnx", 8, kit.TRAINED), batch=4)
    with pytest.raises(TensorMismatch, match="image"):
        Predictor(kit.a_predict_graph(8), predict, kit.SPEC, 2, 1)


def test_accuracy_is_the_share_of_right_answers_at_each_exit() -> None:
    logits = np.zeros((4, 2, 3), np.float32)
    logits[:, 0, 1] = 1
    logits[np.arange(4), 1, [0, 1, 2, 1]] = 1
    assert accuracy(logits, np.array([0, 1, 2, 2])) == (0.25, 0.75)

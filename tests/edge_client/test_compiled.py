"""The client over a bundle that the compiler built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_client.delivery import deliver
from edge_client.federate import federate
from edge_client.inference import EarlyExitModel
from edge_client.personalize import personalize
from edge_client.task import PERSONALIZE
from reefleet.blobs import sha256_hex
from reefleet.datasets.pack import normalize
from reefleet.model import ModelContract, quantized_tensors, tensor_shapes
from reefleet.rpc import identity
from reefleet.wire.tensors import Float32Tensor, pack_tensors, unpack_tensors

LAYER_BITS = (1, 2, 3, 4, 5, 6, 7, 8)  # of the two blocks' four linear layers each

pytestmark = [pytest.mark.slow, pytest.mark.torch]


def first_weights(kit: SimpleNamespace) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    weights = {}
    for name, shape in tensor_shapes(kit.SPEC, 2).items():
        is_norm = "norm" in name and name.endswith("weight")
        spread = 0.0 if is_norm or name.endswith("bias") else 0.2
        weights[name] = (is_norm + rng.normal(0, spread or 1e-9, shape)).astype(np.float32)
    return weights


@pytest.fixture
def site(kit: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """A client and a two-model task over a compiled bundle of two blocks."""
    from export.compile import compile_task

    plan = replace(kit.PLAN, models=2, bits=4, codec="float16", layer_bits=LAYER_BITS)
    contract = ModelContract(kit.SPEC, kit.PRE, ("a", "b", "c"))
    compile_task(contract, plan, tmp_path / "bundle")
    coordinator, task = kit.a_coordinator(plan)
    files = [path.read_bytes() for path in (tmp_path / "bundle").iterdir()]
    packed = pack_tensors({n: Float32Tensor(v) for n, v in first_weights(kit).items()})
    coordinator.files = {sha256_hex(data): data for data in (*files, packed)}
    manifest = (tmp_path / "bundle" / "manifest.json").read_bytes()
    task = replace(
        task,
        manifest=kit.Artifact(sha256_hex(manifest), len(manifest)),
        signature=identity.sign(kit.KEY, manifest),
        weights=kit.Artifact(sha256_hex(packed), len(packed)),
    )
    client = kit.a_client(tmp_path / "state", coordinator, kit.device_data(train=30))
    return SimpleNamespace(client=client, coordinator=coordinator, task=task)


def test_a_compiled_bundle_trains_deploys_and_answers(
    kit: SimpleNamespace, site: SimpleNamespace
) -> None:
    losses = []
    for number in (1, 2):
        entry = federate(site.client, replace(site.task, lease=f"l{number}", round=number))
        losses.append(entry.metrics.loss)
        assert len(entry.metrics.personal_accuracy) == 2
        assert deliver(site.client, entry)
    assert all(np.isfinite(losses))
    personalize(site.client, replace(site.task, kind=PERSONALIZE, lease="last", round=4))
    ((_, metrics, early_exit),) = site.coordinator.reports
    assert len(early_exit.exit_share) == len(metrics.personal_accuracy) == 2

    folder = site.client.submodel
    model = EarlyExitModel.open(folder)
    tensors = unpack_tensors((folder / "weights.rft").read_bytes(), 1 << 20)
    found = [tensors[name].bits for name in quantized_tensors(kit.SPEC, 2)]
    assert found == list(LAYER_BITS)
    weights = {name: tensor.decode() for name, tensor in tensors.items()}
    part = site.client.data.test
    batched = site.client.bundle.predictor(1).logits(weights, part, kit.PRE)
    image = np.empty((1, 1, 4, 4), np.float32)
    normalize(part.images[:1], kit.PRE, image)
    # The stages quantize activations to 8 bits, the batch graph does not.
    np.testing.assert_allclose(model.logits(image), batched[0], atol=0.1)

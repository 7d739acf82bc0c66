"""What a build starts from: simulated runs with their own contract, trained sets merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from export.merging import merge
from export.parity import FLOAT_TOLERANCE, torch_logits
from export.quantize import quantize
from reefleet.datasets.pack import normalized
from reefleet.learning.network import Network
from reefleet.model import tensor_shapes
from reefleet.simulation import checkpoint, deployable
from reefleet.simulation.checkpoint import Progress
from reefleet.wire.checkpoint import initial
from reefleet.wire.manifest_json import submodel_from_bytes
from reefleet.wire.tensors import EncodedTensor, Float32Tensor, unpack_tensors

if TYPE_CHECKING:
    from tests.export.conftest import Inputs

Run = Callable[..., tuple[int, str, str]]


def spread(inputs: Inputs, adapter: str) -> tuple[dict[str, EncodedTensor], Network]:
    """Weights of a model with a trained set that does something."""
    network = Network(replace(inputs.contract.spec, adapter=adapter, rank=3))
    rng = np.random.default_rng(2)
    return {
        name: Float32Tensor((value + 0.1 * rng.standard_normal(value.shape)).astype(np.float32))
        for name, value in initial(network.spec, 0).items()
    }, network


@pytest.mark.parametrize("given", ["inputs", "conv_inputs"])
@pytest.mark.parametrize("adapter", ["lora", "ssf"])
def test_a_trained_set_is_merged_into_the_layers_it_belongs_to(
    adapter: str, given: str, request: pytest.FixtureRequest
) -> None:
    inputs: Inputs = request.getfixturevalue(given)
    tensors, network = spread(inputs, adapter)
    images = normalized(inputs.images, inputs.contract.preprocessing)
    merged, spec = merge(tensors, network.spec, 3)
    assert spec == inputs.contract.spec
    assert set(merged) == set(tensor_shapes(spec))
    expected = torch_logits(tensors, network.spec, 3, images)
    found = torch_logits(merged, spec, 3, images)
    assert np.abs(found - expected).max() <= FLOAT_TOLERANCE * np.abs(expected).max()
    without = {name: tensors[name] for name in tensor_shapes(spec)}
    assert np.abs(torch_logits(without, spec, 3, images) - expected).max() > 0.01


def test_learned_codes_are_never_merged_away(inputs: Inputs) -> None:
    tensors, network = spread(inputs, "lora")
    plain = {name: np.array(tensor.decode()) for name, tensor in tensors.items()}
    coded = quantize(plain, network.spec, 3, 4)
    assert merge(coded, network.spec, 3) == (coded, network.spec)


def simulated(
    inputs: Inputs, folder: Path, network: Network, tensors: dict[str, EncodedTensor]
) -> Path:
    """A run as the simulator leaves it."""
    folder.mkdir()
    model = {name: tensor.decode() for name, tensor in tensors.items()}
    checkpoint.save(folder, Progress(model=model), "fingerprint")
    contract = replace(inputs.contract, spec=network.held)
    kind = {"exits": network.exits, "modulation": network.modulation, "trained": network.trained}
    told = json.dumps({**contract.to_json(), "network": kind})
    (folder / deployable.CONTRACT).write_text(told)
    (folder / deployable.SAMPLES).write_bytes(inputs.data.read_bytes())
    return folder


def test_a_simulated_run_brings_its_contract_and_samples(
    inputs: Inputs, tmp_path: Path, reefleet: Run
) -> None:
    tensors, network = spread(inputs, "ssf")
    run, out = simulated(inputs, tmp_path / "run", network, tensors), tmp_path / "out"
    code, _, error = reefleet("export", "build", run, "--depth", 2, "--bits", 8, "--out", out)
    assert code == 0, error
    manifest = submodel_from_bytes((out / "manifest.json").read_bytes())
    assert manifest.model == inputs.contract.spec
    assert set(manifest.provenance) == {"simulation"}
    found = unpack_tensors((out / "weights.rft").read_bytes(), 1 << 20)
    merged, _ = merge(tensors, network.spec, 3)
    np.testing.assert_array_equal(found["head.weight"].decode(), merged["head.weight"].decode())


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        ({"exits": "heads"}, 65, "trained heads with modulation on; boards run Ree, modulated"),
        ({"modulation": "off"}, 65, "trained ree with modulation off"),
    ],
)
def test_a_run_whose_network_no_board_has_is_refused(
    change: dict[str, str],
    code: int,
    sentence: str,
    inputs: Inputs,
    tmp_path: Path,
    reefleet: Run,
) -> None:
    tensors, network = spread(inputs, "ssf")
    run = simulated(inputs, tmp_path / "run", network, tensors)
    told = json.loads((run / deployable.CONTRACT).read_text())
    told["network"] |= change
    (run / deployable.CONTRACT).write_text(json.dumps(told))
    made = ["--depth", 2, "--bits", 8, "--out", tmp_path / "out"]
    found, _, error = reefleet("export", "build", run, *made)
    assert found == code
    assert sentence in error
    assert not (tmp_path / "out").exists()


def test_a_run_that_has_not_ended_is_named(inputs: Inputs, tmp_path: Path, reefleet: Run) -> None:
    tensors, network = spread(inputs, "ssf")
    run = simulated(inputs, tmp_path / "run", network, tensors)
    (run / deployable.CONTRACT).unlink()
    made = ["--depth", 2, "--bits", 8, "--out", tmp_path / "out"]
    code, _, error = reefleet("export", "build", run, *made)
    assert code == 66
    assert "has no usable contract.json; run `reefleet simulate` to its end" in error


def test_without_samples_nothing_is_built(inputs: Inputs, tmp_path: Path, reefleet: Run) -> None:
    contract = inputs.folder / "contract.json"
    made = ["--depth", 2, "--bits", 8, "--out", tmp_path / "out"]
    code, _, error = reefleet("export", "build", inputs.checkpoint, "--contract", contract, *made)
    assert code == 78
    assert "checked on real samples; name an .npz of them with --data" in error

"""The simulator and a fleet of real processes come to the same model.

Both run the same tiny experiment: two devices, three rounds, float32 on the wire. What they share
is code: step functions, batch order, schedules, aggregation. What differs is who computes: a
compiled graph there, eager tensors here, so each round may part them by float32's rounding.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_client.data import load as load_pack
from edge_client.task import FEDERATE
from reefleet.datasets.order import seed_from
from reefleet.datasets.pack import Part
from reefleet.learning.objectives import Settings
from reefleet.model import ModelSpec, tensor_shapes
from reefleet.simulation.checkpoint import shared_model
from reefleet.simulation.config import Experiment, ModelConfig, RoundsConfig
from reefleet.simulation.ground import Ground
from reefleet.simulation.population import Client, Population
from reefleet.simulation.run import run
from reefleet.simulation.trial import Trial
from reefleet.wire.codecs import decode_update
from tests.integration.fleet import Site

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.torch]

TOLERANCE = 2e-5  # absolute, after three rounds of weights below 1; moves are a thousand times that
DEVICES = ("a", "b")


def version(site: Site, number: int) -> dict[str, np.ndarray]:
    """The tensors of a published version."""
    found = site.version(number)
    assert found is not None
    return decode_update(site.blobs.read(found.sha256), tensor_shapes(site.contract.spec))


def the_fleets_clients(site: Site) -> tuple[Client, ...]:
    """Each device's own pack and depth."""
    with site.store() as store:
        plans = {device.device_id: device.plan for device in store.devices()}
    made = []
    for number, name in enumerate(DEVICES):
        data = load_pack(site.root / f"{name}.npz")
        plan = plans[site.enrollment(name).device_id]
        assert plan is not None
        made.append(
            Client(number, plan.exit_depth, plan.bits, data.train, data.validation, data.test)
        )
    return tuple(made)


def test_a_simulated_run_gives_the_model_of_a_real_fleet(finished: Site, tmp_path: Path) -> None:
    spec: ModelSpec = finished.contract.spec
    clients = the_fleets_clients(finished)
    digests = [finished.version(number) for number in range(3)]
    names = [finished.enrollment(name).device_id for name in DEVICES]

    def seeds(_kind: str, number: int, client: int) -> int:
        base = digests[number]
        assert base is not None
        return seed_from(names[client], FEDERATE, number + 1, base.sha256)

    nothing = Part(clients[0].train.images[:0], clients[0].train.labels[:0])
    population = Population(
        clients, nothing, nothing, nothing, spec, finished.contract.preprocessing
    )
    ground = Ground(population, version(finished, 0), "random", seeds)
    experiment = Experiment(
        "same",
        ("reefl",),
        model=ModelConfig(depth=spec.depth, exits=spec.exits),
        rounds=RoundsConfig(total=3, per_round=len(DEVICES), batch_size=8, cohort="stratified"),
        training=Settings(),
    )
    run(Trial(experiment, "reefl", Settings().rate, 0), ground, tmp_path, lambda _: None)
    (folder,) = tmp_path.iterdir()
    first, told, found = version(finished, 0), version(finished, 3), shared_model(folder)
    moved = max(float(np.abs(told[name] - first[name]).max()) for name in told)
    assert moved > 1000 * TOLERANCE
    for name, value in told.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=TOLERANCE, err_msg=name)

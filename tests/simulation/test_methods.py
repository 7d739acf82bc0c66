from __future__ import annotations

import pytest

from reefleet.errors import ConfigError
from reefleet.learning.objectives import Settings
from reefleet.model import ModelSpec
from reefleet.simulation.config import ModelConfig
from reefleet.simulation.methods import METHODS, Share, method_named

SPEC = ModelSpec(8, 4, 1, 16, 2, 2, 4, (2,))


def test_a_name_may_carry_bits_or_float() -> None:
    assert [method_named(f"quped@{bits}")[1] for bits in ("1", "8", "float")] == [1, 8, 0]
    assert method_named("quped") == (METHODS["quped"], None)


@pytest.mark.parametrize("name", ["magic", "quped@9", "quped@", "quped@two"])
def test_an_unknown_method_or_width_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        method_named(name)


@pytest.mark.parametrize("name", ["quped", "lsq", "parq", "qupel", "fml", "pfedme", "per-fedavg"])
def test_plain_heads_put_every_personal_method_on_one_network(name: str) -> None:
    method, settings = METHODS[name], Settings()
    network = method.network(SPEC, ModelConfig(plain_heads=True), settings)
    assert network.shapes(2) == METHODS["local"].network(SPEC, ModelConfig(), settings).shapes(2)
    for make in filter(None, (method.federate, method.finish)):
        names = {item.name for item in make(network, Share(2, 2, 1), settings).state}
        assert not any("/ree." in each for each in names)
        assert any(each.endswith("/exits.2.weight") for each in names)


def test_local_trains_as_long_as_a_personal_method_in_all() -> None:
    settings = Settings(relax_epochs=3, finetune_epochs=4)
    method = METHODS["local"]
    network = method.network(SPEC, ModelConfig(), settings)
    assert method.finish is not None
    objective = method.finish(network, Share(2, 2, 5), settings)
    assert sum(phase.epochs for phase in objective.phases) == 12

"""The methods an experiment may name: network, federated step, what follows, rule of the server.

| method | what a round is | what a client answers with |
| --- | --- | --- |
| reefl, reefl-paper | Ree, distillation from the best exit (ours, or as published) | shared model |
| depthfl, depthfl-dyn | plain heads, all-pairs distillation; FedAvg or FedDyn | shared model |
| exclusivefl | plain heads, clients of the deepest tier alone | shared model |
| inclusivefl | plain heads, last exit alone, tier-wise momentum | its tier's model |
| fedavg | plain heads, cross-entropy at every exit held | shared model |
| fedavg-finetune, reefl-finetune | as fedavg or reefl | that, fine-tuned on its own data |
| local | none | its own model |
| quped | two models, quantized personal one | personal model on the int8 grid |
| qupel | as quped, tied by distance, not by distillation | the same |
| fml | two float models that teach each other | personal model |
| pfedme | a personal model near the shared one | personal model |
| per-fedavg | first-order meta-learning | shared model, fine-tuned |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from reefleet.errors import ConfigError
from reefleet.learning.network import Network
from reefleet.learning.objectives import Objective, Settings, quped, reefl_quped
from reefleet.learning.objectives.exits import Recipe, Rule, exits_objective
from reefleet.learning.objectives.rivals import fml, per_fedavg, pfedme, qupel
from reefleet.model import ModelSpec
from reefleet.simulation.config import ModelConfig

PUBLISHED_RAMP_ROUNDS = 300  # after which ReeFL's KL weight is full, however long the run

BIT_WIDTHS = frozenset("12345678")

ServerRule = Literal["mean", "dynamic", "tiers"]


@dataclass(frozen=True, slots=True)
class Share:
    """What a client bears: depth, bit-width, epochs of one training; and the run's rounds."""

    depth: int
    bits: int
    epochs: int
    rounds: int = 1


Make = Callable[[Network, Share, Settings], Objective]


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table; `answers` is the role of the tensors that a client answers with."""

    exits: Literal["ree", "heads"]
    federate: Make | None
    finish: Make | None = None
    answers: str = "shared"
    rule: ServerRule = "mean"
    deepest_only: bool = False

    def network(self, spec: ModelSpec, model: ModelConfig, settings: Settings) -> Network:
        """The network that its objectives train; raises ConfigError for what they cannot."""
        if self.answers == "personal" and (model.trained, model.modulation) != ("full", "on"):
            msg = "methods with a personal model train it in full: model.trained must be 'full'"
            raise ConfigError(msg + ", model.modulation 'on'")
        return Network(spec, self.exits, model.modulation, model.trained, settings.lora_rank)


def method_named(name: str) -> tuple[Method, int]:
    """The method and the bit-width of `NAME` or `NAME@BITS`, 0 for each client's own.

    Raises ConfigError listing the methods there are.
    """
    plain, at, bits = name.partition("@")
    if plain not in METHODS or (at and bits not in BIT_WIDTHS):
        msg = f"method {name!r} is unknown; it must be one of {', '.join(METHODS)}, or quped@BITS"
        raise ConfigError(msg)
    return METHODS[plain], int(bits or 0)


def _exits(name: str, rule: Rule, *, dynamic: bool = False) -> Make:
    def make(network: Network, share: Share, settings: Settings) -> Objective:
        recipe = Recipe(name, network, rule, dynamic)
        if rule == "paper" and not settings.ramp_share:
            settings = replace(settings, ramp_share=PUBLISHED_RAMP_ROUNDS / share.rounds)
        return exits_objective(recipe, share.depth, share.epochs, settings)

    return make


def _fine_tune(network: Network, share: Share, settings: Settings) -> Objective:
    tuned = replace(settings, rate=settings.finetune_rate, rate_end=settings.finetune_rate)
    epochs = settings.relax_epochs + settings.finetune_epochs  # as long as QuPeD's last stage
    recipe = Recipe("fine-tune", network, "sum")
    return exits_objective(recipe, share.depth, epochs, tuned)


def _rival(make: Callable[[Network, int, int, Settings], Objective]) -> tuple[Make, Make]:
    """Its rounds, and the same step once more at home, for clients that were never sampled too."""

    def federate(network: Network, share: Share, settings: Settings) -> Objective:
        return make(network, share.depth, share.epochs, settings)

    def finish(network: Network, share: Share, settings: Settings) -> Objective:
        epochs = settings.relax_epochs + settings.finetune_epochs
        return make(network, share.depth, epochs, settings)

    return federate, finish


def _qupel_round(network: Network, share: Share, settings: Settings) -> Objective:
    return qupel(network, share.depth, share.bits, share.epochs, settings)


def _per_fedavg_round(network: Network, share: Share, settings: Settings) -> Objective:
    return per_fedavg(network, share.depth, share.epochs, settings)


def _quped_round(network: Network, share: Share, settings: Settings) -> Objective:
    return reefl_quped(network.spec, share.depth, share.bits, share.epochs, settings)


def _quped_finish(network: Network, share: Share, settings: Settings) -> Objective:
    return quped(network.spec, share.depth, share.bits, settings)


METHODS: Mapping[str, Method] = {
    "reefl": Method("ree", _exits("reefl", "best-exit")),
    "reefl-paper": Method("ree", _exits("reefl-paper", "paper")),
    "depthfl": Method("heads", _exits("depthfl", "all-pairs")),
    "depthfl-dyn": Method("heads", _exits("depthfl", "all-pairs", dynamic=True), rule="dynamic"),
    "exclusivefl": Method("heads", _exits("exclusivefl", "sum"), deepest_only=True),
    "inclusivefl": Method("heads", _exits("inclusivefl", "last"), rule="tiers"),
    "fedavg": Method("heads", _exits("fedavg", "sum")),
    "fedavg-finetune": Method("heads", _exits("fedavg", "sum"), _fine_tune),
    "reefl-finetune": Method("ree", _exits("reefl", "best-exit"), _fine_tune),
    "local": Method("heads", None, _exits("local", "sum")),
    "quped": Method("ree", _quped_round, _quped_finish, "personal"),
    "qupel": Method("ree", _qupel_round, _quped_finish, "personal"),
    "fml": Method("ree", *_rival(fml), "personal"),
    "pfedme": Method("ree", *_rival(pfedme), "personal"),
    "per-fedavg": Method("ree", _per_fedavg_round, _fine_tune),
}

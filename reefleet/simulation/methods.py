"""The methods an experiment may name: network, federated step, what follows, rule of the server.

| method | what a round is | what a client answers with |
| --- | --- | --- |
| reefl, reefl-paper | Ree, distillation from the best exit (ours, or as published) | shared model |
| reefl-dyn | as reefl, with FedDyn | shared model |
| depthfl, depthfl-dyn | plain heads, all-pairs distillation; FedAvg or FedDyn | shared model |
| exclusivefl | plain heads, clients of the deepest tier alone | shared model |
| inclusivefl | plain heads, last exit alone, tier-wise momentum | its tier's model |
| scalefl | plain heads, shallow tiers narrower, deepest exit teaches | its tier's model |
| fedavg | plain heads, cross-entropy at every exit held | shared model |
| fedavg-finetune, reefl-finetune | as fedavg or reefl | that, fine-tuned on its own data |
| local | none | its own model |
| quped | two models, quantized personal one | personal model on the int8 grid |
| one-model | as reefl | quped's last stage, as after plans of one model a device |
| lsq, parq | as quped, with LSQ's learned step or PARQ's piecewise-affine map | the same |
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
from reefleet.learning.objectives.books import BITS_FLOAT
from reefleet.learning.objectives.exits import Recipe, Rule, exits_objective
from reefleet.learning.objectives.rivals import fml, per_fedavg, pfedme, qupel
from reefleet.model import ModelSpec
from reefleet.simulation.config import Distillation, ModelConfig

PUBLISHED_RAMP_ROUNDS = 300  # after which ReeFL's KL weight is full, however long the run

BIT_WIDTHS = {"float": BITS_FLOAT, **{str(bits): bits for bits in range(1, 9)}}

ServerRule = Literal["mean", "dynamic", "tiers", "widths"]


@dataclass(frozen=True, slots=True)
class Share:
    """What a client bears: depth, bit-width, epochs of one training; and what the run says.

    `distillation` other than "" takes the place of the method's own rule.
    """

    depth: int
    bits: int
    epochs: int
    rounds: int = 1
    distillation: Distillation = ""


Make = Callable[[Network, Share, Settings], Objective]


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table; `answers` is the role of the tensors that a client answers with.

    With `goes_on` the last stage starts from the personal model of the rounds at any setting.
    """

    exits: Literal["ree", "heads"]
    federate: Make | None
    finish: Make | None = None
    answers: str = "shared"
    rule: ServerRule = "mean"
    deepest_only: bool = False
    goes_on: bool = False

    def network(self, spec: ModelSpec, model: ModelConfig, settings: Settings) -> Network:
        """The network that its objectives train; raises ConfigError for what they cannot."""
        if self.answers == "personal" and (model.trained, model.modulation) != ("full", "on"):
            msg = "methods with a personal model train it in full: model.trained must be 'full'"
            raise ConfigError(msg + ", model.modulation 'on'")
        exits = "heads" if model.plain_heads else self.exits
        return Network(spec, exits, model.modulation, model.trained, settings.lora_rank)


def method_named(name: str) -> tuple[Method, int | None]:
    """The method and the bit-width of `NAME` or `NAME@BITS`, None for each client's own.

    Raises ConfigError listing the methods there are.
    """
    plain, at, bits = name.partition("@")
    if plain not in METHODS or (at and bits not in BIT_WIDTHS):
        msg = f"method {name!r} is unknown; it must be one of {', '.join(METHODS)}, or NAME@BITS"
        raise ConfigError(msg)
    return METHODS[plain], BIT_WIDTHS[bits] if at else None


def _exits(name: str, rule: Rule, *, dynamic: bool = False) -> Make:
    def make(network: Network, share: Share, settings: Settings) -> Objective:
        taught = share.distillation or rule
        recipe = Recipe(name, network, taught, dynamic)
        if taught == "paper" and not settings.ramp_share:
            settings = replace(settings, ramp_share=PUBLISHED_RAMP_ROUNDS / share.rounds)
        return exits_objective(recipe, share.depth, share.epochs, settings)

    return make


def _fine_tune(network: Network, share: Share, settings: Settings) -> Objective:
    tuned = replace(settings, rate=settings.finetune_rate, rate_end=settings.finetune_rate)
    epochs = settings.relax_epochs + settings.finetune_epochs  # as long as QuPeD's last stage
    recipe = Recipe("fine-tune", network, "sum")
    return exits_objective(recipe, share.depth, epochs, tuned)


def _local(network: Network, share: Share, settings: Settings) -> Objective:
    # As long as a client of a personal method trains in all: its rounds and the last stage.
    epochs = share.epochs + settings.relax_epochs + settings.finetune_epochs
    own = replace(settings, rate=settings.personal_rate, rate_end=settings.personal_rate_end)
    return exits_objective(Recipe("local", network, "sum"), share.depth, epochs, own)


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


def _quped(quantizer: Literal["quped", "lsq", "parq"]) -> tuple[Make, Make]:
    def federate(network: Network, share: Share, settings: Settings) -> Objective:
        chosen = replace(settings, quantizer=quantizer)
        spec, depth, bits = network.spec, share.depth, share.bits
        return reefl_quped(spec, depth, bits, share.epochs, chosen, network)

    def finish(network: Network, share: Share, settings: Settings) -> Objective:
        chosen = replace(settings, quantizer=quantizer)
        return quped(network.spec, share.depth, share.bits, chosen, network)

    return federate, finish


METHODS: Mapping[str, Method] = {
    "reefl": Method("ree", _exits("reefl", "best-exit")),
    "reefl-paper": Method("ree", _exits("reefl-paper", "paper")),
    "reefl-dyn": Method("ree", _exits("reefl", "best-exit", dynamic=True), rule="dynamic"),
    "depthfl": Method("heads", _exits("depthfl", "all-pairs")),
    "depthfl-dyn": Method("heads", _exits("depthfl", "all-pairs", dynamic=True), rule="dynamic"),
    "exclusivefl": Method("heads", _exits("exclusivefl", "sum"), deepest_only=True),
    "inclusivefl": Method("heads", _exits("inclusivefl", "last"), rule="tiers"),
    "scalefl": Method("heads", _exits("scalefl", "deepest"), rule="widths"),
    "fedavg": Method("heads", _exits("fedavg", "sum")),
    "fedavg-finetune": Method("heads", _exits("fedavg", "sum"), _fine_tune),
    "reefl-finetune": Method("ree", _exits("reefl", "best-exit"), _fine_tune),
    "local": Method("heads", None, _local),
    "quped": Method("ree", *_quped("quped"), "personal"),
    "one-model": Method("ree", _exits("reefl", "best-exit"), _quped("quped")[1], "personal"),
    "lsq": Method("ree", *_quped("lsq"), "personal"),
    "parq": Method("ree", *_quped("parq"), "personal"),
    "qupel": Method("ree", _qupel_round, _quped("quped")[1], "personal"),
    "fml": Method("ree", *_rival(fml), "personal", goes_on=True),
    "pfedme": Method("ree", *_rival(pfedme), "personal", goes_on=True),
    "per-fedavg": Method("ree", _per_fedavg_round, _fine_tune),
}

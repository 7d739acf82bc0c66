"""The server's side of a round: cuts of the model by depth, and one of four aggregation rules."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reefleet.aggregation.dynamic import Dynamic
from reefleet.aggregation.mean import HolderMean, HolderSums
from reefleet.aggregation.tiers import Tiers
from reefleet.learning.network import Network
from reefleet.simulation.methods import ServerRule
from reefleet.simulation.widths import Widths, tier_network

Model = dict[str, NDArray[np.float32]]


@dataclass(slots=True, eq=False)
class Server:
    """The shared model and what its rule remembers from round to round."""

    network: Network
    rule: ServerRule
    devices: int
    alpha: float
    model: Model
    memory: Model = field(default_factory=dict)
    _sums: dict[int, HolderSums] = field(default_factory=dict)
    _widths: Widths | None = None

    @classmethod
    def start(
        cls, network: Network, rule: ServerRule, devices: int, alpha: float, first: Model
    ) -> Server:
        """A server before its first round, which starts from the tensors `first`."""
        model = dict(first)
        server = cls(network, rule, devices, alpha, model)
        if rule == "widths":
            server._widths = Widths(network)
        if rule == "tiers":
            for depth in network.spec.exits:
                for name in network.shapes(depth):
                    model.setdefault(server.name(name, depth), model[name].copy())
        return server

    @property
    def tiered(self) -> bool:
        """Whether each exit is answered by its own tier's model."""
        return self.rule in {"tiers", "widths"}

    def network_of(self, depth: int) -> Network:
        """The network that a client of this depth trains."""
        return tier_network(self.network, self.rule, depth)

    def name(self, tensor: str, depth: int) -> str:
        """What the model calls a tensor of a client of this depth."""
        if self.rule != "tiers":
            return tensor
        return Tiers(self.network.spec.exits).server_name(tensor, depth)

    def cut(self, depth: int) -> Model:
        """The sub-model of this depth, by the client's names."""
        if self._widths:
            return self._widths.cut(self.model, depth)
        return {name: self.model[self.name(name, depth)] for name in self.network.shapes(depth)}

    def fold(self, depth: int, delta: Model, samples: int) -> None:
        """Take one client's update."""
        if self._widths:
            self._widths.fold(self.model, delta)
            return
        tier = depth if self.rule == "tiers" else 0
        if tier not in self._sums:
            self._sums[tier] = HolderMean().init(self.model)
        named = {self.name(name, depth): value for name, value in delta.items()}
        weight = 1.0 if self.rule == "dynamic" else float(samples)
        HolderMean().fold(self._sums[tier], named, weight)

    def finish(self) -> None:
        """Close the round; the model moves."""
        sums, self._sums = self._sums, {}
        if self._widths:
            self.model = self._widths.finish(self.model)
        elif self.rule == "tiers":
            rule = Tiers(self.network.spec.exits)
            self.model, self.memory = rule.finish(sums, self.model, self.memory)
        elif self.rule == "dynamic":
            dynamic = Dynamic(self.devices, self.alpha)
            self.model, self.memory = dynamic.finish(sums[0], self.model, self.memory)
        else:
            self.model = HolderMean().finish(sums[0], self.model)

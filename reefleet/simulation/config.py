"""An experiment as its TOML file says it; every table has defaults, every value is checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from reefleet.errors import ConfigError
from reefleet.learning.network import TrainedSet
from reefleet.learning.objectives import Settings
from reefleet.learning.ree import Modulation
from reefleet.settings import within

Partition = Literal["iid", "dirichlet", "classes", "natural", "quantity"]


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Which corpus, and how clients share it; `path` is relative to the data folder."""

    kind: str = "digits"
    path: str = ""
    size: int = within(0, 0, 1024)  # 0: as it is
    partition: Partition = "iid"
    clients: int = within(10, 1, 100_000)
    alpha: float = within(1.0, 1e-3, 1e6)  # of Dirichlet, for classes or amounts
    classes_per_client: int = within(2, 1, 10_000)
    least: int = within(10, 1, 100_000)  # samples a client holds
    samples: int = within(0, 0, 10_000_000)  # drawn from the corpus first; 0: all
    feature_noise: float = within(0.0, 0.0, 1.0)  # deviation at the last client; 0 at the first
    validation_share: float = within(0.15, 0.0, 0.9)
    test_share: float = within(0.2, 0.0, 0.9)
    evaluated: int = within(2000, 1, 10_000_000)  # pooled samples a shared model is judged on


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Geometry of the network, image side and channels aside, which the data give."""

    patch_size: int = within(2, 1, 1024)
    width: int = within(32, 1, 4096)
    heads: int = within(2, 1, 64)
    depth: int = within(4, 1, 64)
    exits: tuple[int, ...] = (1, 2, 3, 4)
    mlp_ratio: int = within(4, 1, 16)
    ree_hidden: int = within(0, 0, 65536)
    modulation: Modulation = "on"
    trained: TrainedSet = "full"
    public_samples: int = within(0, 0, 10_000_000)  # to pre-train the backbone on; 0: from scratch
    public_epochs: int = within(30, 1, 10_000)


@dataclass(frozen=True, slots=True)
class RoundsConfig:
    """How long: rounds, clients sampled in each, local epochs, batch."""

    total: int = within(10, 1, 100_000)
    per_round: int = within(10, 1, 100_000)
    local_epochs: int = within(1, 1, 1000)
    batch_size: int = within(16, 1, 1024)
    evaluate_every: int = within(5, 1, 100_000)


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """Which client bears what: client i has depth i mod K and bits i mod J of these lists."""

    depths: tuple[int, ...] = ()  # none: every exit
    bits: tuple[int, ...] = (4,)


@dataclass(frozen=True, slots=True)
class Experiment:
    """One file under experiments/.

    `rates` are tried for each method with the first seed; the best mean-over-exits accuracy on
    validation data decides. None: the rate of `training`.
    """

    name: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    rates: tuple[float, ...] = ()
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    fleet: FleetConfig = field(default_factory=FleetConfig)
    training: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        """Refuse what no run can have, naming the value."""
        if not self.methods or not self.seeds:
            msg = "methods and seeds must name at least one each"
            raise ConfigError(msg)
        if odd := [depth for depth in self.fleet.depths if depth not in self.model.exits]:
            msg = f"fleet.depths has {odd[0]}, which is not one of the exits {self.model.exits}"
            raise ConfigError(msg)
        if odd := [bits for bits in self.fleet.bits if not 1 <= bits <= 8]:
            msg = f"fleet.bits has {odd[0]}; bit-widths run from 1 to 8"
            raise ConfigError(msg)
        if min((self.training.rate, *self.rates)) <= 0:
            msg = "training.rate and rates must be positive"
            raise ConfigError(msg)
        if self.data.validation_share + self.data.test_share >= 1:
            msg = "data.validation_share and data.test_share leave nothing to train on"
            raise ConfigError(msg)

    @property
    def depths(self) -> tuple[int, ...]:
        """Depths of the tiers, shallow to deep as given."""
        return self.fleet.depths or self.model.exits

"""An experiment as its TOML file says it; every table has defaults, every value is checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from reefleet.errors import ConfigError
from reefleet.learning.objectives import Settings
from reefleet.learning.ree import Modulation
from reefleet.plan import TrainedSet, codec_stages
from reefleet.settings import within

Distillation = Literal["", "best-exit", "paper", "all-pairs", "deepest", "sum"]
Partition = Literal["iid", "dirichlet", "classes", "natural", "quantity"]


LEAST_TO_WIDEN = 2  # rates that give a ratio


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
    """Geometry of the network, image side and channels aside, which the data give.

    With `conv_stem` the backbone is convolutional: channels of its stem, and of each block with its
    stride; `patch_size` is then the stride of the stem, and `heads` is not used.
    """

    patch_size: int = within(2, 1, 1024)
    patch_width: int = within(0, 0, 1024)  # 0: patches are square
    width: int = within(32, 1, 4096)
    heads: int = within(2, 1, 64)
    depth: int = within(4, 1, 64)
    exits: tuple[int, ...] = (1, 2, 3, 4)
    mlp_ratio: int = within(4, 1, 16)
    ree_hidden: int = within(0, 0, 65536)
    conv_stem: int = within(0, 0, 65536)
    conv_widths: tuple[int, ...] = ()
    conv_strides: tuple[int, ...] = ()
    modulation: Modulation = "on"
    plain_heads: bool = False  # for every method: a plain head at each exit, no Ree
    trained: TrainedSet = "full"
    distillation: Distillation = ""  # who teaches whom; "": as the method says
    ree_start: Literal["identity", "random"] = "identity"  # over a pre-trained backbone
    holder_mask: bool = True  # of depth-embedding rows: only who trains a row votes on it
    public_samples: int = within(0, 0, 10_000_000)  # to pre-train the backbone on; 0: from scratch
    public_epochs: int = within(30, 1, 10_000)


@dataclass(frozen=True, slots=True)
class RoundsConfig:
    """How long: rounds, clients sampled in each, local epochs, batch."""

    total: int = within(10, 1, 100_000)
    per_round: int = within(10, 1, 100_000)
    cohort: Literal["uniform", "stratified"] = "uniform"  # stratified: as a coordinator draws
    local_epochs: int = within(1, 1, 1000)
    batch_size: int = within(16, 1, 1024)
    evaluate_every: int = within(5, 1, 100_000)
    codec: str = "float32"  # of updates, as a fleet's [rounds] codec


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """Which client bears what: client i has depth i mod K and bits i mod J of these lists."""

    depths: tuple[int, ...] = ()  # none: every exit
    bits: tuple[int, ...] = (4,)
    deepest_only: bool = False  # only clients of the deepest tier take part in rounds


@dataclass(frozen=True, slots=True)
class Experiment:
    """One file under experiments/.

    `rates` are tried for each method with the first seed; the best mean-over-exits accuracy on
    validation data decides. None: the rate of `training`. While the best is the least or the
    largest of those tried, up to `widen` more are tried beyond it, in the ratio of its neighbours.
    """

    name: str
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    rates: tuple[float, ...] = ()
    widen: int = within(0, 0, 20)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    fleet: FleetConfig = field(default_factory=FleetConfig)
    training: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        """Refuse what no run can have, naming the value."""
        if not codec_stages(self.rounds.codec):
            msg = f"rounds.codec is {self.rounds.codec!r}; see docs/rounds.md for codecs"
            raise ConfigError(msg)
        if not self.seeds:
            msg = "seeds must name at least one"
            raise ConfigError(msg)
        if self.widen and len(self.rates) < LEAST_TO_WIDEN:
            msg = "widen needs two rates or more to go on from"
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

"""Settings of a coordinator: `coordinator.toml` in its folder, then REEFLEET_..., then flags."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.planner import Budget
from reefleet.errors import ConfigError, MissingFile
from reefleet.model import ModelContract
from reefleet.rpc.identity import DEVICE_DAYS
from reefleet.settings import load, within

CONFIG_NAME = "coordinator.toml"
ENV_PREFIX = "REEFLEET_COORDINATOR_"


@dataclass(frozen=True, slots=True)
class Listen:
    """Where devices reach the coordinator. Port 0: any free one, the same again after a restart.

    `names` are further names or addresses for the server's certificate.
    """

    host: str = "0.0.0.0"  # noqa: S104  # boards call from outside; both ports speak TLS
    fleet_port: int = within(8470, 0, 65535)
    enrollment_port: int = within(8471, 0, 65535)
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RoundPolicy:
    """When rounds open and close. `quorum` is the share of the cohort whose updates close a round.

    `cohort` bounds the devices in a round (0: all). Only devices that called within `presence_s`
    are invited. `poll_ms` is how long an idle device waits before it asks again.
    """

    total: int = within(8, 1, 1_000_000)
    min_devices: int = within(2, 1, 1_000_000)
    quorum: float = within(0.8, 0.01, 1.0)
    deadline_s: float = within(600.0, 1.0, 7 * 86400.0)
    poll_ms: int = within(1000, 10, 3_600_000)
    cohort: int = within(0, 0, 1_000_000)
    presence_s: float = within(600.0, 1.0, 7 * 86400.0)


@dataclass(frozen=True, slots=True)
class UpdatePolicy:
    """What an update may be. `max_norm_ratio` bounds its norm by that of the weights it moves."""

    max_norm_ratio: float = within(10.0, 1e-6, 1e6)
    max_samples: int = within(1_000_000, 1, 1_000_000_000)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The model's contract and where its first weights come from; paths are from the folder.

    A checkpoint (safetensors) wins over public data (npz) to pretrain on; with neither, the first
    weights are random. `accuracy` is the measured table that plans are ranked by.
    """

    contract: Path = Path("contract.json")
    checkpoint: Path | None = None
    public_data: Path | None = None
    accuracy: Path | None = None
    seed: int = within(0, 0, 2**31 - 1)


@dataclass(frozen=True, slots=True)
class Compile:
    """How task bundles are built. `cache_dir` may be shared by many runs."""

    parallel: int = within(2, 1, 64)
    cache_dir: Path = Path("cache")
    timeout_s: float = within(900.0, 1.0, 86400.0)


@dataclass(frozen=True, slots=True)
class Admission:
    """How long device certificates last, and how many wrong enrollments an address may try.

    A client renews its certificate at two thirds of `certificate_days`; a device that is switched
    off for longer than the rest has to enroll again.
    """

    certificate_days: float = within(DEVICE_DAYS, 0.0001, 3650.0)
    failures_per_minute: int = within(10, 1, 100_000)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where Prometheus may ask, without a certificate; port 0 turns it off."""

    host: str = "127.0.0.1"
    port: int = within(0, 0, 65535)


@dataclass(frozen=True, slots=True)
class StoragePolicy:
    """How much history stays on disk: the newest `keep_versions` models, and what is in use.

    Blobs are deleted once nothing has needed them for `grace_s`.
    """

    keep_versions: int = within(10, 1, 1_000_000)
    collect_every_s: float = within(600.0, 1.0, 86400.0)
    grace_s: float = within(3600.0, 60.0, 30 * 86400.0)


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """All settings of one coordinator; `budget` is what each device is granted."""

    fleet: str = "fleet"
    listen: Listen = field(default_factory=Listen)
    admission: Admission = field(default_factory=Admission)
    rounds: RoundPolicy = field(default_factory=RoundPolicy)
    updates: UpdatePolicy = field(default_factory=UpdatePolicy)
    storage: StoragePolicy = field(default_factory=StoragePolicy)
    model: ModelSource = field(default_factory=ModelSource)
    compile: Compile = field(default_factory=Compile)
    metrics: Metrics = field(default_factory=Metrics)
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        """Refuse a fleet name that no certificate can carry."""
        if not 1 <= len(self.fleet) <= 48 or not self.fleet.isprintable():
            msg = f"fleet is {self.fleet!r}; it must be a name of 1 to 48 printable characters"
            raise ConfigError(msg)


def read_config(directory: Path) -> CoordinatorConfig:
    """The settings of the coordinator in `directory`; raises MissingFile or ConfigError."""
    path = directory / CONFIG_NAME
    if not path.is_file():
        msg = f"{directory} holds no coordinator; run: reefleet coordinator init {directory}"
        raise MissingFile(msg)
    return load(CoordinatorConfig, path, ENV_PREFIX)


def read_contract(path: Path) -> ModelContract:
    """The model contract in a JSON file; raises MissingFile or ConfigError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"cannot read the model contract {path}: {error.strerror}"
        raise MissingFile(msg) from error
    except ValueError as error:
        msg = f"{path} is not JSON: {error}"
        raise ConfigError(msg) from error
    if not isinstance(values, dict):
        msg = f"{path} is not a model contract"
        raise ConfigError(msg)
    return ModelContract.from_json(values)


def template(fleet: str, public_data: Path | None) -> str:
    """A commented coordinator.toml with the defaults."""
    data = json.dumps(str(public_data)) if public_data else '"public.npz"'
    shown = "" if public_data else "# "
    return _TEMPLATE.format(fleet=json.dumps(fleet), shown=shown, data=data)


_TEMPLATE = """\
# A Reefleet coordinator. Every value below is the default; paths are from this folder.
# REEFLEET_COORDINATOR_ROUNDS_TOTAL=20 in the environment wins over `total` in [rounds], and so on.

fleet = {fleet}

[listen]
host = "0.0.0.0"
fleet_port = 8470        # mutual TLS; 0 takes any free port
enrollment_port = 8471   # TLS; only for trading a token for a certificate
# names = ["coordinator.example.org"]   # more names for the server's certificate

[admission]
certificate_days = 30.0  # devices renew theirs at two thirds of it
failures_per_minute = 10 # wrong enrollments that one address may try

[rounds]
total = 8
min_devices = 2          # a round opens when so many are ready
quorum = 0.8             # share of the cohort whose updates close a round
deadline_s = 600.0       # a round closes then with what it has
poll_ms = 1000           # how long an idle device waits before it asks again
cohort = 0               # most devices in a round; 0 invites all
presence_s = 600.0       # invite only devices that called so lately

[updates]
max_norm_ratio = 10.0    # refuse an update longer than this many times the weights it moves
max_samples = 1000000    # refuse an update that claims more samples

[storage]
keep_versions = 10       # older models are deleted
collect_every_s = 600.0  # look for files that nothing needs any more
grace_s = 3600.0         # and delete what nothing has needed for so long

[model]
contract = "contract.json"
{shown}public_data = {data}   # pretrain the first model on this (npz)
# checkpoint = "weights.safetensors"   # or start from these weights
# accuracy = "accuracy.json"   # measured accuracy by depth and bits, which plans are ranked by
seed = 0

[compile]
parallel = 2             # bundles built at once
cache_dir = "cache"      # may be shared by many runs
timeout_s = 900.0

[metrics]                # figures for Prometheus; whoever reaches the port may read them
host = "127.0.0.1"
port = 0                 # 0: off; deploy/ expects 9470

[budget]                 # what each device is granted; see `reefleet plan --help`
# latency_ms = 50.0      # most milliseconds for one answer at full depth
memory_share = 0.75      # of the free memory, for training
model_share = 0.02       # of the free memory, for the packed sub-model
storage_share = 0.5      # of the free storage
round_deadline_s = 600.0 # for download, training and upload of one round
# round_mib = 20.0       # most MiB of one round, both ways
# energy_j = 500.0       # most joules of one round above idle, where the board's draw is known
local_epochs = 1
least_epochs = 1         # fewer local epochs before a smaller sub-model, down to this
min_bits = 2
max_bits = 8
max_models = 2           # 2: a personal model beside the shared one where memory allows
"""

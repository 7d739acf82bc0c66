"""Settings of a coordinator: `coordinator.toml` in its folder, then REEFLEET_..., then flags."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.planner import Budget
from coordinator.round_policy import Eligibility, RoundPolicy
from reefleet.errors import ConfigError, MissingFile
from reefleet.model import ModelContract
from reefleet.plan import TrainedSet
from reefleet.rpc.identity import DEVICE_DAYS
from reefleet.settings import load, within

CONFIG_NAME = "coordinator.toml"
ENV_PREFIX = "REEFLEET_COORDINATOR_"

__all__ = [
    "CONFIG_NAME",
    "ENV_PREFIX",
    "Admission",
    "Compile",
    "CoordinatorConfig",
    "DeploymentPolicy",
    "Eligibility",
    "Listen",
    "Metrics",
    "ModelSource",
    "RoundPolicy",
    "StoragePolicy",
    "UpdatePolicy",
    "Web",
    "read_config",
    "read_contract",
    "template",
]


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
class UpdatePolicy:
    """What an update may be. `max_norm_ratio` bounds its norm by that of the weights it moves."""

    max_norm_ratio: float = within(10.0, 1e-6, 1e6)
    max_samples: int = within(1_000_000, 1, 1_000_000_000)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The model's contract and where its first weights come from; paths are from the folder.

    A checkpoint (safetensors) wins over public data (npz) to pretrain on; with neither, the first
    weights are random. `accuracy` is the measured table that plans are ranked by. `trained` is what
    a device moves and sends: everything (`full`), the exits alone (`frozen`), or those and what is
    added for it (`lora`, `ssf`, `adapters`, `parallel-adapters`); but for `full`, in plans of one
    model.
    """

    contract: Path = Path("contract.json")
    checkpoint: Path | None = None
    public_data: Path | None = None
    accuracy: Path | None = None
    seed: int = within(0, 0, 2**31 - 1)
    trained: TrainedSet = "full"


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
class Mqtt:
    """A broker for presence, telemetry and wake-ups; port 0 does without.

    Devices and coordinator call it `host`; '' is the coordinator's machine. Its access rules are
    renewed in `files` ('': the folder's `mqtt`), and mosquitto is told by its `pid_file`.
    """

    host: str = ""
    port: int = within(0, 0, 65535)
    files: str = ""
    pid_file: str = ""
    telemetry_s: float = within(60.0, 1.0, 86400.0)


@dataclass(frozen=True, slots=True)
class Tracing:
    """Where OpenTelemetry traces go, as a URL of an OTLP collector (gRPC); '' sends none."""

    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Web:
    """The built-in page, read-only; port 0 turns it off.

    On loopback it is plain HTTP without a login. On any other host it is HTTPS, and asks for the
    token in `pki/web.token`. `names` are further names or addresses that browsers call it by.
    """

    host: str = "127.0.0.1"
    port: int = within(0, 0, 65535)
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoragePolicy:
    """How much history stays on disk: the newest `keep_versions` models, and what is in use.

    Blobs are deleted once nothing has needed them for `grace_s`. Uploads are refused while less
    than `reserve_mib` of the disk is free.
    """

    keep_versions: int = within(10, 1, 1_000_000)
    collect_every_s: float = within(600.0, 1.0, 86400.0)
    grace_s: float = within(3600.0, 60.0, 30 * 86400.0)
    reserve_mib: int = within(64, 0, 1 << 20)


@dataclass(frozen=True, slots=True)
class DeploymentPolicy:
    """When canaries have passed: `pass_share` of them kept the new sub-model.

    A canary that has not answered within `canary_deadline_s` counts as one that did not.
    """

    pass_share: float = within(0.8, 0.01, 1.0)
    canary_deadline_s: float = within(86400.0, 1.0, 30 * 86400.0)


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """All settings of one coordinator; `budget` is what each device is granted.

    `database` is the URL of a PostgreSQL database; empty: the file state.db in the folder.
    """

    fleet: str = "fleet"
    database: str = field(default="", repr=False)  # it may hold a password
    listen: Listen = field(default_factory=Listen)
    admission: Admission = field(default_factory=Admission)
    rounds: RoundPolicy = field(default_factory=RoundPolicy)
    eligibility: Eligibility = field(default_factory=Eligibility)
    updates: UpdatePolicy = field(default_factory=UpdatePolicy)
    deployments: DeploymentPolicy = field(default_factory=DeploymentPolicy)
    storage: StoragePolicy = field(default_factory=StoragePolicy)
    model: ModelSource = field(default_factory=ModelSource)
    compile: Compile = field(default_factory=Compile)
    metrics: Metrics = field(default_factory=Metrics)
    web: Web = field(default_factory=Web)
    mqtt: Mqtt = field(default_factory=Mqtt)
    tracing: Tracing = field(default_factory=Tracing)
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
# database = "postgresql+psycopg://reefleet@db.example.org/reefleet"   # default: a file, state.db
#   its password: in pki/database.password, in a credential of that name, or in PGPASSWORD

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
presence_s = 900.0       # invite only devices that called so lately
idle_calls_per_s = 3.0   # of all devices that stay idle; more of them wait longer
over_selection = 0.0     # share of the cohort that is invited beyond it; the first ones count
late = "refuse"          # updates after the close; "fold" counts them, shortened, in the next round
mode = "sync"            # "async": work for whoever asks, a version for each `buffer` updates
buffer = 10
max_staleness = 10       # versions behind which a late update no longer counts
staleness_power = 0.5    # s versions behind, it counts (1 + s) ** -0.5 of its length
device_clip = 0.0        # have devices shorten their updates to this norm; 0: not
rule = "mean"            # by holder; or "trimmed-mean", "median", "krum"
trim = 0.1               # trimmed-mean leaves out so much at each end
krum_bad_share = 0.2     # krum assumes that so many devices may be bad
krum_keep = 0            # krum averages so many updates; 0: all that are not assumed bad

[rounds.optimizer]
name = "sgd"             # or "fedavgm", "fedadam", "fedyogi", which remember earlier moves
rate = 1.0               # 0.01 to 0.1 for fedadam and fedyogi
momentum = 0.9
decay = 0.99
adaptivity = 0.001

[rounds.clipping]
norm = 0.0               # shorten updates to this norm; 0: not
median_of = 0            # shorten updates to the median length of the last so many; 0: not

[eligibility]            # which devices get work now; what a device does not tell is no obstacle
mains_only = false
min_battery_percent = 0  # for devices that are not on mains
max_temperature_c = 150
unmetered = false
idle = false
# hours = "22:00-06:00"  # by this machine's clock

[updates]
max_norm_ratio = 10.0    # refuse an update longer than this many times the weights it moves
max_samples = 1000000    # refuse an update that claims more samples

[deployments]
pass_share = 0.8         # of the canaries have to keep a version before all devices get it
canary_deadline_s = 86400.0   # a canary that is silent for longer did not keep it

[storage]
keep_versions = 10       # older models are deleted
collect_every_s = 600.0  # look for files that nothing needs any more
grace_s = 3600.0         # and delete what nothing has needed for so long
reserve_mib = 64         # refuse uploads while less of the disk is free

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

[tracing]                # OpenTelemetry; needs reefleet[tracing]
# endpoint = "http://localhost:4317"   # of an OTLP collector; without it nothing is sent

[mqtt]                   # a broker for presence, telemetry and wake-ups; see docs/mqtt.md
# host = "broker.example.org"   # else the coordinator's own
port = 0                 # 0: none; `reefleet coordinator mqtt-acl` sets up 8883
# files = "/etc/reefleet-mqtt"   # what that wrote; access rules are renewed there
telemetry_s = 60.0       # between two reports of a device

[web]                    # the built-in page: the fleet, its devices and rounds, in a browser
host = "127.0.0.1"       # any other host speaks HTTPS and asks for the token in pki/web.token
port = 0                 # 0: off; 8480 for example
# names = ["coordinator.example.org"]   # more names that browsers call it by

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
least_share = 0.25       # then this part of an epoch; 1: whole epochs only
# trained = ["full"]     # sets it may train, the preferred one first; or "frozen", the model's own
min_bits = 2
max_bits = 8
max_models = 2           # 2: a personal model beside the shared one where memory allows
"""

"""What an operator grants a device: hard bounds, and the choices that are open within them."""

from __future__ import annotations

from dataclasses import dataclass

from devices.cost import RUNTIMES
from reefleet.errors import ConfigError
from reefleet.plan import TRAINED_SETS
from reefleet.settings import within


@dataclass(frozen=True, slots=True)
class Budget:
    """What an operator grants a device. Shares are of what the device has free.

    `latency_ms` bounds one answer at full depth (None: unbounded), `model_share` the packed
    sub-model in memory, `memory_share` the training client, `round_deadline_s` the download,
    local training and upload of one round, `round_mib` the bytes of one round both ways,
    `energy_j` what one round draws above idle. `default_samples` counts where a device does not
    say. Epochs yield, down to `least_epochs` and then to `least_share` of one, before depth or
    bits do. `trained` are the trained sets it allows, the preferred one first; `runtime` is what
    answers. `mixed_bits` allows layers of different widths between two uniform ones.
    """

    latency_ms: float | None = None
    memory_share: float = within(0.75, 0.01, 1.0)
    model_share: float = within(0.02, 1e-6, 1.0)
    storage_share: float = within(0.5, 0.01, 1.0)
    round_deadline_s: float = within(600.0, 0.001, 1e6)
    round_mib: float | None = None
    energy_j: float | None = None
    local_epochs: int = within(1, 1, 1000)
    least_epochs: int = within(1, 1, 1000)
    least_share: float = within(0.25, 0.01, 1.0)
    default_samples: int = within(1000, 1, 10**9)
    min_bits: int = within(2, 1, 8)
    max_bits: int = within(8, 1, 8)
    max_models: int = within(2, 1, 2)
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    trained: tuple[str, ...] = ("full",)
    runtime: str = "onnxruntime-int8"
    mixed_bits: bool = True

    def __post_init__(self) -> None:
        """Refuse a budget that no device can meet, naming the value."""
        for name in ("latency_ms", "round_mib", "energy_j"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                msg = f"{name} is {value}; it must be positive"
                raise ConfigError(msg)
        if self.min_bits > self.max_bits:
            msg = f"min_bits {self.min_bits} is above max_bits {self.max_bits}"
            raise ConfigError(msg)
        if self.least_epochs > self.local_epochs:
            msg = f"least_epochs {self.least_epochs} is above local_epochs {self.local_epochs}"
            raise ConfigError(msg)
        if not self.trained or set(self.trained) - set(TRAINED_SETS):
            msg = f"trained {self.trained} must name some of {', '.join(TRAINED_SETS)}"
            raise ConfigError(msg)
        if self.runtime not in RUNTIMES:
            msg = f"runtime is {self.runtime!r}; it must be one of {', '.join(RUNTIMES)}"
            raise ConfigError(msg)
        if not self.batch_sizes or not all(1 <= size <= 1024 for size in self.batch_sizes):
            msg = f"batch_sizes {self.batch_sizes} must hold sizes from 1 to 1024"
            raise ConfigError(msg)

    @property
    def bits(self) -> range:
        """The bit-widths it allows, from the fewest."""
        return range(self.min_bits, self.max_bits + 1)

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes it allows, from the smallest."""
        return tuple(sorted(set(self.batch_sizes)))

    @property
    def efforts(self) -> tuple[float, ...]:
        """The local epochs it allows, from the fewest; below 1 that share of an epoch, halved."""
        whole = tuple(float(n) for n in range(self.least_epochs, self.local_epochs + 1))
        shares = [1.0]
        while self.least_epochs == 1 and shares[-1] / 2 >= self.least_share:
            shares.append(shares[-1] / 2)
        return (*reversed(shares[1:]), *whole)

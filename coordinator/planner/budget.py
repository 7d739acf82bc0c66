"""What an operator grants a device: hard bounds, and the choices that are open within them."""

from __future__ import annotations

from dataclasses import dataclass

from reefleet.errors import ConfigError
from reefleet.settings import within


@dataclass(frozen=True, slots=True)
class Budget:
    """What an operator grants a device. Shares are of what the device has free.

    `latency_ms` bounds one answer at full depth (None: unbounded), `model_share` the packed
    sub-model in memory, `memory_share` the training client, `round_deadline_s` the download,
    local training and upload of one round, `round_mib` the bytes of one round both ways,
    `energy_j` what one round draws above idle. `default_samples` counts where a device does not
    say. Epochs yield, down to `least_epochs`, before depth or bits do.
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
    default_samples: int = within(1000, 1, 10**9)
    min_bits: int = within(2, 1, 8)
    max_bits: int = within(8, 1, 8)
    max_models: int = within(2, 1, 2)
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)

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
    def epochs(self) -> range:
        """The local epochs it allows, from the fewest."""
        return range(self.least_epochs, self.local_epochs + 1)

"""Which run of an experiment: its method, rate and seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from reefleet.learning.objectives import Settings
from reefleet.simulation.config import Experiment


@dataclass(frozen=True, slots=True)
class Trial:
    """One run; a variant's runs bear its `name` in place of the method's."""

    experiment: Experiment
    method: str
    rate: float
    seed: int
    name: str = ""

    @property
    def settings(self) -> Settings:
        """The experiment's settings with this rate; the end and the personal rates keep ratio."""
        base = self.experiment.training
        factor = self.rate / base.rate
        return replace(
            base,
            rate=self.rate,
            rate_end=base.rate_end * factor,
            personal_rate=base.personal_rate * factor,
            personal_rate_end=base.personal_rate_end * factor,
        )

    @property
    def folder(self) -> str:
        """Name of the run's folder."""
        return f"{self.name or self.method}-rate{self.rate:g}-seed{self.seed}"

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides the digits."""
        facts = asdict(replace(self.experiment, name="", methods=(), seeds=(0,), rates=(), widen=0))
        told = json.dumps([facts, self.method, self.rate, self.seed], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

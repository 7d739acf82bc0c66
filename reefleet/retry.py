"""How long to wait between attempts: a value, so that policy is passed along and never hidden."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from reefleet.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential back-off: `base_s`, times `factor` each time, at most `ceiling_s` a wait.

    `total_s` bounds the sum of all waits; None goes on for ever. `jitter` is the share of each wait
    that is random, so that a fleet does not come back in one wave.
    """

    base_s: float = 0.5
    factor: float = 2.0
    ceiling_s: float = 30.0
    total_s: float | None = None
    jitter: float = 0.5

    def __post_init__(self) -> None:
        """Refuse values that would wait backwards or for ever on one attempt."""
        checks = {
            "base_s": self.base_s > 0,
            "factor": self.factor >= 1,
            "ceiling_s": self.ceiling_s >= self.base_s,
            "total_s": self.total_s is None or self.total_s >= 0,
            "jitter": 0 <= self.jitter <= 1,
        }
        for name, good in checks.items():
            if not good:
                msg = f"retry value {name} = {getattr(self, name)!r} is out of range"
                raise ConfigError(msg)

    def delays(self, rng: random.Random) -> Iterator[float]:
        """Yield the seconds to wait before each further attempt; ends when `total_s` is spent."""
        wait, left = self.base_s, self.total_s
        while left is None or left > 0:
            delay = wait * (1 - self.jitter * rng.random())
            if left is not None:
                delay = min(delay, left)
                left -= delay
            yield delay
            wait = min(wait * self.factor, self.ceiling_s)

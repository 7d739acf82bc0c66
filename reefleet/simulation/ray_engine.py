"""Clients in shards over a Ray cluster, to the same digits as in one process.

A client's work depends on its arguments alone, and its outcome is folded in the order of the
cohort, so where it was done shows nowhere. Ray itself moves values as pickles between its own
processes; the cluster has to be trusted as this machine is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reefleet.errors import NonFiniteUpdate, RuntimeUnavailable
from reefleet.simulation.clients import Clients, Crew, Model, Outcome, Work
from reefleet.simulation.ground import Ground
from reefleet.simulation.trial import Trial


class Shard:
    """A process of the cluster: it holds the ground of a run and does what it is given."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._held: list[Clients] = []

    def begin(self, trial: Trial, ground: Ground) -> None:
        """Make ready for a run."""
        self._held = [Clients(trial, ground)]

    def do(self, works: Sequence[Work], weights: Mapping[int, Model]) -> list[Outcome] | str:
        """Do some clients' work in turn; the reason where one diverged."""
        (clients,) = self._held
        try:
            return [
                clients.do(work, weights[clients.population.clients[work.client].depth])
                for work in works
            ]
        except NonFiniteUpdate as error:
            return str(error)


class RayEngine:
    """Shards on an existing cluster, or on one that is started here and stopped by `close`."""

    def __init__(self, address: str = "", shards: int = 0, threads: int = 1) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            msg = "the engine ray needs Ray; run: pip install 'reefleet[ray]'"
            raise RuntimeUnavailable(msg) from error
        self._ray: Any = ray
        try:
            self._ray.init(address=address or None, include_dashboard=False, log_to_driver=False)
        except ConnectionError as error:
            msg = f"there is no Ray cluster at {address}: {error}"
            raise RuntimeUnavailable(msg) from error
        count = shards or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        remote = self._ray.remote(num_cpus=1)(Shard)
        self._shards: list[Any] = [remote.remote(threads) for _ in range(count)]

    def __call__(self, trial: Trial, ground: Ground) -> Crew:
        """Hand every shard the ground of a run."""
        ray, shards = self._ray, self._shards
        held = ray.put(ground)
        ray.get([shard.begin.remote(trial, held) for shard in shards])

        def crew(works: Sequence[Work], weights: Mapping[int, Model]) -> list[Outcome]:
            lent = ray.put(dict(weights))
            dealt = [works[first :: len(shards)] for first in range(len(shards))]
            told = ray.get(
                [shard.do.remote(part, lent) for shard, part in zip(shards, dealt, strict=True)]
            )
            if failed := [found for found in told if isinstance(found, str)]:
                raise NonFiniteUpdate(failed[0])
            done = {outcome.client: outcome for part in told for outcome in part}
            return [done[work.client] for work in works]

        return crew

    def close(self) -> None:
        """Let the shards go, and the cluster that was started here."""
        self._ray.shutdown()

"""Figures for Prometheus: the fleet as the store has it at each scrape, and the calls served."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator import records as r
from coordinator.clock import Clock
from coordinator.config import CoordinatorConfig
from coordinator.coverage import Coverage
from coordinator.interception import wrapped
from coordinator.pulse import Pulse
from coordinator.store import Store

_SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)


class CallMetrics(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no annotations
    """Counts and times each call by method and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["method"]
        self._seconds = Histogram(
            "reefleet_call_seconds",
            "Time of a call",
            labels,
            buckets=_SECONDS,
            registry=registry,
        )
        self._failed = Counter(
            "reefleet_calls_refused", "Calls that ended with an error", labels, registry=registry
        )

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wrap the handler of a call; unknown methods stay unknown."""
        handler = continuation(details)
        if handler is None:
            return None
        method = details.method.rpartition("/")[2]
        return wrapped(handler, lambda: self._counted(method))

    @contextmanager
    def _counted(self, method: str) -> Iterator[None]:
        begin = time.monotonic()
        try:
            yield
        except BaseException:
            self._failed.labels(method).inc()
            raise
        finally:
            self._seconds.labels(method).observe(time.monotonic() - begin)


class FleetMetrics(Collector):
    """Gauges made from the store when they are asked for."""

    def __init__(self, store: Store, config: CoordinatorConfig, clock: Clock, pulse: Pulse) -> None:
        self._store = store
        self._pulse = pulse
        self._config = config
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """Devices by state, the rounds, the newest version, and the last closed round."""
        seen_since = self._clock.wall() - self._config.rounds.presence_s
        counts = self._store.device_counts(seen_since)
        devices = GaugeMetricFamily("reefleet_devices", "Devices by state", labels=["state"])
        for state in ("enrolled", "ready", "present", "failed", "revoked"):
            devices.add_metric([state], getattr(counts, state))
        yield devices
        yield _gauge("rounds_closed", "Rounds that are over", self._store.rounds_closed())
        yield _gauge("rounds_planned", "Rounds of the run", self._config.rounds.total)
        paused = bool(self._store.fact(r.PAUSED))
        yield _gauge("paused", "1 while no new work is handed out", float(paused))
        version = self._store.latest_version()
        if version:
            yield _gauge("version", "The newest shared model", version.number)
        yield from self._rounds()
        yield from self._told()

    def _told(self) -> Iterable[Metric]:
        yield _gauge("broker_up", "1 while the broker can be reached", float(self._pulse.is_up))
        told = [one for one in self._pulse.all() if one.is_online]
        yield _gauge("devices_online", "Devices connected to the broker", len(told))
        degrees = [t.vitals.temperature_c for t in told if t.vitals.temperature_c is not None]
        if degrees:
            yield _gauge("hottest_celsius", "The hottest device that is online", max(degrees))
        throttled = sum(bool(one.vitals.throttled) for one in told)
        yield _gauge("devices_throttled", "Devices online with a throttled clock", throttled)

    def _rounds(self) -> Iterable[Metric]:
        last = self._store.last_rounds(1)
        if not last:
            return
        (current,) = last
        counts = self._store.round_counts(current.number, current.number).get(current.number)
        if counts is None:
            return
        yield _gauge("round_number", "The newest round", current.number)
        yield _gauge("round_cohort", "Devices of the newest round", counts.cohort)
        yield _gauge("round_updates", "Accepted updates of the newest round", counts.updates)
        yield _gauge("round_refused", "Refused devices of the newest round", counts.refused)
        yield _gauge("round_update_bytes", "Bytes of its updates", counts.update_bytes)
        if counts.loss is not None:
            yield _gauge("round_loss", "Mean training loss of its updates", counts.loss)
        end = current.closed_at or self._clock.wall()
        yield _gauge("round_seconds", "How long it has run", end - current.opened_at)


class CoverageMetrics(Collector):
    """How well the rounds' cohorts covered the model since the coordinator started."""

    def __init__(self, coverage: Coverage) -> None:
        self._coverage = coverage

    def collect(self) -> Iterable[Metric]:
        """Blocks that nobody in the newest cohort holds, and cohorts that lacked some."""
        blocks, rounds = len(self._coverage.blocks), self._coverage.rounds
        yield _gauge("blocks_unheld", "Blocks that nobody in the newest cohort holds", blocks)
        yield CounterMetricFamily(
            "reefleet_rounds_uncovered", "Rounds with blocks that nobody held", value=rounds
        )


def serve(registry: CollectorRegistry, host: str, port: int) -> tuple[int, Callable[[], None]]:
    """Answer scrapes at `host`:`port`; the port, and what ends it. Raises OSError."""
    server, thread = start_http_server(port, host, registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_port), stop


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"reefleet_{name}", text, value=value)

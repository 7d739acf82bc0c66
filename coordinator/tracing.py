"""OpenTelemetry traces to a collector, where the settings name one; else nothing of it is loaded.

Spans: each call with its device, each round from opening to closing, its closing and folding, and
each compilation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from coordinator import records as r
from coordinator.interception import wrapped
from coordinator.store import Store
from reefleet import logs
from reefleet.errors import ConfigError, RuntimeUnavailable

SERVICE = "reefleet-coordinator"
EXPORT_S = 5.0  # one attempt to reach the collector
GOODBYE_S = 2.0
MAX_QUEUED = 2048  # spans that wait for a slow collector; more are dropped
_NS = 1e9
_SCHEMES = ("http://", "https://")

_tracer: Any = None  # of the coordinator that runs in this process


def start(endpoint: str, fleet: str) -> Callable[[], None]:
    """Send spans to the OTLP collector at `endpoint` from now on; gives what ends it.

    Raises ConfigError for an endpoint that is no URL, RuntimeUnavailable without the wheels.
    """
    global _tracer  # noqa: PLW0603  # spans begin in rooms that know of no settings
    if not endpoint.startswith(_SCHEMES):
        msg = f"[tracing] endpoint is {endpoint!r}; it must be a URL such as http://localhost:4317"
        raise ConfigError(msg)
    provider = _provider(endpoint, fleet)
    _tracer = provider.get_tracer("reefleet")

    def stop() -> None:
        global _tracer  # noqa: PLW0603
        _tracer = None
        provider.force_flush(int(GOODBYE_S * 1000))
        provider.shutdown()

    return stop


@contextmanager
def span(name: str, **facts: str | float) -> Iterator[None]:
    """Time the block under this name; an error that leaves it is noted. Costs nothing when off."""
    if _tracer is None:
        yield
        return
    with _tracer.start_as_current_span(name, attributes=_attributes(facts)):
        yield


def note(**facts: str | float) -> None:
    """Add facts to the span around."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().set_attributes(_attributes(facts))


def past(name: str, begin_s: float, end_s: float, **facts: str | float) -> None:
    """A span that is over already; times are wall time."""
    if _tracer is not None:
        made = _tracer.start_span(
            name, attributes=_attributes(facts), start_time=int(begin_s * _NS), context=_nowhere()
        )
        made.end(end_time=int(end_s * _NS))


class CallSpans(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no annotations
    """A span around each call."""

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wrap the handler of a call; unknown methods stay unknown."""
        handler = continuation(details)
        if handler is None:
            return None
        service, _, method = details.method.strip("/").partition("/")
        facts = {"rpc.service": service, "rpc.method": method}
        return wrapped(handler, lambda: span(f"call {method}", **facts))


class RoundSpans:
    """A span for each round that closes while the coordinator runs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen = store.rounds_closed()

    def catch_up(self) -> None:
        """Tell of the rounds that have closed since the last time."""
        if _tracer is None:
            return
        closed = self._store.rounds_closed()
        for number in range(self._seen + 1, closed + 1):
            if (found := self._store.round(number)) and found.closed_at is not None:
                _tell(self._store, found, found.closed_at)
        self._seen = closed


def _tell(store: Store, found: r.Round, closed_at: float) -> None:
    counts = store.round_counts(found.number, found.number).get(found.number)
    facts: dict[str, str | float] = {"round": found.number, "reason": found.reason}
    if counts:
        facts |= {"devices": counts.cohort, "updates": counts.updates, "refused": counts.refused}
    past("round", found.opened_at, closed_at, **facts)


def _attributes(facts: dict[str, str | float]) -> dict[str, str | float]:
    """The facts and what the log knows of device and round, under our own prefix."""
    known: dict[str, str | float | None] = {
        "device": logs.device.get(),
        "round": logs.round_.get(),
        **facts,
    }
    return {
        name if "." in name else f"reefleet.{name}": value
        for name, value in known.items()
        if value is not None
    }


def _nowhere() -> Any:
    from opentelemetry.context import Context

    return Context()


def _provider(endpoint: str, fleet: str) -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        msg = (
            f"[tracing] needs {error.name}, which is not here; run: pip install 'reefleet[tracing]'"
        )
        raise RuntimeUnavailable(msg) from error
    resource = Resource.create({"service.name": SERVICE, "reefleet.fleet": fleet})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint, timeout=EXPORT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=MAX_QUEUED))
    return provider

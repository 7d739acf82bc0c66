"""Traces at a collector of our own that speaks OTLP, and their absence."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc

from coordinator import tracing
from coordinator.config import CoordinatorConfig, Listen, Tracing
from coordinator.folder import create
from coordinator.server import Coordinator
from reefleet import logs
from reefleet.errors import ConfigError, RuntimeUnavailable
from reefleet.rpc.operator import operator_line
from reefleet.v1 import operator_pb2
from tests.mosquitto import free_port
from tests.packaging.test_rooms import loaded_by

MakeRun = Callable[..., Any]


class Collector(pb_grpc.TraceServiceServicer):
    """Keeps every span it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self._arrived = threading.Condition()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        with self._arrived:
            for group in request.resource_spans:
                self.resources.append(facts_of(group.resource))
                self.spans += [span for scope in group.scope_spans for span in scope.spans]
            self._arrived.notify_all()
        return pb.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


def facts_of(holder: Any) -> dict[str, Any]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in holder.attributes
    }


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    made = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    pb_grpc.add_TraceServiceServicer_to_server(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield made, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_round_with_its_closing_and_folding_arrives(
    a_run: MakeRun, collector: tuple[Collector, str]
) -> None:
    made, endpoint = collector
    run = a_run(2, 1)
    rounds = tracing.RoundSpans(run.store)
    stop = tracing.start(endpoint, "barn")
    run.rounds.advance()
    run.time.pass_s(12)
    run.push("a")
    run.push("b", seed=1)
    run.rounds.advance()
    rounds.catch_up()
    rounds.catch_up()
    stop()
    (whole,), (close,), (fold,) = made.named("round"), made.named("close"), made.named("fold")
    assert whole.end_time_unix_nano - whole.start_time_unix_nano == pytest.approx(12e9)
    assert facts_of(whole) == {
        "reefleet.round": 1,
        "reefleet.reason": "quorum",
        "reefleet.devices": 2,
        "reefleet.updates": 2,
        "reefleet.refused": 0,
    }
    assert fold.parent_span_id == close.span_id
    assert facts_of(close) == {"reefleet.round": 1}
    assert made.resources[0]["service.name"] == "reefleet-coordinator"
    assert made.resources[0]["reefleet.fleet"] == "barn"


def test_a_span_knows_its_device_and_its_failure(collector: tuple[Collector, str]) -> None:
    made, endpoint = collector
    stop = tracing.start(endpoint, "barn")

    def fail() -> None:
        with logs.context(device_id="shed-1"), tracing.span("compile", depth=3):
            tracing.note(bits=4)
            msg = "broken"
            raise ValueError(msg)

    with pytest.raises(ValueError, match="broken"):
        fail()
    stop()
    (span,) = made.named("compile")
    assert facts_of(span) == {"reefleet.device": "shed-1", "reefleet.depth": 3, "reefleet.bits": 4}
    assert span.status.code == 2
    assert "broken" in str(span.events)


def test_calls_of_a_running_coordinator_arrive(
    collector: tuple[Collector, str], tmp_path: Path, contract_file: Path, compiler: Any
) -> None:
    made, endpoint = collector
    folder = create(tmp_path / "fleet", "barn", contract_file, None)
    config = CoordinatorConfig(
        listen=Listen(host="127.0.0.1", fleet_port=0, enrollment_port=0),
        tracing=Tracing(endpoint=endpoint),
    )
    running = Coordinator(folder, config, compiler=compiler)
    running.start()
    with operator_line(folder.root) as line:
        line.ask("GetStatus", operator_pb2.GetStatusRequest())
        with pytest.raises(Exception, match="no device"):
            line.ask("GetDevice", operator_pb2.GetDeviceRequest(device_id="ghost"))
    running.stop()
    (good,), (bad,) = made.named("call GetStatus"), made.named("call GetDevice")
    assert facts_of(good)["rpc.service"] == "reefleet.v1.OperatorService"
    assert (good.status.code, bad.status.code) == (0, 2)


def test_a_collector_that_is_away_holds_nobody_up(a_run: MakeRun) -> None:
    run = a_run(2)
    stop = tracing.start(f"http://127.0.0.1:{free_port()}", "barn")
    run.rounds.advance()
    run.push("a")
    run.rounds.advance()
    ended = threading.Thread(target=stop)
    ended.start()
    ended.join(60)
    assert not ended.is_alive()
    assert run.store.latest_version().number == 1


def test_an_endpoint_that_is_no_url_is_named() -> None:
    with pytest.raises(ConfigError, match="must be a URL"):
        tracing.start("localhost:4317", "barn")


def test_a_missing_wheel_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(RuntimeUnavailable, match=r"reefleet\[tracing\]"):
        tracing.start("http://127.0.0.1:1", "barn")


def test_nothing_of_it_is_loaded_or_done_while_it_is_off() -> None:
    with tracing.span("round", round=1):
        tracing.note(device="a")
    tracing.past("round", time.time(), time.time())
    assert "opentelemetry" not in loaded_by("coordinator.server", "coordinator.tracing")

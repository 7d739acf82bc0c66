"""Health and figures, as probes and Prometheus ask for them."""

from __future__ import annotations

import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer
from prometheus_client.parser import text_string_to_metric_families

from coordinator.config import CoordinatorConfig, Listen, Metrics
from coordinator.folder import create
from coordinator.server import Coordinator
from coordinator.store import Store
from reefleet.errors import ConfigError
from reefleet.rpc.channel import enrollment_channel
from reefleet.rpc.operator import operator_line
from reefleet.v1 import operator_pb2 as pb


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def running(tmp_path: Path, contract_file: Path, compiler: tuple[str, ...]) -> Any:
    folder = create(tmp_path / "fleet", "barn", contract_file, None)
    config = CoordinatorConfig(
        listen=Listen(host="127.0.0.1", fleet_port=0, enrollment_port=0),
        metrics=Metrics(port=free_port()),
    )
    made = Coordinator(folder, config, compiler=compiler)
    yield folder, config, made.start()
    made.stop()


def test_health_is_told_to_probes_without_a_certificate(running: Any) -> None:
    folder, _, ports = running
    address = f"127.0.0.1:{ports.enrollment_port}"
    with enrollment_channel(address, folder.ca_cert.read_bytes()) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_is_off(running: Any) -> None:
    folder, _, ports = running
    address = f"127.0.0.1:{ports.enrollment_port}"
    with enrollment_channel(address, folder.ca_cert.read_bytes()) as channel:
        method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        with pytest.raises(grpc.RpcError) as caught:
            list(channel.stream_stream(method)(iter([b""])))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def scrape(ports: Any) -> dict[tuple[str, str], float]:
    url = f"http://127.0.0.1:{ports.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_gets_the_fleet_and_the_calls(running: Any) -> None:
    folder, _, ports = running
    with operator_line(folder.root) as line:
        line.ask("PauseRounds", pb.PauseRoundsRequest())
        with pytest.raises(Exception, match="no device"):
            line.ask("GetDevice", pb.GetDeviceRequest(device_id="ghost"))
    found = scrape(ports)
    assert found["reefleet_devices", "enrolled"] == 0
    assert found["reefleet_paused", ""] == 1
    assert found["reefleet_rounds_planned", ""] == 8
    assert found["reefleet_call_seconds_count", "PauseRounds"] == 1
    assert found["reefleet_calls_refused_total", "GetDevice"] == 1


def test_a_metrics_port_in_use_is_named(running: Any, tmp_path: Path, contract_file: Path) -> None:
    _, config, ports = running
    other = create(tmp_path / "other", "barn", contract_file, None)
    with pytest.raises(ConfigError, match=str(ports.metrics_port)):
        Coordinator(other, config).start()


def test_a_call_in_flight_ends_well_while_the_coordinator_stops(
    tmp_path: Path, contract_file: Path, compiler: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create(tmp_path / "fleet", "barn", contract_file, None)
    listen = Listen(host="127.0.0.1", fleet_port=0, enrollment_port=0)
    running = Coordinator(folder, CoordinatorConfig(listen=listen), compiler=compiler)
    running.start()
    begun, stopping = threading.Event(), threading.Event()
    plain = Store.device_counts

    def slow(store: Store, seen_since: float) -> Any:
        begun.set()
        stopping.wait(30)
        return plain(store, seen_since)

    monkeypatch.setattr(Store, "device_counts", slow)
    answers: list[Any] = []

    def ask() -> None:
        with operator_line(folder.root) as line:
            answers.append(line.ask("GetStatus", pb.GetStatusRequest()))

    caller = threading.Thread(target=ask)
    caller.start()
    assert begun.wait(30)
    monkeypatch.setattr(HealthServicer, "enter_graceful_shutdown", lambda _: stopping.set())
    running.stop()
    caller.join(30)
    assert [answer.fleet for answer in answers] == ["fleet"]

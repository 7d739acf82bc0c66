"""The client as a process of its own, killed at the worst moments."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

from edge_client import enrollment
from edge_client.enrollment import FOLDER, Enrollment
from reefleet.blobs import BlobStore, sha256_hex
from reefleet.rpc import identity
from reefleet.rpc.identity import Identity
from reefleet.v1 import artifact_pb2, artifact_pb2_grpc, fleet_pb2, fleet_pb2_grpc
from reefleet.wire import convert
from tests.integration.running import until

pytestmark = pytest.mark.integration

PIECE = 4000  # the coordinator may send less than was asked for
PATIENCE_S = 60.0


class Fleet(fleet_pb2_grpc.FleetServiceServicer, artifact_pb2_grpc.ArtifactServiceServicer):
    """A coordinator of one round that can fall silent in the middle of a call."""

    def __init__(self, files: dict[str, bytes], task: Any) -> None:
        self.files = files
        self.task = task
        self.fetched: list[tuple[str, int]] = []
        self.held = bytearray()
        self.announced: list[str] = []
        self.durable: list[str] = []
        self.silent_at = ""
        self.silent = threading.Event()
        self.over = threading.Event()

    def _perhaps_silent(self, call: str, context: grpc.ServicerContext) -> None:
        if self.silent_at == call:
            self.silent_at = ""
            self.silent.set()
            self.over.wait(PATIENCE_S)
            context.abort(grpc.StatusCode.UNAVAILABLE, "silent")

    def ReportProfile(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return fleet_pb2.ReportProfileResponse()

    def NextTask(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        if self.durable:
            return fleet_pb2.NextTaskResponse(finished=fleet_pb2.Finished())
        return fleet_pb2.NextTaskResponse(task=self.task)

    def Fetch(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        data = self.files[request.sha256]
        for offset in range(request.offset, len(data), PIECE):
            if offset == 2 * PIECE:
                self._perhaps_silent("Fetch", context)
            self.fetched.append((request.sha256, offset))
            piece = data[offset : offset + PIECE]
            yield artifact_pb2.FetchResponse(data=piece, total_bytes=len(data))

    def OpenUpdate(self, request: Any, _context: Any) -> Any:  # noqa: N802
        self.announced.append(request.update.sha256)
        return fleet_pb2.OpenUpdateResponse(offset=len(self.held))

    def PutUpdate(self, requests: Any, _context: Any) -> Any:  # noqa: N802
        for request in requests:
            if request.lease:
                del self.held[request.offset :]
            self.held += request.data
        return fleet_pb2.PutUpdateResponse(offset=len(self.held))

    def CommitUpdate(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        repeated = request.update.sha256 in self.durable
        if not repeated:
            assert sha256_hex(bytes(self.held)) == request.update.sha256
            self.durable.append(request.update.sha256)
        self._perhaps_silent("CommitUpdate", context)
        return fleet_pb2.CommitUpdateResponse(repeated=repeated)


@pytest.fixture
def site(kit: SimpleNamespace, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A coordinator that listens and a device that is enrolled with it."""
    coordinator, task = kit.a_coordinator(replace(kit.PLAN, models=2, codec="int8"))
    message = fleet_pb2.Task(
        kind=fleet_pb2.TASK_KIND_FEDERATE,
        lease="lease-1",
        round=1,
        rounds_total=1,
        plan=convert.plan_to_pb(task.plan),
        manifest=_reference(task.manifest),
        manifest_signature=task.signature,
        weights=_reference(task.weights),
    )
    fleet = Fleet(coordinator.files, message)
    authority = identity.create_authority("tests")
    certificate, key = identity.issue_server(*authority, ["127.0.0.1"])
    server = grpc.server(futures.ThreadPoolExecutor(4))
    fleet_pb2_grpc.add_FleetServiceServicer_to_server(fleet, server)
    artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(fleet, server)
    credentials = grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=authority[0], require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    _enrolled(kit, tmp_path, authority, port)
    yield SimpleNamespace(fleet=fleet, state=tmp_path, weights=task.weights)
    fleet.over.set()
    server.stop(None).wait()


def _reference(artifact: Any) -> Any:
    return artifact_pb2.ArtifactRef(sha256=artifact.sha256, size_bytes=artifact.size_bytes)


def _enrolled(kit: SimpleNamespace, state: Path, authority: tuple[bytes, bytes], port: int) -> None:
    key = identity.new_key()
    request = identity.certificate_request(key)
    certificate = identity.certificate_pem(
        identity.issue_device(*authority, request, "device-1", 1)
    )
    device = Enrollment(
        device_id="device-1",
        board="rpi-zero2w",
        address=f"127.0.0.1:{port}",
        manifest_key=identity.manifest_public_key(kit.KEY),
        identity=Identity(certificate, key, authority[0]),
        issued_at=time.time(),
        life_s=86400.0,
    )
    enrollment._write(state / FOLDER, device)
    data = kit.device_data()
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    images = {f"{name}_images": part.images for name, part in parts.items()}
    labels = {f"{name}_labels": part.labels for name, part in parts.items()}
    np.savez(state / "data.npz", **images, **labels)


def a_client(state: Path) -> subprocess.Popen[bytes]:
    places = ["--state", str(state), "--data", str(state / "data.npz")]
    command = [sys.executable, "-m", "reefleet", "edge", "run", "--until-finished", *places]
    with (state / "client.log").open("ab") as log:
        return subprocess.Popen(command, stderr=log)


def gathered(site: SimpleNamespace) -> int:
    """Bytes on the device of a download under way."""
    return sum(path.stat().st_size for path in BlobStore(site.state / "blobs").partials())


def killed_when_silent(site: SimpleNamespace, call: str) -> None:
    """Start a client, let the coordinator fall silent in `call`, kill the client there."""
    site.fleet.silent_at = call
    client = a_client(site.state)
    try:
        assert site.fleet.silent.wait(PATIENCE_S), (site.state / "client.log").read_text()
        if call == "Fetch":  # what has been sent arrives
            until(lambda: gathered(site) == 2 * PIECE, "the pieces that were sent")
    finally:
        client.kill()
        client.wait()
    site.fleet.over.set()


def test_an_update_whose_answer_was_lost_arrives_once(site: SimpleNamespace) -> None:
    killed_when_silent(site, "CommitUpdate")
    assert a_client(site.state).wait(PATIENCE_S) == 0
    assert len(site.fleet.durable) == 1
    assert set(site.fleet.announced) == set(site.fleet.durable)
    assert list((site.state / "outbox").iterdir()) == []
    log = (site.state / "client.log").read_text().splitlines()
    events = [json.loads(line)["event"] for line in log]
    assert events.count("round trained") == 1  # the restart pushes, it does not train again
    assert "update acknowledged" in events


def test_a_download_cut_by_a_kill_goes_on_at_its_offset(site: SimpleNamespace) -> None:
    killed_when_silent(site, "Fetch")
    before = list(site.fleet.fetched)
    site.fleet.fetched.clear()
    assert a_client(site.state).wait(PATIENCE_S) == 0
    assert set(before).isdisjoint(site.fleet.fetched)
    cut, offset = before[-1]
    assert (cut, offset + PIECE) in site.fleet.fetched
    assert len(site.fleet.durable) == 1


def test_a_terminated_client_ends_cleanly_and_its_work_is_done_later(
    site: SimpleNamespace,
) -> None:
    site.fleet.silent_at = "Fetch"
    client = a_client(site.state)
    assert site.fleet.silent.wait(PATIENCE_S)
    client.terminate()
    site.fleet.over.set()
    assert client.wait(PATIENCE_S) == 0
    assert site.fleet.durable == []
    assert a_client(site.state).wait(PATIENCE_S) == 0
    assert len(site.fleet.durable) == 1


def test_a_client_that_is_idle_after_work_has_the_memory_of_one_that_never_worked(
    site: SimpleNamespace,
) -> None:
    (site.state / "edge.toml").write_text("anew_after_s = 0.0\nidle_s = 0.1\nbenchmark_s = 0.0\n")
    places = ["--state", str(site.state), "--data", str(site.state / "data.npz")]
    log = site.state / "client.log"
    with log.open("ab") as stream:
        client = subprocess.Popen(
            [sys.executable, "-m", "reefleet", "edge", "run", *places], stderr=stream
        )
    try:
        until(lambda: log.read_text().count('"profile reported"') == 2, "the new beginning")
        loaded = Path(f"/proc/{client.pid}/maps").read_text()
        assert "cygrpc" in loaded
        assert "numpy" not in loaded
        assert "onnxruntime" not in loaded
        assert len(site.fleet.durable) == 1
    finally:
        client.terminate()
        assert client.wait(PATIENCE_S) == 0

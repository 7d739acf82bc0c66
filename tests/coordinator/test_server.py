"""A coordinator behind real sockets and TLS; the compiler is a stand-in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from coordinator.clock import Clock
from coordinator.config import CoordinatorConfig, Eligibility, Listen, RoundPolicy
from coordinator.folder import create
from coordinator.registry import new_token
from coordinator.server import Coordinator
from coordinator.status import FINISHED, snapshot
from coordinator.store import Store
from devices.profile import DeviceProfile
from devices.signed import sign
from reefleet.blobs import sha256_hex
from reefleet.errors import (
    ChecksumMismatch,
    ConfigError,
    ExportError,
    MissingFile,
    NotEnrolled,
    PayloadTooLarge,
    Rejected,
    StoreError,
    TlsFailure,
    UnknownBoard,
    WireError,
)
from reefleet.model import ModelContract, tensor_shapes
from reefleet.rpc import identity
from reefleet.rpc.channel import enrollment_channel, fleet_channel
from reefleet.rpc.limits import CHUNK_BYTES
from reefleet.rpc.status import translated
from reefleet.v1 import artifact_pb2, artifact_pb2_grpc, fleet_pb2, fleet_pb2_grpc, plan_pb2
from reefleet.wire import convert
from reefleet.wire.codecs import decode_update, encode_update
from reefleet.wire.manifest import FileEntry
from reefleet.wire.manifest_json import task_from_bytes

MakePlace = Callable[..., Any]

WAIT_S = 60


class Device:
    """A device that speaks the protocol and computes nothing."""

    def __init__(self, place: Place, name: str, board: str = "rpi-4b") -> None:
        self.place = place
        self.name = name
        with enrollment_channel(place.enrollment, place.ca) as channel:
            key = identity.new_key()
            answer = fleet_pb2_grpc.EnrollmentServiceStub(channel).Enroll(
                fleet_pb2.EnrollRequest(
                    token=place.token(name),
                    certificate_request=identity.certificate_request(key),
                )
            )
        self.manifest_key = answer.manifest_key
        self.fleet_port = answer.fleet_port
        pem = identity.certificate_pem(answer.certificate)
        self.identity = identity.Identity(pem, key, place.ca)
        self.connect()
        self.board = board

    def connect(self) -> None:
        self.channel = fleet_channel(self.place.fleet, self.identity)
        self.calls = fleet_pb2_grpc.FleetServiceStub(self.channel)
        self.artifacts = artifact_pb2_grpc.ArtifactServiceStub(self.channel)

    def report(self) -> None:
        profile = plan_pb2.DeviceProfile(board=self.board, train_samples=100)
        with translated(self.place.fleet):
            self.calls.ReportProfile(fleet_pb2.ReportProfileRequest(profile=profile))

    def ask(self) -> Any:
        with translated(self.place.fleet):
            return self.calls.NextTask(fleet_pb2.NextTaskRequest())

    def task(self) -> Any:
        """The next task; waits for it as a device does."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            answer = self.ask()
            if answer.HasField("task"):
                return answer.task
            assert answer.HasField("wait_ms")
            self.place.pause(answer.wait_ms / 1000)
        raise AssertionError

    def fetch(self, reference: artifact_pb2.ArtifactRef) -> Any:
        data = b""
        request = artifact_pb2.FetchRequest(sha256=reference.sha256)
        with translated(self.place.fleet):
            for answer in self.artifacts.Fetch(request):
                assert answer.total_bytes == reference.size_bytes
                data += answer.data
        assert sha256_hex(data) == reference.sha256
        return data

    def push(self, task: fleet_pb2.Task, seed: int) -> Any:
        shapes = tensor_shapes(self.place.contract.spec, task.plan.exit_depth)
        rng = np.random.default_rng(seed)
        delta = {n: rng.normal(0, 0.01, s).astype(np.float32) for n, s in shapes.items()}
        data, _ = encode_update(delta, task.plan.codec, {})
        reference = artifact_pb2.ArtifactRef(sha256=sha256_hex(data), size_bytes=len(data))
        with translated(self.place.fleet):
            offset = self.calls.OpenUpdate(
                fleet_pb2.OpenUpdateRequest(lease=task.lease, update=reference)
            ).offset
            if offset < len(data):
                pieces = [data[start : start + 500] for start in range(offset, len(data), 500)]
                requests = [fleet_pb2.PutUpdateRequest(data=piece) for piece in pieces]
                requests[0].lease, requests[0].sha256 = task.lease, reference.sha256
                requests[0].offset = offset
                assert self.calls.PutUpdate(iter(requests)).offset == len(data)
            request = fleet_pb2.CommitUpdateRequest(
                lease=task.lease,
                update=reference,
                samples=10,
                metrics=fleet_pb2.DeviceMetrics(loss=0.5, shared_accuracy=[0.5, float("nan")]),
            )
            return self.calls.CommitUpdate(request).repeated

    def report_personal(self, task: fleet_pb2.Task) -> None:
        with translated(self.place.fleet):
            self.calls.ReportPersonal(
                fleet_pb2.ReportPersonalRequest(
                    lease=task.lease, early_exit=fleet_pb2.EarlyExitReport(accuracy=0.9)
                )
            )


class Place:
    """A coordinator in a folder of its own, started, stopped and started again."""

    def __init__(
        self,
        root: Path,
        contract: ModelContract,
        contract_file: Path,
        compiler: Any,
        **rounds: float,
    ) -> None:
        self.contract = contract
        self.compiler = compiler
        self.folder = create(root, "barn", contract_file, None)
        self.ca = self.folder.ca_cert.read_bytes()
        policy = {"total": 2, "min_devices": 2, "quorum": 1.0, "poll_ms": 10, **rounds}
        self.config = CoordinatorConfig(
            listen=Listen(host="127.0.0.1", fleet_port=0, enrollment_port=0),
            rounds=RoundPolicy(**policy),
        )
        self.running: Coordinator | None = None
        self.pause = threading.Event().wait

    def start(self) -> Any:
        self.running = Coordinator(self.folder, self.config, compiler=self.compiler)
        ports = self.running.start()
        self.fleet = f"127.0.0.1:{ports.fleet_port}"
        self.enrollment = f"127.0.0.1:{ports.enrollment_port}"
        return ports

    def stop(self) -> None:
        if self.running:
            self.running.stop()

    def token(self, name: str) -> Any:
        store = Store(self.folder.state)
        try:
            return new_token(store, name, 60, Clock())
        finally:
            store.close()

    def look(self) -> Any:
        store = Store(self.folder.state)
        try:
            return snapshot(store, self.config, time.time())
        finally:
            store.close()


@pytest.fixture
def a_place(
    tmp_path: Path, contract: ModelContract, contract_file: Path, compiler: tuple[str, ...]
) -> Any:
    made = []

    def build(name: str = "fleet", **rounds: float) -> Any:
        made.append(Place(tmp_path / name, contract, contract_file, compiler, **rounds))
        made[-1].start()
        return made[-1]

    yield build
    for place in made:
        place.stop()


def test_a_whole_run_over_mutual_tls(a_place: MakePlace) -> None:
    place = a_place()
    devices = [Device(place, "a"), Device(place, "b", "rpi-5")]
    for device in devices:
        device.report()
    for number in (1, 2):
        for seed, device in enumerate(devices):
            task = device.task()
            assert (task.kind, task.round) == (fleet_pb2.TASK_KIND_FEDERATE, number)
            manifest = device.fetch(task.manifest)
            identity.verify(device.manifest_key, manifest, task.manifest_signature)
            for entry in task_from_bytes(manifest).files.values():
                device.fetch(entry_reference(entry))
            shapes = tensor_shapes(place.contract.spec, task.plan.exit_depth)
            decode_update(device.fetch(task.weights), shapes)
            assert device.push(task, seed) is False
    for device in devices:
        task = device.task()
        assert task.kind == fleet_pb2.TASK_KIND_PERSONALIZE
        device.report_personal(task)
        device.report_personal(task)
        assert device.ask().HasField("finished")
    found = place.look()
    assert (found.phase, found.version, found.rounds_closed) == (FINISHED, 2, 2)
    assert found.rounds[0].loss == 0.5
    assert found.rounds[0].shared_accuracy is None


def entry_reference(entry: FileEntry) -> Any:
    return artifact_pb2.ArtifactRef(sha256=entry.sha256, size_bytes=entry.size_bytes)


def test_after_a_restart_the_same_port_and_lease_are_there(a_place: MakePlace) -> None:
    place = a_place()
    a, b = Device(place, "a"), Device(place, "b")
    a.report()
    b.report()
    lease = a.task().lease
    b.push(b.task(), 1)
    before = place.fleet
    place.stop()
    place.start()
    assert place.fleet == before
    a.connect()
    task = a.task()
    assert task.lease == lease
    a.push(task, 0)
    b.connect()
    assert b.task().round == 2
    assert place.look().rounds[0].updates == 2


def test_a_device_may_not_fetch_what_another_was_assigned(a_place: MakePlace) -> None:
    place = a_place(min_devices=1)
    a, b = Device(place, "a"), Device(place, "b")
    a.report()
    task = a.task()
    for reference in (task.weights, task.manifest):
        with pytest.raises(Rejected, match="not been assigned"):
            b.fetch(reference)
    with pytest.raises(Rejected):
        a.fetch(artifact_pb2.ArtifactRef(sha256="../../state.db", size_bytes=1))


def test_a_chunk_is_never_longer_than_the_bound(a_place: MakePlace) -> None:
    place = a_place(min_devices=1)
    device = Device(place, "a")
    device.report()
    task = device.task()
    files = task_from_bytes(device.fetch(task.manifest)).files
    big = max(files.values(), key=lambda entry: entry.size_bytes)
    assert big.size_bytes > CHUNK_BYTES
    request = artifact_pb2.FetchRequest(sha256=big.sha256)
    sizes = [len(answer.data) for answer in device.artifacts.Fetch(request)]
    assert sum(sizes) == big.size_bytes
    assert max(sizes) <= CHUNK_BYTES
    request = artifact_pb2.FetchRequest(sha256=big.sha256, offset=2**60)
    with pytest.raises(Rejected, match="beyond"), translated(place.fleet):
        list(device.artifacts.Fetch(request))


def test_a_profile_that_another_key_signed_is_refused_and_noted(a_place: MakePlace) -> None:
    place = a_place()
    device, other = Device(place, "a"), Device(place, "b")
    forged = sign(DeviceProfile("rpi-5", train_samples=9), other.identity.key)
    request = fleet_pb2.ReportProfileRequest(profile=convert.profile_to_pb(forged))
    with (
        pytest.raises(ChecksumMismatch, match="not signed by this device"),
        translated(place.fleet),
    ):
        device.calls.ReportProfile(request)
    (refusal,) = place.look().refusals
    assert (refusal.device_id, refusal.round) == ("a", 0)
    own = sign(DeviceProfile("rpi-5", train_samples=9), device.identity.key)
    request = fleet_pb2.ReportProfileRequest(profile=convert.profile_to_pb(own))
    device.calls.ReportProfile(request)


def test_work_that_a_device_cannot_do_is_given_up(a_place: MakePlace) -> None:
    place = a_place(min_devices=1)
    device = Device(place, "a")
    device.report()
    task = device.task()
    request = fleet_pb2.AbandonTaskRequest(lease=task.lease, cause=fleet_pb2.ABANDON_CAUSE_MEMORY)
    for _ in range(2):  # the answer may get lost
        device.calls.AbandonTask(request)
    assert [each.reason for each in place.look().refusals] == ["the device ran out of memory"]
    assert device.task().lease != task.lease


def test_a_message_over_the_bound_is_refused(a_place: MakePlace) -> None:
    place = a_place()
    device = Device(place, "a")
    for size in (3 << 20, 5 << 20):  # within and beyond what a message may be
        request = fleet_pb2.PutUpdateRequest(lease="x", sha256="0" * 64, data=b"x" * size)
        with pytest.raises(PayloadTooLarge), translated(place.fleet):
            device.calls.PutUpdate(iter([request]))
    device.report()


def test_a_silent_upload_is_ended_by_the_next_of_its_device(a_place: MakePlace) -> None:
    place = a_place(min_devices=1)
    device = Device(place, "a")
    device.report()
    task, silence = device.task(), threading.Event()

    def silent() -> Iterator[fleet_pb2.PutUpdateRequest]:
        yield fleet_pb2.PutUpdateRequest(lease=task.lease, sha256="0" * 64, data=b"x")
        silence.wait(WAIT_S)

    update = artifact_pb2.ArtifactRef(sha256="0" * 64, size_bytes=9)
    device.calls.OpenUpdate(fleet_pb2.OpenUpdateRequest(lease=task.lease, update=update))
    hanging = device.calls.PutUpdate.future(silent())
    end = time.monotonic() + WAIT_S
    while not hanging.done() and time.monotonic() < end:  # it may not have begun yet
        empty = fleet_pb2.PutUpdateRequest(lease=task.lease, sha256="0" * 64)
        with pytest.raises(WireError, match="no bytes"), translated(place.fleet):
            device.calls.PutUpdate(iter([empty]))
    assert hanging.code() is grpc.StatusCode.CANCELLED
    silence.set()
    assert device.push(task, 0) is False


def test_a_wrong_token_is_refused_at_the_enrollment_port(a_place: MakePlace) -> None:
    place = a_place()
    with enrollment_channel(place.enrollment, place.ca) as channel:
        stub = fleet_pb2_grpc.EnrollmentServiceStub(channel)
        csr = identity.certificate_request(identity.new_key())
        request = fleet_pb2.EnrollRequest(token="guess", certificate_request=csr)
        with pytest.raises(Rejected, match="not known"), translated(place.enrollment):
            stub.Enroll(request)
    assert place.look().devices == ()


def test_the_enrollment_port_serves_nothing_else(a_place: MakePlace) -> None:
    place = a_place()
    with enrollment_channel(place.enrollment, place.ca) as channel:
        stub = fleet_pb2_grpc.FleetServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.NextTask(fleet_pb2.NextTaskRequest())
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_certificates_of_another_fleet_and_none_are_refused_at_once(a_place: MakePlace) -> None:
    place, other = a_place(), a_place("other")
    stranger = Device(other, "a")
    mine = Device(place, "a")
    cases = [
        fleet_channel(place.fleet, stranger.identity),
        fleet_channel(place.fleet, replace(stranger.identity, ca=place.ca)),
        fleet_channel(place.fleet, replace(mine.identity, ca=other.ca)),
        enrollment_channel(place.fleet, place.ca),
        enrollment_channel(place.enrollment, other.ca),
    ]
    for channel in cases:
        start = time.monotonic()
        with channel, pytest.raises(TlsFailure), translated(place.fleet):
            fleet_pb2_grpc.FleetServiceStub(channel).NextTask(
                fleet_pb2.NextTaskRequest(), timeout=10
            )
        assert time.monotonic() - start < 5


def test_an_old_certificate_is_refused_after_enrolling_again(a_place: MakePlace) -> None:
    place = a_place()
    old = Device(place, "a")
    new = Device(place, "a")
    with pytest.raises(NotEnrolled, match="newer"):
        old.report()
    new.report()


def test_work_is_given_only_to_devices_that_have_reported(a_place: MakePlace) -> None:
    place = a_place()
    with pytest.raises(Rejected, match="report the profile"):
        Device(place, "a").ask()


def test_a_board_that_is_not_in_the_catalog_is_named_to_its_device(a_place: MakePlace) -> None:
    place = a_place()
    with pytest.raises(UnknownBoard, match="abacus"):
        Device(place, "a", "abacus").report()
    (device,) = place.look().devices
    assert "abacus" in device.failure


def test_a_second_coordinator_in_the_folder_is_refused(a_place: MakePlace) -> None:
    place = a_place()
    with pytest.raises(StoreError, match="another coordinator"):
        Coordinator(place.folder, place.config).start()


def test_another_model_in_the_same_folder_is_refused(a_place: MakePlace) -> None:
    place = a_place()
    place.stop()
    text = place.folder.contract.read_text().replace('"a"', '"z"')
    place.folder.contract.write_text(text)
    with pytest.raises(ConfigError, match="new folder"):
        Coordinator(place.folder, place.config).start()


def test_a_port_in_use_is_named(a_place: MakePlace) -> None:
    place, other = a_place(), a_place("other")
    place.stop()
    taken = int(other.fleet.rpartition(":")[2])
    listen = Listen(host="127.0.0.1", fleet_port=taken, enrollment_port=0)
    with pytest.raises(ConfigError, match=str(taken)):
        Coordinator(place.folder, replace(place.config, listen=listen)).start()


@pytest.mark.parametrize(("data", "error"), [(None, MissingFile), (b"noise", ExportError)])
def test_a_first_model_that_cannot_be_made_ends_the_coordinator(
    a_place: MakePlace, data: bytes | None, error: type[Exception]
) -> None:
    place = a_place()
    place.stop()
    place.folder.state.unlink()
    public = place.folder.root / "public.npz"
    if data:
        public.write_bytes(data)
    config = replace(place.config, model=replace(place.config.model, public_data=public))
    running = Coordinator(place.folder, config, pretrainer=("false",))
    running.start()
    with pytest.raises(error):
        running.wait(lambda: None)


def test_a_client_is_given_the_codecs_that_it_said_it_knows(a_place: MakePlace) -> None:
    place = a_place(device_clip=0.5)
    old, new = Device(place, "a"), Device(place, "b")
    old.report()
    profile = plan_pb2.DeviceProfile(board=new.board, train_samples=100)
    known = ["clip", "float32", "float16", "int8", "something of tomorrow"]
    with translated(place.fleet):
        new.calls.ReportProfile(fleet_pb2.ReportProfileRequest(profile=profile, codecs=known))
    plain, chain = old.task().plan.codec, new.task().plan.codec
    assert "," not in plain
    assert chain == f"clip:0.5,{plain}"


def test_a_device_that_says_it_is_busy_gets_no_work(a_place: MakePlace) -> None:
    place = a_place(min_devices=1)
    place.stop()
    place.config = replace(place.config, eligibility=Eligibility(idle=True))
    place.start()
    device = Device(place, "a")
    device.report()

    def answer(*, idle: bool) -> Any:
        request = fleet_pb2.NextTaskRequest(conditions=plan_pb2.Conditions(), idle=idle)
        return device.calls.NextTask(request)

    with translated(place.fleet):
        for _ in range(3):
            assert answer(idle=False).HasField("wait_ms")
    end = time.monotonic() + WAIT_S
    while not answer(idle=True).HasField("task"):
        assert time.monotonic() < end
        place.pause(0.01)


def test_a_start_without_its_key_says_so_and_leaves_no_state(
    tmp_path: Path, contract_file: Path
) -> None:
    folder = create(tmp_path / "keyless", "barn", contract_file, None)
    folder.manifest_key.unlink()
    with pytest.raises(MissingFile, match=r"manifest\.key"):
        Coordinator(folder, CoordinatorConfig()).start()
    assert not folder.state.exists()

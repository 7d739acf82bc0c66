from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from devices.profile import DeviceProfile
from edge_client.config import Deadlines
from edge_client.session import BELIEVED_AFTER_S, REFUSED_PAUSE_S, Link, Patience, Session
from edge_client.stopping import Stopped
from edge_client.task import FEDERATE, Artifact, Finished, Task, Wait
from reefleet.errors import (
    CoordinatorUnavailable,
    Rejected,
    StoreFull,
    TlsFailure,
    WireError,
)
from reefleet.report import DeviceMetrics, EarlyExitReport
from reefleet.retry import Retry
from reefleet.rpc import identity, status
from reefleet.rpc.identity import Identity
from reefleet.rpc.limits import MAX_MESSAGE_BYTES
from reefleet.v1 import artifact_pb2, artifact_pb2_grpc, fleet_pb2, fleet_pb2_grpc, plan_pb2

PLAN = plan_pb2.SubmodelPlan(
    exit_depth=2, bits=4, batch_size=8, local_epochs=1, models=1, codec="int8"
)
DIGEST = "ab" * 32
ARTIFACT = Artifact(DIGEST, 9)


def chunks(offset: int) -> Iterator[bytes]:
    """An update of nine bytes, three at a time."""
    yield from (b"abcdefghi"[start : start + 3] for start in range(offset, 9, 3))


class Fleet(fleet_pb2_grpc.FleetServiceServicer, artifact_pb2_grpc.ArtifactServiceServicer):
    """Answers every call with what the test put under its name: a message or an error."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: list[tuple[str, Any]] = []

    def __getattribute__(self, name: str) -> Any:
        if name[0].isupper():
            return lambda request, context: self.answer(name, request, context)
        return super().__getattribute__(name)

    def answer(self, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append((name, request))
        with status.refusals(context):
            found = self.answers[name]
            if isinstance(found, Callable):  # type: ignore[arg-type]
                found = found(request)
            if isinstance(found, Exception):
                raise found
            return self.stream(found, context) if isinstance(found, Iterator) else found

    def stream(self, found: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        with status.refusals(context):
            yield from found


@pytest.fixture(scope="module")
def authority() -> tuple[bytes, bytes]:
    return identity.create_authority("tests")


def a_device(authority: tuple[bytes, bytes]) -> Identity:
    key = identity.new_key()
    request = identity.certificate_request(key)
    certificate = identity.issue_device(*authority, request, "device-1", 1)
    return Identity(identity.certificate_pem(certificate), key, authority[0])


@contextmanager
def serving(fleet: Fleet, authority: tuple[bytes, bytes], port: int = 0) -> Iterator[int]:
    certificate, key = identity.issue_server(*authority, ["127.0.0.1"])
    credentials = grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=authority[0], require_client_auth=True
    )
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    fleet_pb2_grpc.add_FleetServiceServicer_to_server(fleet, server)
    artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(fleet, server)
    bound = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    server.start()
    try:
        yield bound
    finally:
        server.stop(None).wait()


@contextmanager
def connected(
    port: int,
    device: Identity,
    pause: Callable[[float], None] = lambda _: None,
    *,
    ends: bool = True,
    retry: Retry | None = None,
) -> Iterator[Session]:
    patience = Patience(retry or Retry(base_s=0.01, ceiling_s=0.05), pause, ends, random.Random(0))
    session = Session(f"127.0.0.1:{port}", device, Deadlines(10.0, 10.0), patience)
    try:
        yield session
    finally:
        session.close()


@pytest.fixture
def line(authority: tuple[bytes, bytes]) -> Iterator[SimpleNamespace]:
    fleet = Fleet()
    with serving(fleet, authority) as port, connected(port, a_device(authority)) as session:
        yield SimpleNamespace(fleet=fleet, session=session, port=port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def a_task(**changes: Any) -> fleet_pb2.NextTaskResponse:
    reference = artifact_pb2.ArtifactRef(sha256=DIGEST, size_bytes=7)
    values = {
        "kind": fleet_pb2.TASK_KIND_FEDERATE,
        "lease": "0f" * 16,
        "round": 1,
        "rounds_total": 8,
        "plan": PLAN,
        "manifest": reference,
        "weights": reference,
        "deadline_s": 30,
    }
    return fleet_pb2.NextTaskResponse(task=fleet_pb2.Task(**{**values, **changes}))


def test_a_task_arrives_as_plain_values(line: SimpleNamespace) -> None:
    line.fleet.answers["NextTask"] = a_task()
    task = line.session.next_task()
    assert isinstance(task, Task)
    assert (task.kind, task.round, task.plan.bits) == (FEDERATE, 1, 4)
    assert task.weights == Artifact(DIGEST, 7)


def test_waiting_and_finishing_arrive(line: SimpleNamespace) -> None:
    line.fleet.answers["NextTask"] = fleet_pb2.NextTaskResponse(wait_ms=250)
    assert line.session.next_task() == Wait(0.25)
    line.fleet.answers["NextTask"] = fleet_pb2.NextTaskResponse(finished=fleet_pb2.Finished())
    assert line.session.next_task() == Finished()


@pytest.mark.parametrize(
    "answer",
    [
        fleet_pb2.NextTaskResponse(),
        a_task(kind=fleet_pb2.TASK_KIND_UNSPECIFIED),
        a_task(kind=99),
        a_task(lease="../../etc"),
        a_task(lease=""),
        a_task(lease="x" * 65),
        a_task(lease=".hidden"),
        a_task(round=0),
        a_task(rounds_total=0),
        a_task(manifest=artifact_pb2.ArtifactRef(sha256="../x")),
        a_task(weights=artifact_pb2.ArtifactRef()),
        a_task(plan=plan_pb2.SubmodelPlan()),
    ],
)
def test_an_answer_that_no_client_can_obey_is_refused(line: SimpleNamespace, answer: Any) -> None:
    line.fleet.answers["NextTask"] = answer
    with pytest.raises(WireError):
        line.session.next_task()


def test_payload_bytes_are_counted_both_ways(line: SimpleNamespace) -> None:
    answer = artifact_pb2.FetchResponse(data=b"12345", total_bytes=9)
    line.fleet.answers["Fetch"] = iter([answer, answer])
    line.fleet.answers["PutUpdate"] = lambda requests: fleet_pb2.PutUpdateResponse(
        offset=3 + sum(len(request.data) for request in requests)
    )
    assert list(line.session.fetch(ARTIFACT, 0)) == [(b"12345", 9)] * 2
    assert line.session.put_update("lease", ARTIFACT, 3, chunks) == 9
    assert (line.session.bytes_down, line.session.bytes_up) == (10, 6)


def test_the_calls_about_work_carry_what_they_are_given(line: SimpleNamespace) -> None:
    line.fleet.answers |= {
        "ReportProfile": fleet_pb2.ReportProfileResponse(),
        "OpenUpdate": fleet_pb2.OpenUpdateResponse(offset=4),
        "CommitUpdate": fleet_pb2.CommitUpdateResponse(repeated=True),
        "ReportPersonal": fleet_pb2.ReportPersonalResponse(),
    }
    update, metrics = Artifact(DIGEST, 9), DeviceMetrics(loss=0.5, shared_accuracy=(0.25, 0.75))
    line.session.report_profile(DeviceProfile("rpi-4b", train_samples=12))
    assert line.session.open_update("lease", update) == 4
    assert line.session.commit_update("lease", update, 12, metrics) is True
    line.session.report_personal("lease", metrics, EarlyExitReport(thresholds=(0.5, 0.0)))
    sent = dict(line.fleet.requests)
    assert sent["ReportProfile"].profile.train_samples == 12
    assert sent["CommitUpdate"].samples == 12
    assert list(sent["CommitUpdate"].metrics.shared_accuracy) == [0.25, 0.75]
    assert list(sent["ReportPersonal"].early_exit.thresholds) == [0.5, 0.0]


def test_a_refusal_is_raised_at_once_as_its_own_class(line: SimpleNamespace) -> None:
    line.fleet.answers["OpenUpdate"] = Rejected("round 3 is closed")
    with pytest.raises(Rejected, match="round 3 is closed"):
        line.session.open_update("lease", Artifact(DIGEST, 9))
    assert len(line.fleet.requests) == 1


def test_a_busy_coordinator_is_asked_again(line: SimpleNamespace) -> None:
    answers = [CoordinatorUnavailable("starting"), a_task()]
    line.fleet.answers["NextTask"] = lambda _: answers.pop(0)
    assert isinstance(line.session.next_task(), Task)
    assert line.session.link is Link.UP


def test_a_full_coordinator_is_asked_again_when_it_said(authority: tuple[bytes, bytes]) -> None:
    fleet, waits = Fleet(), []
    full = StoreFull("no room")
    full.retry_after_s = 7.0
    answers = [full, fleet_pb2.OpenUpdateResponse(offset=3)]
    fleet.answers["OpenUpdate"] = lambda _: answers.pop(0)
    with (
        serving(fleet, authority) as port,
        connected(port, a_device(authority), waits.append) as session,
    ):
        assert session.open_update("lease", Artifact(DIGEST, 9)) == 3
        assert session.link is Link.UP
    assert waits == [7.0]


def test_a_coordinator_that_comes_back_is_found(authority: tuple[bytes, bytes]) -> None:
    port, fleet, waits = free_port(), Fleet(), []
    fleet.answers["NextTask"] = a_task()
    back = serving(fleet, authority, port)

    def pause(seconds: float) -> None:
        assert session.link is Link.LOST
        waits.append(seconds)
        if len(waits) == 2:
            back.__enter__()

    with connected(port, a_device(authority), pause) as session:
        try:
            assert isinstance(session.next_task(), Task)
        finally:
            back.__exit__(None, None, None)
    assert len(waits) >= 2


def test_a_stop_ends_the_waiting(authority: tuple[bytes, bytes]) -> None:
    def pause(_seconds: float) -> None:
        raise Stopped

    with connected(free_port(), a_device(authority), pause) as session, pytest.raises(Stopped):
        session.next_task()


def test_bounded_patience_ends_with_the_reason(authority: tuple[bytes, bytes]) -> None:
    retry = Retry(base_s=0.01, ceiling_s=0.01, total_s=0.02)
    with (
        connected(free_port(), a_device(authority), retry=retry) as session,
        pytest.raises(CoordinatorUnavailable),
    ):
        session.next_task()


def test_another_fleet_ends_a_client_that_was_told_to_end(authority: tuple[bytes, bytes]) -> None:
    stranger = a_device(identity.create_authority("another"))
    with (
        serving(Fleet(), authority) as port,
        connected(port, stranger) as session,
        pytest.raises(TlsFailure),
    ):
        session.next_task()


def test_another_fleet_is_asked_again_slowly_by_a_resident_client(
    authority: tuple[bytes, bytes],
) -> None:
    waits: list[float] = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        if seconds == REFUSED_PAUSE_S:
            raise Stopped

    stranger = a_device(identity.create_authority("another"))
    with (
        serving(Fleet(), authority) as port,
        connected(port, stranger, pause, ends=False) as session,
        pytest.raises(Stopped),
    ):
        session.next_task()
    assert sum(waits[:-1]) == pytest.approx(BELIEVED_AFTER_S)


def test_one_failed_handshake_is_not_believed(line: SimpleNamespace) -> None:
    answers = [TlsFailure("the coordinator was killed in a handshake"), a_task()]
    line.fleet.answers["NextTask"] = lambda _: answers.pop(0)
    assert isinstance(line.session.next_task(), Task)


def test_a_message_over_the_bound_is_refused(line: SimpleNamespace) -> None:
    big = artifact_pb2.FetchResponse(data=b"x" * (MAX_MESSAGE_BYTES + 1))
    line.fleet.answers["Fetch"] = iter([big])
    with pytest.raises(WireError):
        list(line.session.fetch(ARTIFACT, 0))


def test_a_download_that_is_cut_goes_on_where_it_was(line: SimpleNamespace) -> None:
    def cut(_request: Any) -> Iterator[Any]:
        yield artifact_pb2.FetchResponse(data=b"123", total_bytes=9)
        raise CoordinatorUnavailable

    def rest(request: Any) -> Iterator[Any]:
        yield artifact_pb2.FetchResponse(data=b"123456789"[request.offset :], total_bytes=9)

    def once_cut(request: Any) -> Iterator[Any]:
        return cut(request) if request.offset == 0 else rest(request)

    line.fleet.answers["Fetch"] = once_cut
    assert list(line.session.fetch(ARTIFACT, 0)) == [(b"123", 9), (b"456789", 9)]


def test_an_upload_that_is_cut_goes_on_where_the_coordinator_is(line: SimpleNamespace) -> None:
    held = bytearray()

    def take(requests: Iterator[Any]) -> Any:
        first = next(requests)
        assert (first.lease, first.sha256, first.offset) == ("lease", DIGEST, len(held))
        held.extend(first.data)
        if len(held) < 6:
            raise CoordinatorUnavailable
        for request in requests:
            assert not request.lease
            held.extend(request.data)
        return fleet_pb2.PutUpdateResponse(offset=len(held))

    line.fleet.answers["PutUpdate"] = take
    line.fleet.answers["OpenUpdate"] = lambda _: fleet_pb2.OpenUpdateResponse(offset=len(held))
    assert line.session.put_update("lease", ARTIFACT, 0, chunks) == 9
    assert bytes(held) == b"abcdefghi"
    assert line.session.bytes_up == 9

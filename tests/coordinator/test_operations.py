"""The operator's service over mutual TLS: who may call it, and what it shows and changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator import records as r
from coordinator.config import CoordinatorConfig, Listen, Mqtt, RoundPolicy
from coordinator.folder import create
from coordinator.server import Coordinator
from devices.profile import DeviceProfile
from edge_client.config import Deadlines
from edge_client.enrollment import Request, enroll, load
from edge_client.renewal import Renewal
from edge_client.session import Patience, Session
from reefleet.errors import InputError, NotEnrolled, Rejected
from reefleet.retry import Retry
from reefleet.rpc import identity
from reefleet.rpc.channel import enrollment_channel, fleet_channel
from reefleet.rpc.operator import OperatorLine, operator_line
from reefleet.rpc.status import translated
from reefleet.v1 import fleet_pb2, fleet_pb2_grpc, plan_pb2
from reefleet.v1 import operator_pb2 as pb
from tests.integration.running import until

MakeRun = Callable[..., Any]
WAIT_S = 60


class Place:
    """A coordinator that listens on loopback, and its operator's line."""

    def __init__(
        self, root: Path, contract_file: Path, compiler: Any, mqtt: Mqtt | None = None
    ) -> None:
        self.folder = create(root, "barn", contract_file, None)
        self.ca = self.folder.ca_cert.read_bytes()
        config = CoordinatorConfig(
            listen=Listen(host="127.0.0.1", fleet_port=0, enrollment_port=0),
            rounds=RoundPolicy(total=1, min_devices=1, quorum=1.0, poll_ms=10),
            mqtt=mqtt or Mqtt(),
        )
        self.running = Coordinator(self.folder, config, compiler=compiler)
        ports = self.running.start()
        self.fleet = f"127.0.0.1:{ports.fleet_port}"
        self.enrollment = f"127.0.0.1:{ports.enrollment_port}"

    def ask(self, method: str, request: Any) -> Any:
        with operator_line(self.folder.root) as line:
            return line.ask(method, request)

    def token(self, name: str = "a", uses: int = 1) -> str:
        request = pb.CreateTokenRequest(device_id=name, uses=uses, ttl_s=60)
        return str(self.ask("CreateToken", request).token)

    def enroll(self, token: str) -> tuple[str, identity.Identity]:
        key = identity.new_key()
        request = fleet_pb2.EnrollRequest(
            token=token, certificate_request=identity.certificate_request(key)
        )
        with (
            enrollment_channel(self.enrollment, self.ca) as channel,
            translated(self.enrollment),
        ):
            answer = fleet_pb2_grpc.EnrollmentServiceStub(channel).Enroll(request)
        pem = identity.certificate_pem(answer.certificate)
        return answer.device_id, identity.Identity(pem, key, self.ca)


class Caller:
    """A device's calls."""

    def __init__(self, place: Place, shown: identity.Identity) -> None:
        self.place = place
        self.channel = fleet_channel(place.fleet, shown)
        self.calls = fleet_pb2_grpc.FleetServiceStub(self.channel)

    def report(self) -> None:
        profile = plan_pb2.DeviceProfile(board="rpi-4b", train_samples=100)
        with translated(self.place.fleet):
            self.calls.ReportProfile(fleet_pb2.ReportProfileRequest(profile=profile))

    def ask(self) -> Any:
        with translated(self.place.fleet):
            return self.calls.NextTask(fleet_pb2.NextTaskRequest())

    def renew(self, key: bytes) -> bytes:
        request = fleet_pb2.RenewCertificateRequest(
            certificate_request=identity.certificate_request(key)
        )
        with translated(self.place.fleet):
            answer = self.calls.RenewCertificate(request)
        return identity.certificate_pem(answer.certificate)


@pytest.fixture
def place(tmp_path: Path, contract_file: Path, compiler: tuple[str, ...]) -> Any:
    made = Place(tmp_path / "fleet", contract_file, compiler)
    yield made
    made.running.stop()


def test_the_operator_sees_the_fleet_and_hands_out_tokens(place: Place) -> None:
    name, shown = place.enroll(place.token("shed-2"))
    Caller(place, shown).report()
    found = place.ask("GetStatus", pb.GetStatusRequest())
    assert (found.fleet, found.devices.enrolled, found.paused) == ("fleet", 1, False)
    device = place.ask("GetDevice", pb.GetDeviceRequest(device_id=name))
    assert device.device.board == device.profile.board == "rpi-4b"
    assert device.why
    assert device.device.certificate_ends_at == pytest.approx(
        time.time() + identity.DEVICE_DAYS * 86400, abs=60
    )


def test_a_device_certificate_cannot_operate(place: Place) -> None:
    _, shown = place.enroll(place.token())
    line = OperatorLine(place.fleet, shown)
    requests = {
        "GetStatus": pb.GetStatusRequest(),
        "ListDevices": pb.ListDevicesRequest(),
        "GetDevice": pb.GetDeviceRequest(device_id="a"),
        "ListRounds": pb.ListRoundsRequest(),
        "GetRound": pb.GetRoundRequest(number=1),
        "ListVersions": pb.ListVersionsRequest(),
        "ListWork": pb.ListWorkRequest(),
        "PauseRounds": pb.PauseRoundsRequest(),
        "ResumeRounds": pb.ResumeRoundsRequest(),
        "RevokeDevice": pb.RevokeDeviceRequest(device_id="a"),
        "CreateToken": pb.CreateTokenRequest(device_id="b", ttl_s=60),
        "Deploy": pb.DeployRequest(version=0, share=1.0),
        "Rollback": pb.RollbackRequest(),
        "ListDeployments": pb.ListDeploymentsRequest(),
    }
    service = pb.DESCRIPTOR.services_by_name["OperatorService"]
    assert {method.name for method in service.methods} == set(requests)
    for method, request in requests.items():
        with pytest.raises(NotEnrolled, match="an operator"):
            line.ask(method, request)
    line.close()
    assert not place.ask("GetStatus", pb.GetStatusRequest()).paused


def test_an_operator_is_no_device(place: Place) -> None:
    folder = place.folder
    shown = identity.Identity(
        folder.operator_cert.read_bytes(), folder.operator_key.read_bytes(), place.ca
    )
    with pytest.raises(NotEnrolled, match="a device"):
        Caller(place, shown).ask()


def test_a_revoked_device_is_refused_at_once_on_the_connection_it_has(place: Place) -> None:
    name, shown = place.enroll(place.token())
    device = Caller(place, shown)
    device.report()
    place.ask("RevokeDevice", pb.RevokeDeviceRequest(device_id=name))
    for call in (device.ask, device.report, lambda: device.renew(shown.key)):
        with pytest.raises(NotEnrolled, match="revoked"):
            call()
    found = place.ask("GetStatus", pb.GetStatusRequest()).devices
    assert (found.enrolled, found.ready, found.revoked) == (1, 0, 1)


def test_a_revoked_device_comes_back_with_a_new_token_only(place: Place) -> None:
    unused = place.token("a")
    place.enroll(place.token("a"))
    place.ask("RevokeDevice", pb.RevokeDeviceRequest(device_id="a"))
    with pytest.raises(Rejected, match="expired"):
        place.enroll(unused)
    _, again = place.enroll(place.token("a"))
    Caller(place, again).report()


def test_a_device_that_nobody_knows_cannot_be_revoked_or_shown(place: Place) -> None:
    for method, request in (
        ("RevokeDevice", pb.RevokeDeviceRequest(device_id="ghost")),
        ("GetDevice", pb.GetDeviceRequest(device_id="ghost")),
    ):
        with pytest.raises(InputError, match="no device 'ghost'"):
            place.ask(method, request)


def test_no_round_opens_while_paused(place: Place) -> None:
    place.ask("PauseRounds", pb.PauseRoundsRequest())
    device = Caller(place, place.enroll(place.token())[1])
    device.report()
    pause = threading.Event().wait
    end = time.monotonic() + WAIT_S
    while place.ask("GetStatus", pb.GetStatusRequest()).devices.ready < 1:
        assert time.monotonic() < end
        pause(0.05)
    assert device.ask().HasField("wait_ms")
    assert not place.ask("ListRounds", pb.ListRoundsRequest()).rounds
    place.ask("ResumeRounds", pb.ResumeRoundsRequest())
    while not device.ask().HasField("task"):
        assert time.monotonic() < end
        pause(0.05)
    (shown,) = place.ask("ListRounds", pb.ListRoundsRequest()).rounds
    assert (shown.state, shown.cohort, shown.updates) == ("open", 1, 0)
    (work,) = place.ask("ListWork", pb.ListWorkRequest(round=1)).work
    assert (work.device_id, work.state) == ("a", "open")
    assert not work.HasField("metrics")


def test_a_token_of_several_uses_names_new_devices_and_replaces_none(place: Place) -> None:
    token = place.token("shed", uses=2)
    assert [place.enroll(token)[0] for _ in range(2)] == ["shed-1", "shed-2"]
    with pytest.raises(Rejected, match="used already"):
        place.enroll(token)


def test_wrong_tokens_are_soon_refused_unread_and_others_still_enroll(place: Place) -> None:
    for _ in range(10):
        with pytest.raises(Rejected, match="not known"):
            place.enroll("guess")
    with pytest.raises(Rejected, match="too many"):
        place.enroll("guess")


def test_a_renewed_certificate_replaces_the_old_one_when_it_is_first_used(place: Place) -> None:
    name, shown = place.enroll(place.token())
    device = Caller(place, shown)
    key = identity.new_key()
    device.renew(key)  # this answer gets lost
    renewed = identity.Identity(device.renew(key), key, place.ca)
    device.report()
    assert identity.certificate_facts(renewed.certificate).common_name == name
    Caller(place, renewed).report()
    with pytest.raises(NotEnrolled, match="newer"):
        device.report()


def test_a_client_renews_its_certificate_and_goes_on_with_the_new_one(
    place: Place, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    request = Request(place.enrollment, place.ca, place.token(), "rpi-4b")
    first = enroll(request, state)
    patience = Patience(Retry(base_s=0.01), threading.Event().wait)
    session = Session(first.address, first.identity, Deadlines(), patience)
    profile = DeviceProfile("rpi-4b", train_samples=100)
    session.report_profile(profile)
    ticks = [0.0]
    Renewal(state, first, session, monotonic=lambda: ticks[0]).renew_if_due()
    assert load(state) == first
    renewal = Renewal(state, first, session, monotonic=lambda: ticks[0])
    ticks[0] = first.life_s
    renewal.renew_if_due()
    session.report_profile(profile)
    session.close()
    assert load(state).identity.key != first.identity.key
    with pytest.raises(NotEnrolled, match="newer"):
        Caller(place, first.identity).report()
    kept = b"".join(path.read_bytes() for path in place.folder.root.rglob("*") if path.is_file())
    assert first.identity.key.splitlines()[1] not in kept


def test_work_comes_in_pages_that_follow_each_other(a_run: MakeRun) -> None:
    run = a_run(2, 1, 1, total=1)
    run.rounds.advance()
    run.push("b", samples=30)
    pages, after = [], ""
    while page := run.store.work_page(0, "", after, 2):
        pages.append([work.device_id for work in page])
        after = page[-1].lease
    assert pages == [["a", "b"], ["c"]]
    (mine,) = run.store.work_page(1, "b", "", 9)
    assert (mine.state, mine.samples, mine.metrics["loss"]) == (r.COMMITTED, 30, 1.0)
    assert mine.update_bytes > 0


def test_counts_of_a_round_weigh_the_loss_by_samples(a_run: MakeRun) -> None:
    run = a_run(2, 1, 1, total=1)
    run.rounds.advance()
    run.push("a", samples=10)
    run.push("b", samples=30)
    counts = run.store.round_counts(1, 1)[1]
    assert (counts.cohort, counts.updates, counts.refused, counts.loss) == (3, 2, 0, 1.0)


def test_a_round_goes_on_without_a_device_that_is_revoked(a_run: MakeRun) -> None:
    run = a_run(2, 2, total=1)
    run.rounds.advance()
    run.push("a")
    run.store.revoke("b", run.time.now)
    run.rounds.advance()
    assert run.store.rounds_closed() == 1
    assert [device.device_id for device in run.store.ready()] == ["a"]


@pytest.mark.slow
def test_ten_thousand_devices_are_counted_and_paged_through(a_run: MakeRun) -> None:
    run = a_run(2)
    with run.store._write() as connection:
        connection.exec_driver_sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) "
            "INSERT INTO devices (device_id, serial, fingerprint, enrolled_at, plan, profile, "
            "bundle_key) SELECT printf('x-%05d', i), '1', printf('%064d', i), 1.0, "
            "(SELECT plan FROM devices), (SELECT profile FROM devices), "
            "(SELECT bundle_key FROM devices) FROM n"
        )
    assert run.store.device_counts(0.0).ready == 10_001
    after, seen = "", 0
    while page := run.store.device_page(after, 1000):
        run.store.doing(page[0].device_id, page[-1].device_id, 2)
        seen, after = seen + len(page), page[-1].device_id
    assert seen == 10_001


def test_a_revocation_is_in_the_brokers_rules_without_another_command(
    tmp_path: Path, contract_file: Path, compiler: tuple[str, ...]
) -> None:
    folder = tmp_path / "fleet"
    place = Place(folder, contract_file, compiler, Mqtt(files=str(folder / "mqtt")))
    try:
        place.enroll(place.token("a"))
        place.ask("RevokeDevice", pb.RevokeDeviceRequest(device_id="a"))
        rules = folder / "mqtt" / "acl"
        until(lambda: rules.is_file() and "user a\n" in rules.read_text(), "the rule")
    finally:
        place.running.stop()

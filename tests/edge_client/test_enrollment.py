from __future__ import annotations

import stat
from collections.abc import Iterator
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from edge_client.enrollment import FOLDER, KEY_FILE, Request, enroll, join, load, read_ca
from reefleet import invitation
from reefleet.errors import (
    DamagedFile,
    InputError,
    MissingFile,
    NotEnrolled,
    Rejected,
    TlsFailure,
    WireError,
)
from reefleet.invitation import Invitation
from reefleet.rpc import identity, status
from reefleet.v1 import fleet_pb2, fleet_pb2_grpc


class Enroller(fleet_pb2_grpc.EnrollmentServiceServicer):
    """Knows one token; `change` alters its answer."""

    def __init__(self, authority: tuple[bytes, bytes]) -> None:
        self.authority = authority
        self.change: dict[str, Any] = {}

    def Enroll(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        with status.refusals(context):
            if request.token != "token":
                msg = "the token is not known"
                raise Rejected(msg)
            certificate = identity.issue_device(
                *self.authority, request.certificate_request, "device-1", 1
            )
            values = {
                "device_id": "device-1",
                "certificate": certificate,
                "manifest_key": b"k" * 32,
                "fleet_port": 7700,
            }
            return fleet_pb2.EnrollResponse(**{**values, **self.change})


@pytest.fixture
def office(tmp_path: Path) -> Iterator[SimpleNamespace]:
    authority = identity.create_authority("tests")
    certificate, key = identity.issue_server(*authority, ["127.0.0.1"])
    server = grpc.server(futures.ThreadPoolExecutor(1))
    enroller = Enroller(authority)
    fleet_pb2_grpc.add_EnrollmentServiceServicer_to_server(enroller, server)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
    server.start()
    request = Request(f"127.0.0.1:{port}", authority[0], "token", "rpi-4b")
    yield SimpleNamespace(request=request, enroller=enroller, state=tmp_path / "state")
    server.stop(None).wait()


def with_token(request: Request, token: str) -> Request:
    return Request(request.server, request.ca, token, request.board)


def test_an_enrolled_device_knows_itself_and_its_fleet(office: SimpleNamespace) -> None:
    enrolled = enroll(office.request, office.state)
    assert load(office.state) == enrolled
    assert enrolled.device_id == "device-1"
    assert enrolled.address == "127.0.0.1:7700"
    assert enrolled.board == "rpi-4b"
    assert identity.certificate_facts(enrolled.identity.certificate).common_name == "device-1"


def test_the_key_is_made_here_and_readable_by_its_owner_only(office: SimpleNamespace) -> None:
    enroll(office.request, office.state)
    key = office.state / FOLDER / KEY_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert b"PRIVATE KEY" in key.read_bytes()


def test_an_identity_is_not_overwritten_unasked(office: SimpleNamespace) -> None:
    first = enroll(office.request, office.state)
    with pytest.raises(InputError, match="--force"):
        enroll(office.request, office.state)
    assert load(office.state) == first
    assert enroll(office.request, office.state, force=True).identity.key != first.identity.key


def test_a_wrong_token_changes_nothing(office: SimpleNamespace) -> None:
    first = enroll(office.request, office.state)
    with pytest.raises(Rejected, match="token"):
        enroll(with_token(office.request, "other"), office.state, force=True)
    assert load(office.state) == first


@pytest.mark.parametrize(
    "change",
    [
        {"device_id": "../x"},
        {"device_id": ""},
        {"certificate": b""},
        {"manifest_key": b"short"},
        {"fleet_port": 0},
        {"fleet_port": 70000},
    ],
)
def test_an_answer_that_cannot_be_used_changes_nothing(
    office: SimpleNamespace, change: dict[str, Any]
) -> None:
    office.enroller.change = change
    with pytest.raises(WireError):
        enroll(office.request, office.state)
    with pytest.raises(NotEnrolled, match="edge enroll"):
        load(office.state)


@pytest.mark.parametrize("server", ["host", "host:", ":1", "host:x", "host:0", "host:99999"])
def test_an_address_without_a_port_is_refused(office: SimpleNamespace, server: str) -> None:
    request = Request(server, office.request.ca, "token", "")
    with pytest.raises(InputError, match="HOST:PORT"):
        enroll(request, office.state)


def test_a_missing_ca_file_is_named(office: SimpleNamespace) -> None:
    with pytest.raises(MissingFile, match=r"gone\.crt"):
        read_ca(office.state / "gone.crt")


def test_a_damaged_identity_says_what_to_do(office: SimpleNamespace) -> None:
    enroll(office.request, office.state)
    (office.state / FOLDER / "enrollment.json").write_text("{}")
    with pytest.raises(DamagedFile, match="--force"):
        load(office.state)


def test_a_crash_while_replacing_an_identity_keeps_the_old_one(office: SimpleNamespace) -> None:
    first = enroll(office.request, office.state)
    (office.state / FOLDER).rename(office.state / f"{FOLDER}.previous")
    assert load(office.state) == first


def test_an_invitation_lets_a_device_in_once_and_is_not_needed_again(
    office: SimpleNamespace,
) -> None:
    invited = Invitation(office.request.server, office.request.ca.decode(), "token")
    join(invited, "rpi-5", office.state)
    first = load(office.state)
    assert first.board == "rpi-5"
    join(replace(invited, server="127.0.0.1:1"), "", office.state)
    assert load(office.state) == first


def test_an_invitation_written_is_the_invitation_read_and_nobody_elses(tmp_path: Path) -> None:
    made = Invitation("host:8471", "pem", "rf_secret")
    made.write(tmp_path / "invitation.json")
    assert invitation.read(tmp_path / "invitation.json") == made
    assert (tmp_path / "invitation.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "server": 1, "ca": "", "token": ""}']
)
def test_what_is_no_invitation_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "invitation.json").write_text(text)
    with pytest.raises(DamagedFile, match="token new"):
        invitation.read(tmp_path / "invitation.json")


def test_the_fleet_port_is_not_the_one_to_enroll_at(office: SimpleNamespace) -> None:
    certificate, key = identity.issue_server(*office.enroller.authority, ["127.0.0.1"])
    server = grpc.server(futures.ThreadPoolExecutor(1))
    credentials = grpc.ssl_server_credentials(
        [(key, certificate)], office.request.ca, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    with pytest.raises(TlsFailure, match="the fleet port, not the one to enroll at"):
        enroll(replace(office.request, server=f"127.0.0.1:{port}"), office.state)
    server.stop(None).wait()

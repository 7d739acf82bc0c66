"""Tokens and certificates: who gets in, and what a refusal leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.registry import Registry, new_token
from coordinator.store import Store
from reefleet.errors import InputError, NotEnrolled, Rejected
from reefleet.rpc import identity


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = Store(tmp_path / "state.db")
    yield store
    store.close()


@pytest.fixture
def authority() -> Any:
    return identity.create_authority("barn")


@pytest.fixture
def registry(store: Store, authority: tuple[bytes, bytes], turned_clock: Any) -> Any:
    return Registry(store, *authority, turned_clock.clock())


@pytest.fixture
def request_der() -> Any:
    return identity.certificate_request(identity.new_key())


def test_a_token_is_traded_for_a_certificate_in_its_name(
    store: Store, registry: Registry, turned_clock: Any, request_der: bytes
) -> None:
    token = new_token(store, "shed-2", 60, turned_clock.clock())
    enrolled = registry.enroll(token, request_der)
    assert enrolled.device_id == "shed-2"
    pem = identity.certificate_pem(enrolled.certificate)
    assert registry.identify(pem).device_id == "shed-2"


def test_only_the_digest_of_a_token_is_kept(
    store: Store, turned_clock: Any, tmp_path: Path
) -> None:
    token = new_token(store, "shed-2", 60, turned_clock.clock())
    store.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert token.encode() not in kept
    assert len(token) >= 43


def test_a_wrong_token_is_refused_and_changes_nothing(
    store: Store, registry: Registry, turned_clock: Any, request_der: bytes
) -> None:
    new_token(store, "shed-2", 60, turned_clock.clock())
    with pytest.raises(Rejected, match="not known"):
        registry.enroll("wrong", request_der)
    assert store.devices() == []


def test_an_expired_token_is_refused_and_changes_nothing(
    store: Store, registry: Registry, turned_clock: Any, request_der: bytes
) -> None:
    token = new_token(store, "shed-2", 60, turned_clock.clock())
    turned_clock.pass_s(60)
    with pytest.raises(Rejected, match="expired"):
        registry.enroll(token, request_der)
    assert store.devices() == []


def test_a_used_token_is_refused_and_the_device_keeps_its_certificate(
    store: Store, registry: Registry, turned_clock: Any, request_der: bytes
) -> None:
    token = new_token(store, "shed-2", 60, turned_clock.clock())
    first = registry.enroll(token, request_der)
    with pytest.raises(Rejected, match="used already"):
        registry.enroll(token, identity.certificate_request(identity.new_key()))
    assert registry.identify(identity.certificate_pem(first.certificate)).device_id == "shed-2"


def test_the_same_request_again_gets_the_same_answer_that_was_lost(
    store: Store, registry: Registry, turned_clock: Any, request_der: bytes
) -> None:
    token = new_token(store, "shed-2", 60, turned_clock.clock())
    first = registry.enroll(token, request_der)
    turned_clock.pass_s(3600)
    assert registry.enroll(token, request_der) == first


def test_a_bad_request_is_refused_and_the_token_stays_good(
    store: Store, registry: Registry, turned_clock: Any, request_der: bytes
) -> None:
    token = new_token(store, "shed-2", 60, turned_clock.clock())
    for bad in (b"", b"noise", request_der[:-10], b"x" * 100_000):
        with pytest.raises(Rejected, match="PKCS#10"):
            registry.enroll(token, bad)
    assert registry.enroll(token, request_der).device_id == "shed-2"


def test_enrolling_again_replaces_the_certificate_and_keeps_the_device(
    store: Store, registry: Registry, turned_clock: Any, request_der: bytes
) -> None:
    clock = turned_clock.clock()
    old = registry.enroll(new_token(store, "shed-2", 60, clock), request_der)
    new = registry.enroll(
        new_token(store, "shed-2", 60, clock), identity.certificate_request(identity.new_key())
    )
    with pytest.raises(NotEnrolled, match="replaced"):
        registry.identify(identity.certificate_pem(old.certificate))
    assert registry.identify(identity.certificate_pem(new.certificate)).device_id == "shed-2"
    assert len(store.devices()) == 1


def test_a_certificate_of_nobody_known_is_refused(
    registry: Registry, authority: tuple[bytes, bytes], request_der: bytes
) -> None:
    stranger = identity.issue_device(*authority, request_der, "stranger")
    with pytest.raises(NotEnrolled, match="not enrolled here"):
        registry.identify(identity.certificate_pem(stranger))


def test_a_call_without_a_certificate_is_refused(registry: Registry) -> None:
    with pytest.raises(NotEnrolled):
        registry.identify(b"")


@pytest.mark.parametrize(
    "name", ["", "-a", "A", "a_b", "a.b", "a" * 64, "reefleet-coordinator", "a/b", "a\n"]
)
def test_a_name_that_no_device_may_have_gets_no_token(
    store: Store, turned_clock: Any, name: str
) -> None:
    with pytest.raises(InputError):
        new_token(store, name, 60, turned_clock.clock())

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
    assert token.startswith("rf_")  # a shell would take a leading hyphen for an option


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
    with pytest.raises(NotEnrolled, match="newer"):
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


def test_a_certificate_that_has_expired_is_refused(
    store: Store, registry: Registry, turned_clock: Any, request_der: bytes
) -> None:
    token = new_token(store, "shed-2", 60, turned_clock.clock())
    pem = identity.certificate_pem(registry.enroll(token, request_der).certificate)
    turned_clock.now = identity.certificate_facts(pem).ends_at
    with pytest.raises(NotEnrolled, match="expired"):
        registry.identify(pem)
    turned_clock.now -= 1
    assert registry.identify(pem).device_id == "shed-2"


def test_a_stolen_token_of_one_use_throws_the_device_out_where_it_is_seen(
    store: Store, registry: Registry, turned_clock: Any, request_der: bytes
) -> None:
    token = new_token(store, "shed-2", 60, turned_clock.clock())
    registry.enroll(token, identity.certificate_request(identity.new_key()))  # the thief
    with pytest.raises(Rejected, match="used already"):
        registry.enroll(token, request_der)


def test_a_replayed_request_brings_no_revoked_device_back(
    store: Store, registry: Registry, turned_clock: Any, request_der: bytes
) -> None:
    token = new_token(store, "shed-2", 60, turned_clock.clock())
    registry.enroll(token, request_der)
    registry.revoke("shed-2")
    with pytest.raises(Rejected, match="over"):
        registry.enroll(token, request_der)


def test_a_replayed_request_gets_no_certificate_that_was_replaced(
    store: Store, registry: Registry, turned_clock: Any, request_der: bytes
) -> None:
    clock = turned_clock.clock()
    token = new_token(store, "shed-2", 60, clock)
    registry.enroll(token, request_der)
    other = identity.certificate_request(identity.new_key())
    registry.enroll(new_token(store, "shed-2", 60, clock), other)
    with pytest.raises(Rejected, match="over"):
        registry.enroll(token, request_der)


def test_a_repeated_renewal_gets_the_same_certificate(
    store: Store, registry: Registry, turned_clock: Any, request_der: bytes
) -> None:
    token = new_token(store, "shed-2", 60, turned_clock.clock())
    first = identity.certificate_pem(registry.enroll(token, request_der).certificate)
    device = registry.identify(first)
    asked = identity.certificate_request(identity.new_key())
    renewed = registry.renew(device, asked)
    assert registry.renew(device, asked) == renewed
    assert registry.identify(first).device_id == "shed-2"
    assert registry.identify(identity.certificate_pem(renewed)).device_id == "shed-2"
    with pytest.raises(NotEnrolled, match="newer"):
        registry.identify(first)


def test_a_renewal_of_a_device_that_is_being_revoked_is_refused(
    store: Store, registry: Registry, turned_clock: Any, request_der: bytes
) -> None:
    token = new_token(store, "shed-2", 60, turned_clock.clock())
    pem = identity.certificate_pem(registry.enroll(token, request_der).certificate)
    device = registry.identify(pem)
    registry.revoke("shed-2")
    with pytest.raises(NotEnrolled, match="revoked"):
        registry.renew(device, request_der)


def test_a_token_of_several_uses_skips_names_that_are_taken(
    store: Store, registry: Registry, turned_clock: Any
) -> None:
    clock = turned_clock.clock()
    registry.enroll(new_token(store, "shed-1", 60, clock), a_request())
    token = new_token(store, "shed", 60, clock, uses=2)
    names = [registry.enroll(token, a_request()).device_id for _ in range(2)]
    assert names == ["shed-2", "shed-3"]
    with pytest.raises(Rejected, match="used already"):
        registry.enroll(token, a_request())


def a_request() -> bytes:
    return identity.certificate_request(identity.new_key())


@pytest.mark.parametrize(("uses", "ttl_s"), [(0, 60), (10_001, 60), (1, 0), (1, 4e7)])
def test_a_token_out_of_bounds_is_not_made(
    store: Store, turned_clock: Any, uses: int, ttl_s: float
) -> None:
    with pytest.raises(InputError):
        new_token(store, "a", ttl_s, turned_clock.clock(), uses)


@pytest.mark.parametrize(
    "name", ["", "-a", "A", "a_b", "a.b", "a" * 64, "reefleet-coordinator", "a/b", "a\n"]
)
def test_a_name_that_no_device_may_have_gets_no_token(
    store: Store, turned_clock: Any, name: str
) -> None:
    with pytest.raises(InputError):
        new_token(store, name, 60, turned_clock.clock())

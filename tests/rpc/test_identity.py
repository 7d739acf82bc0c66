"""Certificates, requests and signatures."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from reefleet.errors import ChecksumMismatch, InputError, Rejected
from reefleet.rpc import identity


@pytest.fixture(scope="module")
def authority() -> Any:
    return identity.create_authority("barn")


def a_device(authority: tuple[bytes, bytes], name: str = "shed-2") -> Any:
    request = identity.certificate_request(identity.new_key())
    return identity.issue_device(*authority, request, name)


def test_a_device_certificate_carries_the_tokens_name_whatever_the_request_says(
    authority: tuple[bytes, bytes],
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody-else")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    request = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    issued = identity.issue_device(*authority, request, "shed-2")
    assert identity.certificate_facts(issued).common_name == "shed-2"


def test_a_device_certificate_cannot_pose_as_the_coordinator(
    authority: tuple[bytes, bytes],
) -> None:
    issued = x509.load_der_x509_certificate(a_device(authority, "reefleet-coordinator"))
    usage = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert names.get_values_for_type(x509.DNSName) == []


def test_the_server_certificate_has_the_name_that_clients_expect(
    authority: tuple[bytes, bytes],
) -> None:
    pem, _ = identity.issue_server(*authority, ["10.0.0.7", "farm.example.org", "localhost"])
    names = (
        x509.load_pem_x509_certificate(pem)
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )
    dns = ["reefleet-coordinator", "localhost", "farm.example.org"]
    assert names.get_values_for_type(x509.DNSName) == dns
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == [
        "127.0.0.1",
        "10.0.0.7",
    ]


def test_certificates_are_valid_since_yesterday_for_boards_with_a_slow_clock(
    authority: tuple[bytes, bytes],
) -> None:
    issued = x509.load_der_x509_certificate(a_device(authority))
    age = dt.datetime.now(dt.timezone.utc) - issued.not_valid_before_utc
    assert dt.timedelta(hours=23) < age < dt.timedelta(hours=25)


def test_what_is_issued_is_signed_by_the_authority_and_no_other(
    authority: tuple[bytes, bytes],
) -> None:
    issued = x509.load_der_x509_certificate(a_device(authority))
    issued.verify_directly_issued_by(x509.load_pem_x509_certificate(authority[0]))
    other, _ = identity.create_authority("barn")
    with pytest.raises(InvalidSignature):
        issued.verify_directly_issued_by(x509.load_pem_x509_certificate(other))


def test_two_certificates_differ_in_serial_and_fingerprint(authority: tuple[bytes, bytes]) -> None:
    first, second = (identity.certificate_facts(a_device(authority)) for _ in range(2))
    assert first.serial != second.serial
    assert first.fingerprint != second.fingerprint


def test_the_role_is_in_the_certificate_whatever_the_name(authority: tuple[bytes, bytes]) -> None:
    operator, _ = identity.issue_operator(*authority, "operator")
    server, _ = identity.issue_server(*authority, [])
    device = a_device(authority, "operator")
    roles = [identity.certificate_facts(one).role for one in (operator, device, server)]
    assert roles == ["operator", "device", ""]


def test_a_device_certificate_lives_as_long_as_it_was_given(
    authority: tuple[bytes, bytes],
) -> None:
    request = identity.certificate_request(identity.new_key())
    facts = identity.certificate_facts(identity.issue_device(*authority, request, "a", 0.5))
    assert facts.ends_at - facts.issued_at == pytest.approx(43200, abs=1)


def test_a_certificate_reads_the_same_from_pem_and_der(authority: tuple[bytes, bytes]) -> None:
    der = a_device(authority)
    assert identity.certificate_facts(der) == identity.certificate_facts(
        identity.certificate_pem(der)
    )


def test_a_request_for_another_kind_of_key_is_refused(authority: tuple[bytes, bytes]) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    with pytest.raises(Rejected):
        identity.issue_device(*authority, request, "a")


def test_a_request_whose_signature_is_broken_is_refused(authority: tuple[bytes, bytes]) -> None:
    request = bytearray(identity.certificate_request(identity.new_key()))
    request[-1] ^= 1
    with pytest.raises(Rejected):
        identity.issue_device(*authority, bytes(request), "a")


@pytest.mark.parametrize("noise", [b"", b"noise", b"-----BEGIN CERTIFICATE-----\nxx"])
def test_what_is_no_certificate_is_said_to_be_none(noise: bytes) -> None:
    with pytest.raises(InputError):
        identity.certificate_facts(noise)


def test_a_signature_holds_for_its_bytes_and_its_key_only() -> None:
    key = identity.new_manifest_key()
    public = identity.manifest_public_key(key)
    signature = identity.sign(key, b"manifest")
    assert len(public) == 32
    identity.verify(public, b"manifest", signature)
    other = identity.manifest_public_key(identity.new_manifest_key())
    for bad in [
        (public, b"Manifest", signature),
        (public, b"manifest", signature[:-1]),
        (public, b"manifest", b""),
        (other, b"manifest", signature),
        (b"short", b"manifest", signature),
    ]:
        with pytest.raises(ChecksumMismatch):
            identity.verify(*bad)


def test_a_key_of_the_wrong_kind_is_refused(authority: tuple[bytes, bytes]) -> None:
    with pytest.raises(InputError):
        identity.sign(authority[1], b"data")
    with pytest.raises(InputError):
        identity.certificate_request(identity.new_manifest_key())
    with pytest.raises(InputError):
        identity.certificate_request(b"noise")


def test_an_identity_never_shows_its_key() -> None:
    assert "secret" not in repr(identity.Identity(b"cert", b"secret", b"ca"))

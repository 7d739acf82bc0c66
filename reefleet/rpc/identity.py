"""Who is who on the wire: the fleet's authority, certificates of both ends, manifest signatures.

Certificates are X.509 on EC P-256, signed by the fleet's own authority; manifests are signed with
Ed25519. `cryptography` is imported inside the functions, so that a client loads it only to enroll
and to check signatures.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reefleet.errors import ChecksumMismatch, InputError, Rejected

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

SERVER_NAME = "reefleet-coordinator"
AUTHORITY_DAYS = 3650
SERVER_DAYS = 3650  # issued anew at each start of the coordinator
DEVICE_DAYS = 30.0  # the client renews in time
OPERATOR_DAYS = 1095
CLOCK_SLACK = dt.timedelta(days=1)  # boards without a battery boot with a wrong clock
MAX_REQUEST_BYTES = 16 << 10
DEVICE_ROLE = "device"
OPERATOR_ROLE = "operator"
ANNOUNCER_ROLE = "announcer"
_ROLE_PREFIX = "reefleet"


@dataclass(frozen=True, slots=True)
class Identity:
    """What one end shows and trusts: its certificate and key, and the authority's; all PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    ca: bytes


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says of its holder; `issued_at` and `ends_at` are epoch seconds."""

    common_name: str
    role: str  # "device", "operator", or "" for the coordinator's own and strangers'
    serial: str  # hexadecimal
    fingerprint: str  # sha256 of the DER form, hexadecimal
    issued_at: float
    ends_at: float


def new_key() -> bytes:
    """A fresh EC P-256 private key, PEM (PKCS#8, not encrypted)."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return _private_pem(ec.generate_private_key(ec.SECP256R1()))


def certificate_request(key_pem: bytes) -> bytes:
    """PKCS#10 request for `key_pem`, DER; it names nobody, because the token names the device."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    builder = x509.CertificateSigningRequestBuilder().subject_name(_name("device"))
    signed = builder.sign(_ec_key(key_pem), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def create_authority(fleet_name: str) -> tuple[bytes, bytes]:
    """A new self-signed authority for one fleet: (certificate PEM, key PEM)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    key = _ec_key(key_pem := new_key())
    subject = _name(f"Reefleet {fleet_name}"[:64])
    builder = _builder(subject, subject, key.public_key(), AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return _pem(builder.sign(key, hashes.SHA256())), key_pem


def issue_server(
    ca_cert: bytes, ca_key: bytes, hosts: Sequence[str], name: str = SERVER_NAME
) -> tuple[bytes, bytes]:
    """A server's certificate for `hosts` and the name that clients expect: (PEM, key PEM)."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    known = dict.fromkeys((name, "localhost", "127.0.0.1", *hosts))
    names = [_alternative_name(host) for host in known]
    key = _ec_key(key_pem := new_key())
    builder = _leaf(ca_cert, name, key.public_key(), SERVER_DAYS)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
    )
    return _pem(_sign(builder, ca_key)), key_pem


def issue_device(
    ca_cert: bytes,
    ca_key: bytes,
    request_der: bytes,
    device_id: str,
    valid_days: float = DEVICE_DAYS,
) -> bytes:
    """The device's certificate, DER; raises Rejected where the request is not a sound PKCS#10."""
    key = _requested_key(request_der)
    builder = _caller(_leaf(ca_cert, device_id, key, valid_days), DEVICE_ROLE, device_id)
    return _der(_sign(builder, ca_key))


def issue_operator(ca_cert: bytes, ca_key: bytes, name: str) -> tuple[bytes, bytes]:
    """A certificate that may operate the coordinator: (PEM, key PEM)."""
    key = _ec_key(key_pem := new_key())
    builder = _leaf(ca_cert, name, key.public_key(), OPERATOR_DAYS)
    return _pem(_sign(_caller(builder, OPERATOR_ROLE, name), ca_key)), key_pem


def issue_announcer(ca_cert: bytes, ca_key: bytes) -> tuple[bytes, bytes]:
    """What the coordinator shows the fleet's broker: (PEM, key PEM); good for no other call."""
    key = _ec_key(key_pem := new_key())
    builder = _leaf(ca_cert, SERVER_NAME, key.public_key(), SERVER_DAYS)
    return _pem(_sign(_caller(builder, ANNOUNCER_ROLE, SERVER_NAME), ca_key)), key_pem


def certificate_pem(certificate_der: bytes) -> bytes:
    """The PEM form of a DER certificate; raises InputError where it is none."""
    return _pem(_load(certificate_der))


def certificate_facts(certificate: bytes) -> CertificateFacts:
    """What a certificate, PEM or DER, says of its holder; raises InputError where it is none."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    loaded = _load(certificate)
    names = loaded.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return CertificateFacts(
        common_name=str(names[0].value) if names else "",
        role=_role(loaded),
        serial=f"{loaded.serial_number:x}",
        fingerprint=loaded.fingerprint(hashes.SHA256()).hex(),
        issued_at=(loaded.not_valid_before_utc + CLOCK_SLACK).timestamp(),
        ends_at=loaded.not_valid_after_utc.timestamp(),
    )


def new_manifest_key() -> bytes:
    """A fresh Ed25519 private key for signing manifests, PEM (PKCS#8, not encrypted)."""
    from cryptography.hazmat.primitives.asymmetric import ed25519

    return _private_pem(ed25519.Ed25519PrivateKey.generate())


def manifest_public_key(private_pem: bytes) -> bytes:
    """The 32 raw bytes that check signatures made with `private_pem`."""
    return _ed25519_key(private_pem).public_key().public_bytes_raw()


def sign(private_pem: bytes, data: bytes) -> bytes:
    """Ed25519 signature of `data`, 64 bytes."""
    return _ed25519_key(private_pem).sign(data)


def verify(public: bytes, data: bytes, signature: bytes) -> None:
    """Raise ChecksumMismatch unless `signature` over `data` was made by the owner of `public`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError) as error:
        msg = "the signature does not belong to these bytes and this fleet's manifest key"
        raise ChecksumMismatch(msg) from error


def _name(common_name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative_name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    from cryptography import x509

    now = dt.datetime.now(dt.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _leaf(
    ca_cert: bytes, common_name: str, public_key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    authority = _load(ca_cert)
    issuer_key = authority.public_key()
    if not isinstance(issuer_key, ec.EllipticCurvePublicKey):
        msg = "the authority's certificate does not hold an EC key"
        raise InputError(msg)
    builder = _builder(_name(common_name), authority.subject, public_key, days)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    return builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
    )


def _caller(builder: x509.CertificateBuilder, role: str, name: str) -> x509.CertificateBuilder:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    # A name other than the coordinator's, so that no verifier falls back to the common name.
    said = x509.UniformResourceIdentifier(f"{_ROLE_PREFIX}:{role}:{name}")
    builder = builder.add_extension(x509.SubjectAlternativeName([said]), critical=False)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    return builder.add_extension(usage, critical=False)


def _role(certificate: x509.Certificate) -> str:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    for said in names.get_values_for_type(x509.UniformResourceIdentifier):
        prefix, _, rest = said.partition(":")
        if prefix == _ROLE_PREFIX:
            return rest.partition(":")[0]
    return ""


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(builder: x509.CertificateBuilder, ca_key: bytes) -> x509.Certificate:
    from cryptography.hazmat.primitives import hashes

    return builder.sign(_ec_key(ca_key), hashes.SHA256())


def _requested_key(request_der: bytes) -> ec.EllipticCurvePublicKey:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    msg = "the certificate request is not a PKCS#10 request for an EC P-256 key"
    if len(request_der) > MAX_REQUEST_BYTES:
        raise Rejected(msg)
    try:
        request = x509.load_der_x509_csr(request_der)
        sound = request.is_signature_valid
        public_key = request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Rejected(msg) from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not sound:
        raise Rejected(msg)
    if not isinstance(public_key.curve, ec.SECP256R1):
        raise Rejected(msg)
    return public_key


def _load(certificate: bytes) -> x509.Certificate:
    from cryptography import x509

    try:
        if certificate.lstrip().startswith(b"-----"):
            return x509.load_pem_x509_certificate(certificate)
        return x509.load_der_x509_certificate(certificate)
    except ValueError as error:
        msg = "the certificate is neither PEM nor DER"
        raise InputError(msg) from error


def _ec_key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError) as error:
        msg = "the private key is not an unencrypted PEM key"
        raise InputError(msg) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        msg = "the private key is not an EC key"
        raise InputError(msg)
    return key


def _ed25519_key(private_pem: bytes) -> ed25519.Ed25519PrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        key = serialization.load_pem_private_key(private_pem, password=None)
    except (ValueError, TypeError) as error:
        msg = "the manifest key is not an unencrypted PEM key"
        raise InputError(msg) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        msg = "the manifest key is not an Ed25519 key"
        raise InputError(msg)
    return key


def _private_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM)


def _der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.DER)

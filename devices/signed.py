"""Profiles signed by the device: who measured what cannot be changed afterwards, not even at rest.

ECDSA on P-256 with SHA-256, by the key of the device's certificate, over the profile's canonical
JSON without its signature. `cryptography` is imported inside the functions.
"""

from __future__ import annotations

import json
from dataclasses import replace

from devices.profile import DeviceProfile
from reefleet.errors import ChecksumMismatch


def canonical(profile: DeviceProfile) -> bytes:
    """The bytes that are signed: sorted keys, no blanks, no signature."""
    values = profile.to_json()
    del values["signature"]
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sign(profile: DeviceProfile, key_pem: bytes) -> DeviceProfile:
    """The profile with the signature of an EC private key (PEM)."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = serialization.load_pem_private_key(key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        msg = "profiles are signed with an EC key, which this is not"
        raise ChecksumMismatch(msg)
    signature = key.sign(canonical(profile), ec.ECDSA(hashes.SHA256()))
    return replace(profile, signature=signature.hex())


def require_signed(profile: DeviceProfile, certificate_pem: bytes) -> None:
    """Raise ChecksumMismatch unless the holder of the certificate (PEM) signed the profile."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = x509.load_pem_x509_certificate(certificate_pem).public_key()
    msg = f"the profile of {profile.board or 'a board'} is not signed by this device's key"
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ChecksumMismatch(msg)
    try:
        signature = bytes.fromhex(profile.signature)
        key.verify(signature, canonical(profile), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise ChecksumMismatch(msg) from error

"""TLS contexts of Python's own library, for the ends that speak no gRPC: broker and page."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path
from typing import Any

from reefleet.rpc.identity import Identity


class _NamedContext(ssl.SSLContext):
    """Expects one name in the peer's certificate, whatever address it was called at."""

    expected: str

    def wrap_socket(self, sock: Any, *args: Any, **kwargs: Any) -> Any:
        """Wrap as usual, but for the expected name."""
        kwargs["server_hostname"] = self.expected
        return super().wrap_socket(sock, *args, **kwargs)


def client_context(shown: Identity, name: str) -> ssl.SSLContext:
    """Shows `shown`, trusts its authority alone, and takes only a server that is called `name`."""
    made = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    made.expected = name
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_verify_locations(cadata=shown.ca.decode())
    _show(made, shown.certificate, shown.key)
    return made


def server_context(certificate: bytes, key: bytes) -> ssl.SSLContext:
    """Shows a certificate and asks for none; both PEM."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    _show(made, certificate, key)
    return made


def _show(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # The library reads files only; this one is the owner's alone and gone at once.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.pem"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(key + certificate)
        context.load_cert_chain(path)

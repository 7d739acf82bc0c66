"""Who may see the page: on loopback whoever calls it by a known name, elsewhere who has the token.

A login is a cookie that says when it ends, sealed with the token; a new token ends all logins.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass, field

from coordinator.clock import Clock
from coordinator.config import Web
from coordinator.rate import FailureLimit
from reefleet.errors import Rejected

COOKIE = "__Host-reefleet"  # the prefix binds it to this host and to HTTPS
LOGIN_S = 12 * 3600
FAILURES_A_MINUTE = 10
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Names:
    """What a browser may call the page by, so that no other site's name leads to it."""

    known: frozenset[str]

    @classmethod
    def of(cls, web: Web) -> Names:
        """The names of a page on loopback."""
        return cls(frozenset({*LOOPBACK, web.host, *web.names}))

    def has(self, header: str) -> bool:
        """Whether a Host header names the page."""
        host = header.rpartition("]")[0] if header.startswith("[") else header.partition(":")[0]
        return host.removeprefix("[").lower() in self.known


@dataclass(slots=True)
class Logins:
    """Trades the token for a cookie; too many wrong ones from an address are refused."""

    token: str = field(repr=False)
    clock: Clock
    limit: FailureLimit = field(init=False)

    def __post_init__(self) -> None:
        """Start with nobody's failures."""
        self.limit = FailureLimit(FAILURES_A_MINUTE, self.clock, "logins")

    def cookie(self, token: str, address: str) -> str:
        """A cookie's value for the right token; raises Rejected."""
        self.limit.check(address)
        if not hmac.compare_digest(token.strip().encode(), self.token.encode()):
            self.limit.failed(address)
            msg = "this is not the token in pki/web.token of the coordinator's folder"
            raise Rejected(msg)
        ends = str(int(self.clock.wall()) + LOGIN_S)
        return f"{ends}.{self._seal(ends)}"

    def holds(self, cookie: str, authorization: str) -> bool:
        """Whether a request may pass: by its cookie, or by `Authorization: Bearer TOKEN`."""
        scheme, _, said = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(said.strip().encode(), self.token.encode())
        ends, _, seal = cookie.partition(".")
        if not ends.isdecimal() or len(ends) > len(str(2**63)):
            return False
        is_ours = hmac.compare_digest(seal.encode(), self._seal(ends).encode())
        return is_ours and self.clock.wall() < int(ends)

    def _seal(self, text: str) -> str:
        return hmac.new(self.token.encode(), f"login {text}".encode(), hashlib.sha256).hexdigest()

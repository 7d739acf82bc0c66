"""The one mapping between Reefleet's errors and gRPC's status codes, in both directions.

A refusal travels as a status code, its sentence, and the class's name in the trailing metadata, so
that a client raises the same class it would have met in-process.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import grpc

from reefleet import errors
from reefleet.errors import (
    CoordinatorUnavailable,
    DeadlineExceeded,
    NotEnrolled,
    PayloadTooLarge,
    ReefleetError,
    Rejected,
    TlsFailure,
    UnsupportedVersion,
    WireError,
)

ERROR_KEY = "reefleet-error"
RETRY_KEY = "reefleet-retry-after-s"
CLOSED_AT_HANDSHAKE = "closed the connection at the handshake"
MAX_DETAIL_CHARS = 1000
MAX_RETRY_AFTER_S = 3600.0
PROBE_TIMEOUT_S = 1.0

# The first class that matches decides, so subclasses stand before their bases.
_STATUS_OF: tuple[tuple[type[ReefleetError], grpc.StatusCode], ...] = (
    (errors.PayloadTooLarge, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.ChecksumMismatch, grpc.StatusCode.DATA_LOSS),
    (errors.UnsupportedVersion, grpc.StatusCode.UNIMPLEMENTED),
    (errors.WireError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotEnrolled, grpc.StatusCode.UNAUTHENTICATED),
    (errors.TlsFailure, grpc.StatusCode.UNAUTHENTICATED),
    (errors.Rejected, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.CoordinatorUnavailable, grpc.StatusCode.UNAVAILABLE),
    (errors.StoreFull, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.PlanError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.ConfigError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.ReefleetError, grpc.StatusCode.INTERNAL),
)

# For peers that name no class: another version of the program, or gRPC itself.
_CLASS_OF: dict[grpc.StatusCode, type[ReefleetError]] = {
    grpc.StatusCode.UNAUTHENTICATED: NotEnrolled,
    grpc.StatusCode.PERMISSION_DENIED: Rejected,
    grpc.StatusCode.FAILED_PRECONDITION: Rejected,
    grpc.StatusCode.NOT_FOUND: Rejected,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.INVALID_ARGUMENT: WireError,
    grpc.StatusCode.DATA_LOSS: errors.ChecksumMismatch,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedVersion,
}

_NAMED = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, ReefleetError)
}

_TLS_CAUSES = (
    ("certificate has expired", "a certificate has expired, or this machine's clock is wrong"),
    ("certificate is not yet valid", "this machine's clock is behind; set the time"),
    ("unsupported certificate purpose", "the peer shows a device's certificate, not a server's"),
    ("Hostname Verification", "the peer is not a Reefleet coordinator"),
    ("CERTIFICATE_VERIFY_FAILED", "the coordinator belongs to another fleet than this CA file"),
    ("WRONG_VERSION_NUMBER", "the peer does not speak TLS; check the port"),
)


def status_of(error: ReefleetError) -> grpc.StatusCode:
    """The status code that `error` travels under."""
    return next(code for kind, code in _STATUS_OF if isinstance(error, kind))


def abort(context: grpc.ServicerContext, error: ReefleetError) -> NoReturn:
    """End the call with `error`: its status code, its sentence and its class name."""
    metadata = [(ERROR_KEY, type(error).__name__)]
    if isinstance(error, errors.StoreFull):
        metadata.append((RETRY_KEY, f"{error.retry_after_s:.0f}"))
    context.set_trailing_metadata(tuple(metadata))
    context.abort(status_of(error), str(error)[:MAX_DETAIL_CHARS])
    raise AssertionError  # abort() does not return


@contextmanager
def refusals(context: grpc.ServicerContext) -> Iterator[None]:
    """Within a servicer's method: end the call with any ReefleetError that leaves the block."""
    try:
        yield
    except ReefleetError as error:
        abort(context, error)


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Around a client's call: raise the class the server raised instead of grpc.RpcError.

    A failed connection becomes TlsFailure or CoordinatorUnavailable, with the likely cause.
    """
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc(error, address) from error


def from_rpc(error: grpc.RpcError, address: str) -> ReefleetError:
    """The Reefleet error that a failed call to `address` stands for."""
    code: grpc.StatusCode = error.code()
    detail: str = error.details() or ""
    trailing = dict(error.trailing_metadata() or ())
    if kind := _NAMED.get(str(trailing.get(ERROR_KEY, ""))):
        return _again_after(kind(detail), str(trailing.get(RETRY_KEY, "")))
    if code is grpc.StatusCode.UNAVAILABLE:
        return _connection_failure(detail, address)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        msg = f"the coordinator at {address} did not answer in time"
        return DeadlineExceeded(msg)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return _exhausted(detail, address)
    if code is grpc.StatusCode.CANCELLED:
        msg = f"the call to the coordinator at {address} was cut off"
        return CoordinatorUnavailable(msg)
    kind = _CLASS_OF.get(code, errors.RpcError)
    return kind(f"the coordinator at {address} answered {code.name}: {detail}")


def _again_after(error: ReefleetError, told: str) -> ReefleetError:
    if isinstance(error, errors.StoreFull) and told.isdecimal():
        error.retry_after_s = min(float(told), MAX_RETRY_AFTER_S)
    return error


def _exhausted(detail: str, address: str) -> ReefleetError:
    if "larger than max" in detail:
        msg = f"a message to or from the coordinator at {address} is over the size bound: {detail}"
        return PayloadTooLarge(msg)
    msg = f"the coordinator at {address} is busy: {detail}"
    return CoordinatorUnavailable(msg)


def _connection_failure(detail: str, address: str) -> ReefleetError:
    for mark, cause in _TLS_CAUSES:
        if mark in detail:
            msg = f"no trust between this machine and {address}: {cause}"
            return TlsFailure(msg)
    if "failed to connect" in detail and "Socket closed" in detail and _listens(address):
        # With TLS 1.3 a refused client certificate shows only as a close after the handshake.
        msg = (
            f"the coordinator at {address} {CLOSED_AT_HANDSHAKE}; this device's "
            "certificate is missing, expired or of another fleet, so enroll it again"
        )
        return TlsFailure(msg)
    if "lookup" in detail or "resolving" in detail:
        msg = f"the coordinator's name in {address!r} cannot be resolved; check --server"
        return CoordinatorUnavailable(msg)
    reason = detail.rsplit(": ", 1)[-1] or "no answer"
    msg = f"nothing answered as a coordinator at {address} ({reason}); is it running?"
    return CoordinatorUnavailable(msg)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PROBE_TIMEOUT_S):
            return True
    except (OSError, ValueError):
        return False

"""Every error Reefleet raises, and the exit code each branch ends a command with.

::

    ReefleetError (1)
     +- ConfigError (78)
     +- InputError (65)        DamagedFile  MissingFile (66)
     +- WireError (76)         TruncatedPayload  ChecksumMismatch  UnsupportedVersion
     |                         TensorMismatch  PayloadTooLarge  NonFiniteValues
     +- RpcError (69)          CoordinatorUnavailable  DeadlineExceeded  NotEnrolled (77)
     |                         Rejected (77)  TlsFailure (77)
     +- PlanError (70)         NoFeasiblePlan  UnknownBoard
     +- TrainingError (70)     NonFiniteUpdate  DataTooSmall  OutOfMemory
     +- AggregationError (70)  EmptyRound  ShapeConflict
     +- ExportError (70)       UnsupportedOperator  ParityFailure  RuleBroken
     +- StoreError (74)        StoreFull
     +- RuntimeUnavailable (72)
"""

from __future__ import annotations


class ReefleetError(Exception):
    """Base of all errors a caller may want to catch; the message is one sentence for people."""

    exit_code = 1


class ConfigError(ReefleetError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = 78


class InputError(ReefleetError):
    """A file or value that the user gave cannot be used."""

    exit_code = 65


class MissingFile(InputError):
    """A file that the user named does not exist or cannot be read."""

    exit_code = 66


class DamagedFile(InputError):
    """A file exists and is not what its name promises."""


class WireError(ReefleetError):
    """Bytes from a peer or from disk break the wire format."""

    exit_code = 76


class TruncatedPayload(WireError):
    """A payload ends before its own header says it does."""


class ChecksumMismatch(WireError):
    """The bytes are not those that their digest or signature names."""


class UnsupportedVersion(WireError):
    """A format version is newer than this program understands."""


class TensorMismatch(WireError):
    """A tensor is unknown, missing, or of another shape or type than the contract says."""


class PayloadTooLarge(WireError):
    """A size announced by a peer is over the agreed bound."""


class NonFiniteValues(WireError):
    """A tensor from a peer holds NaN or infinity."""


class RpcError(ReefleetError):
    """A call to the coordinator did not succeed."""

    exit_code = 69


class CoordinatorUnavailable(RpcError):
    """Nothing answered at the coordinator's address."""


class DeadlineExceeded(RpcError):
    """The coordinator did not answer in time."""


class NotEnrolled(RpcError):
    """The coordinator does not know this device, or has revoked it."""

    exit_code = 77


class Rejected(RpcError):
    """The coordinator understood the request and refused it."""

    exit_code = 77


class TlsFailure(RpcError):
    """The two ends could not agree that they belong to the same fleet."""

    exit_code = 77


class PlanError(ReefleetError):
    """A device cannot be given a plan."""

    exit_code = 70


class NoFeasiblePlan(PlanError):
    """No (depth, bit-width, batch) fits the budget; the message names the binding constraint."""


class UnknownBoard(PlanError):
    """The board is not in the catalog."""


class TrainingError(ReefleetError):
    """Fine-tuning on the device failed."""

    exit_code = 70


class NonFiniteUpdate(TrainingError):
    """Training diverged; the update holds NaN or infinity and is not offered."""


class OutOfMemory(TrainingError):
    """The board has not the memory that the work needs."""


class DataTooSmall(TrainingError):
    """There are fewer samples than the job needs."""


class AggregationError(ReefleetError):
    """Updates could not be folded into a model."""

    exit_code = 70


class EmptyRound(AggregationError):
    """No update was accepted before the round closed."""


class ShapeConflict(AggregationError):
    """An update's tensor has another shape than the model's."""


class ExportError(ReefleetError):
    """A graph or bundle could not be built."""

    exit_code = 70


class UnsupportedOperator(ExportError):
    """The step function uses an operator that the compiler does not lower."""


class ParityFailure(ExportError):
    """A built graph disagrees with the function it was built from."""


class RuleBroken(ExportError):
    """A graph breaks a rule of the runtime it is meant for; the message names the node."""


class StoreError(ReefleetError):
    """State could not be read from or written to disk."""

    exit_code = 74


class StoreFull(StoreError):
    """The disk has no room for what must be written; it may have some after `retry_after_s`."""

    retry_after_s = 30.0


class RuntimeUnavailable(ReefleetError):
    """A wheel that this command needs is not installed; the message names the extra."""

    exit_code = 72

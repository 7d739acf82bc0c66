from reefleet.v1 import artifact_pb2 as _artifact_pb2
from reefleet.v1 import plan_pb2 as _plan_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_KIND_UNSPECIFIED: _ClassVar[TaskKind]
    TASK_KIND_FEDERATE: _ClassVar[TaskKind]
    TASK_KIND_PERSONALIZE: _ClassVar[TaskKind]
    TASK_KIND_DEPLOY: _ClassVar[TaskKind]

class DeploymentOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEPLOYMENT_OUTCOME_UNSPECIFIED: _ClassVar[DeploymentOutcome]
    DEPLOYMENT_OUTCOME_INSTALLED: _ClassVar[DeploymentOutcome]
    DEPLOYMENT_OUTCOME_RESTORED: _ClassVar[DeploymentOutcome]
    DEPLOYMENT_OUTCOME_KEPT: _ClassVar[DeploymentOutcome]

class AbandonCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ABANDON_CAUSE_UNSPECIFIED: _ClassVar[AbandonCause]
    ABANDON_CAUSE_MEMORY: _ClassVar[AbandonCause]
    ABANDON_CAUSE_CRASH: _ClassVar[AbandonCause]
TASK_KIND_UNSPECIFIED: TaskKind
TASK_KIND_FEDERATE: TaskKind
TASK_KIND_PERSONALIZE: TaskKind
TASK_KIND_DEPLOY: TaskKind
DEPLOYMENT_OUTCOME_UNSPECIFIED: DeploymentOutcome
DEPLOYMENT_OUTCOME_INSTALLED: DeploymentOutcome
DEPLOYMENT_OUTCOME_RESTORED: DeploymentOutcome
DEPLOYMENT_OUTCOME_KEPT: DeploymentOutcome
ABANDON_CAUSE_UNSPECIFIED: AbandonCause
ABANDON_CAUSE_MEMORY: AbandonCause
ABANDON_CAUSE_CRASH: AbandonCause

class EnrollRequest(_message.Message):
    __slots__ = ("token", "certificate_request")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    token: str
    certificate_request: bytes
    def __init__(self, token: _Optional[str] = ..., certificate_request: _Optional[bytes] = ...) -> None: ...

class EnrollResponse(_message.Message):
    __slots__ = ("device_id", "certificate", "manifest_key", "fleet_port")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_KEY_FIELD_NUMBER: _ClassVar[int]
    FLEET_PORT_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    certificate: bytes
    manifest_key: bytes
    fleet_port: int
    def __init__(self, device_id: _Optional[str] = ..., certificate: _Optional[bytes] = ..., manifest_key: _Optional[bytes] = ..., fleet_port: _Optional[int] = ...) -> None: ...

class RenewCertificateRequest(_message.Message):
    __slots__ = ("certificate_request",)
    CERTIFICATE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    certificate_request: bytes
    def __init__(self, certificate_request: _Optional[bytes] = ...) -> None: ...

class RenewCertificateResponse(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    def __init__(self, certificate: _Optional[bytes] = ...) -> None: ...

class ReportProfileRequest(_message.Message):
    __slots__ = ("profile", "codecs")
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    CODECS_FIELD_NUMBER: _ClassVar[int]
    profile: _plan_pb2.DeviceProfile
    codecs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, profile: _Optional[_Union[_plan_pb2.DeviceProfile, _Mapping]] = ..., codecs: _Optional[_Iterable[str]] = ...) -> None: ...

class ReportProfileResponse(_message.Message):
    __slots__ = ("broker",)
    BROKER_FIELD_NUMBER: _ClassVar[int]
    broker: Broker
    def __init__(self, broker: _Optional[_Union[Broker, _Mapping]] = ...) -> None: ...

class Broker(_message.Message):
    __slots__ = ("host", "port", "telemetry_s")
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_S_FIELD_NUMBER: _ClassVar[int]
    host: str
    port: int
    telemetry_s: float
    def __init__(self, host: _Optional[str] = ..., port: _Optional[int] = ..., telemetry_s: _Optional[float] = ...) -> None: ...

class NextTaskRequest(_message.Message):
    __slots__ = ("conditions", "idle")
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    conditions: _plan_pb2.Conditions
    idle: bool
    def __init__(self, conditions: _Optional[_Union[_plan_pb2.Conditions, _Mapping]] = ..., idle: bool = ...) -> None: ...

class NextTaskResponse(_message.Message):
    __slots__ = ("task", "wait_ms", "finished")
    TASK_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    task: Task
    wait_ms: int
    finished: Finished
    def __init__(self, task: _Optional[_Union[Task, _Mapping]] = ..., wait_ms: _Optional[int] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Task(_message.Message):
    __slots__ = ("kind", "lease", "round", "rounds_total", "base_version", "plan", "manifest", "manifest_signature", "weights", "deadline_s", "turn")
    KIND_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BASE_VERSION_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    kind: TaskKind
    lease: str
    round: int
    rounds_total: int
    base_version: int
    plan: _plan_pb2.SubmodelPlan
    manifest: _artifact_pb2.ArtifactRef
    manifest_signature: bytes
    weights: _artifact_pb2.ArtifactRef
    deadline_s: int
    turn: int
    def __init__(self, kind: _Optional[_Union[TaskKind, str]] = ..., lease: _Optional[str] = ..., round: _Optional[int] = ..., rounds_total: _Optional[int] = ..., base_version: _Optional[int] = ..., plan: _Optional[_Union[_plan_pb2.SubmodelPlan, _Mapping]] = ..., manifest: _Optional[_Union[_artifact_pb2.ArtifactRef, _Mapping]] = ..., manifest_signature: _Optional[bytes] = ..., weights: _Optional[_Union[_artifact_pb2.ArtifactRef, _Mapping]] = ..., deadline_s: _Optional[int] = ..., turn: _Optional[int] = ...) -> None: ...

class OpenUpdateRequest(_message.Message):
    __slots__ = ("lease", "update")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    lease: str
    update: _artifact_pb2.ArtifactRef
    def __init__(self, lease: _Optional[str] = ..., update: _Optional[_Union[_artifact_pb2.ArtifactRef, _Mapping]] = ...) -> None: ...

class OpenUpdateResponse(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class PutUpdateRequest(_message.Message):
    __slots__ = ("lease", "sha256", "offset", "data")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    lease: str
    sha256: str
    offset: int
    data: bytes
    def __init__(self, lease: _Optional[str] = ..., sha256: _Optional[str] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PutUpdateResponse(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class CommitUpdateRequest(_message.Message):
    __slots__ = ("lease", "update", "samples", "metrics")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    lease: str
    update: _artifact_pb2.ArtifactRef
    samples: int
    metrics: DeviceMetrics
    def __init__(self, lease: _Optional[str] = ..., update: _Optional[_Union[_artifact_pb2.ArtifactRef, _Mapping]] = ..., samples: _Optional[int] = ..., metrics: _Optional[_Union[DeviceMetrics, _Mapping]] = ...) -> None: ...

class CommitUpdateResponse(_message.Message):
    __slots__ = ("repeated",)
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    repeated: bool
    def __init__(self, repeated: bool = ...) -> None: ...

class DeviceMetrics(_message.Message):
    __slots__ = ("loss", "shared_accuracy", "personal_accuracy", "held_out_samples", "bytes_down", "bytes_up", "peak_resident_bytes", "train_seconds", "steps", "steps_asked")
    LOSS_FIELD_NUMBER: _ClassVar[int]
    SHARED_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    PERSONAL_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    BYTES_DOWN_FIELD_NUMBER: _ClassVar[int]
    BYTES_UP_FIELD_NUMBER: _ClassVar[int]
    PEAK_RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRAIN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEPS_ASKED_FIELD_NUMBER: _ClassVar[int]
    loss: float
    shared_accuracy: _containers.RepeatedScalarFieldContainer[float]
    personal_accuracy: _containers.RepeatedScalarFieldContainer[float]
    held_out_samples: int
    bytes_down: int
    bytes_up: int
    peak_resident_bytes: int
    train_seconds: float
    steps: int
    steps_asked: int
    def __init__(self, loss: _Optional[float] = ..., shared_accuracy: _Optional[_Iterable[float]] = ..., personal_accuracy: _Optional[_Iterable[float]] = ..., held_out_samples: _Optional[int] = ..., bytes_down: _Optional[int] = ..., bytes_up: _Optional[int] = ..., peak_resident_bytes: _Optional[int] = ..., train_seconds: _Optional[float] = ..., steps: _Optional[int] = ..., steps_asked: _Optional[int] = ...) -> None: ...

class ReportPersonalRequest(_message.Message):
    __slots__ = ("lease", "metrics", "early_exit")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    EARLY_EXIT_FIELD_NUMBER: _ClassVar[int]
    lease: str
    metrics: DeviceMetrics
    early_exit: EarlyExitReport
    def __init__(self, lease: _Optional[str] = ..., metrics: _Optional[_Union[DeviceMetrics, _Mapping]] = ..., early_exit: _Optional[_Union[EarlyExitReport, _Mapping]] = ...) -> None: ...

class EarlyExitReport(_message.Message):
    __slots__ = ("accuracy", "full_depth_accuracy", "mean_exit_depth", "p50_ms", "full_depth_p50_ms", "packed_bytes", "thresholds", "exit_share")
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    FULL_DEPTH_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    MEAN_EXIT_DEPTH_FIELD_NUMBER: _ClassVar[int]
    P50_MS_FIELD_NUMBER: _ClassVar[int]
    FULL_DEPTH_P50_MS_FIELD_NUMBER: _ClassVar[int]
    PACKED_BYTES_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    EXIT_SHARE_FIELD_NUMBER: _ClassVar[int]
    accuracy: float
    full_depth_accuracy: float
    mean_exit_depth: float
    p50_ms: float
    full_depth_p50_ms: float
    packed_bytes: int
    thresholds: _containers.RepeatedScalarFieldContainer[float]
    exit_share: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, accuracy: _Optional[float] = ..., full_depth_accuracy: _Optional[float] = ..., mean_exit_depth: _Optional[float] = ..., p50_ms: _Optional[float] = ..., full_depth_p50_ms: _Optional[float] = ..., packed_bytes: _Optional[int] = ..., thresholds: _Optional[_Iterable[float]] = ..., exit_share: _Optional[_Iterable[float]] = ...) -> None: ...

class ReportPersonalResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReportDeploymentRequest(_message.Message):
    __slots__ = ("lease", "outcome", "accuracy", "accuracy_before", "early_exit")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_BEFORE_FIELD_NUMBER: _ClassVar[int]
    EARLY_EXIT_FIELD_NUMBER: _ClassVar[int]
    lease: str
    outcome: DeploymentOutcome
    accuracy: float
    accuracy_before: float
    early_exit: EarlyExitReport
    def __init__(self, lease: _Optional[str] = ..., outcome: _Optional[_Union[DeploymentOutcome, str]] = ..., accuracy: _Optional[float] = ..., accuracy_before: _Optional[float] = ..., early_exit: _Optional[_Union[EarlyExitReport, _Mapping]] = ...) -> None: ...

class ReportDeploymentResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AbandonTaskRequest(_message.Message):
    __slots__ = ("lease", "cause")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    lease: str
    cause: AbandonCause
    def __init__(self, lease: _Optional[str] = ..., cause: _Optional[_Union[AbandonCause, str]] = ...) -> None: ...

class AbandonTaskResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

from reefleet.v1 import fleet_pb2 as _fleet_pb2
from reefleet.v1 import plan_pb2 as _plan_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("fleet", "phase", "paused", "version", "rounds_total", "rounds_closed", "min_devices", "devices", "rounds", "refusals", "at", "deployment", "trouble")
    FLEET_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_CLOSED_FIELD_NUMBER: _ClassVar[int]
    MIN_DEVICES_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    fleet: str
    phase: str
    paused: bool
    version: int
    rounds_total: int
    rounds_closed: int
    min_devices: int
    devices: DeviceCounts
    rounds: _containers.RepeatedCompositeFieldContainer[RoundSummary]
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    at: float
    deployment: Deployment
    trouble: str
    def __init__(self, fleet: _Optional[str] = ..., phase: _Optional[str] = ..., paused: bool = ..., version: _Optional[int] = ..., rounds_total: _Optional[int] = ..., rounds_closed: _Optional[int] = ..., min_devices: _Optional[int] = ..., devices: _Optional[_Union[DeviceCounts, _Mapping]] = ..., rounds: _Optional[_Iterable[_Union[RoundSummary, _Mapping]]] = ..., refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ..., at: _Optional[float] = ..., deployment: _Optional[_Union[Deployment, _Mapping]] = ..., trouble: _Optional[str] = ...) -> None: ...

class DeviceCounts(_message.Message):
    __slots__ = ("enrolled", "ready", "present", "failed", "revoked", "online")
    ENROLLED_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    enrolled: int
    ready: int
    present: int
    failed: int
    revoked: int
    online: int
    def __init__(self, enrolled: _Optional[int] = ..., ready: _Optional[int] = ..., present: _Optional[int] = ..., failed: _Optional[int] = ..., revoked: _Optional[int] = ..., online: _Optional[int] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("round", "device_id", "reason", "at")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    round: int
    device_id: str
    reason: str
    at: float
    def __init__(self, round: _Optional[int] = ..., device_id: _Optional[str] = ..., reason: _Optional[str] = ..., at: _Optional[float] = ...) -> None: ...

class ListDevicesRequest(_message.Message):
    __slots__ = ("after", "page_size")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    after: str
    page_size: int
    def __init__(self, after: _Optional[str] = ..., page_size: _Optional[int] = ...) -> None: ...

class ListDevicesResponse(_message.Message):
    __slots__ = ("devices", "more")
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedCompositeFieldContainer[DeviceSummary]
    more: bool
    def __init__(self, devices: _Optional[_Iterable[_Union[DeviceSummary, _Mapping]]] = ..., more: bool = ...) -> None: ...

class DeviceSummary(_message.Message):
    __slots__ = ("device_id", "doing", "board", "plan", "failure", "enrolled_at", "last_seen_at", "revoked_at", "certificate_ends_at")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DOING_FIELD_NUMBER: _ClassVar[int]
    BOARD_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ENROLLED_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_AT_FIELD_NUMBER: _ClassVar[int]
    REVOKED_AT_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ENDS_AT_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    doing: str
    board: str
    plan: _plan_pb2.SubmodelPlan
    failure: str
    enrolled_at: float
    last_seen_at: float
    revoked_at: float
    certificate_ends_at: float
    def __init__(self, device_id: _Optional[str] = ..., doing: _Optional[str] = ..., board: _Optional[str] = ..., plan: _Optional[_Union[_plan_pb2.SubmodelPlan, _Mapping]] = ..., failure: _Optional[str] = ..., enrolled_at: _Optional[float] = ..., last_seen_at: _Optional[float] = ..., revoked_at: _Optional[float] = ..., certificate_ends_at: _Optional[float] = ...) -> None: ...

class GetDeviceRequest(_message.Message):
    __slots__ = ("device_id",)
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    def __init__(self, device_id: _Optional[str] = ...) -> None: ...

class GetDeviceResponse(_message.Message):
    __slots__ = ("device", "profile", "why", "serial", "refusals", "personal", "early_exit", "vitals")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    PERSONAL_FIELD_NUMBER: _ClassVar[int]
    EARLY_EXIT_FIELD_NUMBER: _ClassVar[int]
    VITALS_FIELD_NUMBER: _ClassVar[int]
    device: DeviceSummary
    profile: _plan_pb2.DeviceProfile
    why: _containers.RepeatedScalarFieldContainer[str]
    serial: str
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    personal: _fleet_pb2.DeviceMetrics
    early_exit: _fleet_pb2.EarlyExitReport
    vitals: Vitals
    def __init__(self, device: _Optional[_Union[DeviceSummary, _Mapping]] = ..., profile: _Optional[_Union[_plan_pb2.DeviceProfile, _Mapping]] = ..., why: _Optional[_Iterable[str]] = ..., serial: _Optional[str] = ..., refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ..., personal: _Optional[_Union[_fleet_pb2.DeviceMetrics, _Mapping]] = ..., early_exit: _Optional[_Union[_fleet_pb2.EarlyExitReport, _Mapping]] = ..., vitals: _Optional[_Union[Vitals, _Mapping]] = ...) -> None: ...

class Vitals(_message.Message):
    __slots__ = ("online", "told_at", "doing", "temperature_c", "throttled", "memory_available_mib", "resident_mib", "loss", "answer_ms", "exit_share")
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    TOLD_AT_FIELD_NUMBER: _ClassVar[int]
    DOING_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_C_FIELD_NUMBER: _ClassVar[int]
    THROTTLED_FIELD_NUMBER: _ClassVar[int]
    MEMORY_AVAILABLE_MIB_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_MIB_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_MS_FIELD_NUMBER: _ClassVar[int]
    EXIT_SHARE_FIELD_NUMBER: _ClassVar[int]
    online: bool
    told_at: float
    doing: str
    temperature_c: int
    throttled: bool
    memory_available_mib: int
    resident_mib: int
    loss: float
    answer_ms: float
    exit_share: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, online: bool = ..., told_at: _Optional[float] = ..., doing: _Optional[str] = ..., temperature_c: _Optional[int] = ..., throttled: bool = ..., memory_available_mib: _Optional[int] = ..., resident_mib: _Optional[int] = ..., loss: _Optional[float] = ..., answer_ms: _Optional[float] = ..., exit_share: _Optional[_Iterable[float]] = ...) -> None: ...

class ListRoundsRequest(_message.Message):
    __slots__ = ("last",)
    LAST_FIELD_NUMBER: _ClassVar[int]
    last: int
    def __init__(self, last: _Optional[int] = ...) -> None: ...

class ListRoundsResponse(_message.Message):
    __slots__ = ("rounds",)
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    rounds: _containers.RepeatedCompositeFieldContainer[RoundSummary]
    def __init__(self, rounds: _Optional[_Iterable[_Union[RoundSummary, _Mapping]]] = ...) -> None: ...

class RoundSummary(_message.Message):
    __slots__ = ("number", "state", "reason", "base_version", "result_version", "opened_at", "deadline_at", "closed_at", "cohort", "needed", "updates", "refused", "update_bytes", "loss")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BASE_VERSION_FIELD_NUMBER: _ClassVar[int]
    RESULT_VERSION_FIELD_NUMBER: _ClassVar[int]
    OPENED_AT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_AT_FIELD_NUMBER: _ClassVar[int]
    CLOSED_AT_FIELD_NUMBER: _ClassVar[int]
    COHORT_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    UPDATE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    number: int
    state: str
    reason: str
    base_version: int
    result_version: int
    opened_at: float
    deadline_at: float
    closed_at: float
    cohort: int
    needed: int
    updates: int
    refused: int
    update_bytes: int
    loss: float
    def __init__(self, number: _Optional[int] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., base_version: _Optional[int] = ..., result_version: _Optional[int] = ..., opened_at: _Optional[float] = ..., deadline_at: _Optional[float] = ..., closed_at: _Optional[float] = ..., cohort: _Optional[int] = ..., needed: _Optional[int] = ..., updates: _Optional[int] = ..., refused: _Optional[int] = ..., update_bytes: _Optional[int] = ..., loss: _Optional[float] = ...) -> None: ...

class GetRoundRequest(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class GetRoundResponse(_message.Message):
    __slots__ = ("round",)
    ROUND_FIELD_NUMBER: _ClassVar[int]
    round: RoundSummary
    def __init__(self, round: _Optional[_Union[RoundSummary, _Mapping]] = ...) -> None: ...

class ListVersionsRequest(_message.Message):
    __slots__ = ("last",)
    LAST_FIELD_NUMBER: _ClassVar[int]
    last: int
    def __init__(self, last: _Optional[int] = ...) -> None: ...

class ListVersionsResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[VersionSummary]
    def __init__(self, versions: _Optional[_Iterable[_Union[VersionSummary, _Mapping]]] = ...) -> None: ...

class VersionSummary(_message.Message):
    __slots__ = ("number", "sha256", "size_bytes", "created_at", "is_retired")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    IS_RETIRED_FIELD_NUMBER: _ClassVar[int]
    number: int
    sha256: str
    size_bytes: int
    created_at: float
    is_retired: bool
    def __init__(self, number: _Optional[int] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ..., created_at: _Optional[float] = ..., is_retired: bool = ...) -> None: ...

class ListWorkRequest(_message.Message):
    __slots__ = ("round", "device_id", "after", "page_size")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    round: int
    device_id: str
    after: str
    page_size: int
    def __init__(self, round: _Optional[int] = ..., device_id: _Optional[str] = ..., after: _Optional[str] = ..., page_size: _Optional[int] = ...) -> None: ...

class ListWorkResponse(_message.Message):
    __slots__ = ("work", "more")
    WORK_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    work: _containers.RepeatedCompositeFieldContainer[Work]
    more: bool
    def __init__(self, work: _Optional[_Iterable[_Union[Work, _Mapping]]] = ..., more: bool = ...) -> None: ...

class Work(_message.Message):
    __slots__ = ("lease", "kind", "round", "device_id", "state", "reason", "exit_depth", "bits", "opened_at", "accepted_at", "samples", "update_bytes", "metrics")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXIT_DEPTH_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    OPENED_AT_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_AT_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    UPDATE_BYTES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    lease: str
    kind: _fleet_pb2.TaskKind
    round: int
    device_id: str
    state: str
    reason: str
    exit_depth: int
    bits: int
    opened_at: float
    accepted_at: float
    samples: int
    update_bytes: int
    metrics: _fleet_pb2.DeviceMetrics
    def __init__(self, lease: _Optional[str] = ..., kind: _Optional[_Union[_fleet_pb2.TaskKind, str]] = ..., round: _Optional[int] = ..., device_id: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., exit_depth: _Optional[int] = ..., bits: _Optional[int] = ..., opened_at: _Optional[float] = ..., accepted_at: _Optional[float] = ..., samples: _Optional[int] = ..., update_bytes: _Optional[int] = ..., metrics: _Optional[_Union[_fleet_pb2.DeviceMetrics, _Mapping]] = ...) -> None: ...

class PauseRoundsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PauseRoundsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeRoundsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeRoundsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RevokeDeviceRequest(_message.Message):
    __slots__ = ("device_id",)
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    def __init__(self, device_id: _Optional[str] = ...) -> None: ...

class RevokeDeviceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateTokenRequest(_message.Message):
    __slots__ = ("device_id", "uses", "ttl_s")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    uses: int
    ttl_s: float
    def __init__(self, device_id: _Optional[str] = ..., uses: _Optional[int] = ..., ttl_s: _Optional[float] = ...) -> None: ...

class CreateTokenResponse(_message.Message):
    __slots__ = ("token", "expires_at")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    token: str
    expires_at: float
    def __init__(self, token: _Optional[str] = ..., expires_at: _Optional[float] = ...) -> None: ...

class Deployment(_message.Message):
    __slots__ = ("number", "version", "share", "state", "reason", "is_rollback", "previous", "started_at", "ended_at", "devices", "installed", "restored", "kept", "accuracy", "accuracy_before")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IS_ROLLBACK_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    INSTALLED_FIELD_NUMBER: _ClassVar[int]
    RESTORED_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_BEFORE_FIELD_NUMBER: _ClassVar[int]
    number: int
    version: int
    share: float
    state: str
    reason: str
    is_rollback: bool
    previous: int
    started_at: float
    ended_at: float
    devices: int
    installed: int
    restored: int
    kept: int
    accuracy: float
    accuracy_before: float
    def __init__(self, number: _Optional[int] = ..., version: _Optional[int] = ..., share: _Optional[float] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., is_rollback: bool = ..., previous: _Optional[int] = ..., started_at: _Optional[float] = ..., ended_at: _Optional[float] = ..., devices: _Optional[int] = ..., installed: _Optional[int] = ..., restored: _Optional[int] = ..., kept: _Optional[int] = ..., accuracy: _Optional[float] = ..., accuracy_before: _Optional[float] = ...) -> None: ...

class DeployRequest(_message.Message):
    __slots__ = ("version", "share")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    version: int
    share: float
    def __init__(self, version: _Optional[int] = ..., share: _Optional[float] = ...) -> None: ...

class DeployResponse(_message.Message):
    __slots__ = ("deployment",)
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    deployment: Deployment
    def __init__(self, deployment: _Optional[_Union[Deployment, _Mapping]] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ("deployment",)
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    deployment: Deployment
    def __init__(self, deployment: _Optional[_Union[Deployment, _Mapping]] = ...) -> None: ...

class ListDeploymentsRequest(_message.Message):
    __slots__ = ("last",)
    LAST_FIELD_NUMBER: _ClassVar[int]
    last: int
    def __init__(self, last: _Optional[int] = ...) -> None: ...

class ListDeploymentsResponse(_message.Message):
    __slots__ = ("deployments",)
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    deployments: _containers.RepeatedCompositeFieldContainer[Deployment]
    def __init__(self, deployments: _Optional[_Iterable[_Union[Deployment, _Mapping]]] = ...) -> None: ...

from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubmodelPlan(_message.Message):
    __slots__ = ("exit_depth", "bits", "batch_size", "local_epochs", "models", "codec", "why", "layer_bits", "trained", "local_steps")
    EXIT_DEPTH_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LOCAL_EPOCHS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    LAYER_BITS_FIELD_NUMBER: _ClassVar[int]
    TRAINED_FIELD_NUMBER: _ClassVar[int]
    LOCAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    exit_depth: int
    bits: int
    batch_size: int
    local_epochs: int
    models: int
    codec: str
    why: _containers.RepeatedScalarFieldContainer[str]
    layer_bits: _containers.RepeatedScalarFieldContainer[int]
    trained: str
    local_steps: int
    def __init__(self, exit_depth: _Optional[int] = ..., bits: _Optional[int] = ..., batch_size: _Optional[int] = ..., local_epochs: _Optional[int] = ..., models: _Optional[int] = ..., codec: _Optional[str] = ..., why: _Optional[_Iterable[str]] = ..., layer_bits: _Optional[_Iterable[int]] = ..., trained: _Optional[str] = ..., local_steps: _Optional[int] = ...) -> None: ...

class DeviceProfile(_message.Message):
    __slots__ = ("board", "memory_available_mib", "cores", "storage_free_bytes", "runtimes", "isa", "train_samples", "model", "cpu", "system", "memory_total_mib", "memory_limit_mib", "cpus", "network_mbps", "wired", "storage_read_mbs", "storage_write_mbs", "conditions", "threads", "timings", "taken_at", "signature")
    class RuntimesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    BOARD_FIELD_NUMBER: _ClassVar[int]
    MEMORY_AVAILABLE_MIB_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RUNTIMES_FIELD_NUMBER: _ClassVar[int]
    ISA_FIELD_NUMBER: _ClassVar[int]
    TRAIN_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_MIB_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_MIB_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    NETWORK_MBPS_FIELD_NUMBER: _ClassVar[int]
    WIRED_FIELD_NUMBER: _ClassVar[int]
    STORAGE_READ_MBS_FIELD_NUMBER: _ClassVar[int]
    STORAGE_WRITE_MBS_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    TAKEN_AT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    board: str
    memory_available_mib: int
    cores: int
    storage_free_bytes: int
    runtimes: _containers.ScalarMap[str, str]
    isa: _containers.RepeatedScalarFieldContainer[str]
    train_samples: int
    model: str
    cpu: str
    system: str
    memory_total_mib: int
    memory_limit_mib: int
    cpus: float
    network_mbps: float
    wired: bool
    storage_read_mbs: float
    storage_write_mbs: float
    conditions: Conditions
    threads: int
    timings: _containers.RepeatedCompositeFieldContainer[Timing]
    taken_at: int
    signature: bytes
    def __init__(self, board: _Optional[str] = ..., memory_available_mib: _Optional[int] = ..., cores: _Optional[int] = ..., storage_free_bytes: _Optional[int] = ..., runtimes: _Optional[_Mapping[str, str]] = ..., isa: _Optional[_Iterable[str]] = ..., train_samples: _Optional[int] = ..., model: _Optional[str] = ..., cpu: _Optional[str] = ..., system: _Optional[str] = ..., memory_total_mib: _Optional[int] = ..., memory_limit_mib: _Optional[int] = ..., cpus: _Optional[float] = ..., network_mbps: _Optional[float] = ..., wired: bool = ..., storage_read_mbs: _Optional[float] = ..., storage_write_mbs: _Optional[float] = ..., conditions: _Optional[_Union[Conditions, _Mapping]] = ..., threads: _Optional[int] = ..., timings: _Optional[_Iterable[_Union[Timing, _Mapping]]] = ..., taken_at: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Conditions(_message.Message):
    __slots__ = ("power_mode", "clock_mhz", "temperature_c", "throttled", "on_mains", "battery_percent", "metered")
    POWER_MODE_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MHZ_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_C_FIELD_NUMBER: _ClassVar[int]
    THROTTLED_FIELD_NUMBER: _ClassVar[int]
    ON_MAINS_FIELD_NUMBER: _ClassVar[int]
    BATTERY_PERCENT_FIELD_NUMBER: _ClassVar[int]
    METERED_FIELD_NUMBER: _ClassVar[int]
    power_mode: str
    clock_mhz: int
    temperature_c: int
    throttled: bool
    on_mains: bool
    battery_percent: int
    metered: bool
    def __init__(self, power_mode: _Optional[str] = ..., clock_mhz: _Optional[int] = ..., temperature_c: _Optional[int] = ..., throttled: bool = ..., on_mains: bool = ..., battery_percent: _Optional[int] = ..., metered: bool = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("work", "probe", "depth", "batch", "ms", "rel_sigma", "peak_mib")
    WORK_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    MS_FIELD_NUMBER: _ClassVar[int]
    REL_SIGMA_FIELD_NUMBER: _ClassVar[int]
    PEAK_MIB_FIELD_NUMBER: _ClassVar[int]
    work: str
    probe: str
    depth: int
    batch: int
    ms: float
    rel_sigma: float
    peak_mib: float
    def __init__(self, work: _Optional[str] = ..., probe: _Optional[str] = ..., depth: _Optional[int] = ..., batch: _Optional[int] = ..., ms: _Optional[float] = ..., rel_sigma: _Optional[float] = ..., peak_mib: _Optional[float] = ...) -> None: ...

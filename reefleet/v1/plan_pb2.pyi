from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class SubmodelPlan(_message.Message):
    __slots__ = ("exit_depth", "bits", "batch_size", "local_epochs", "models", "codec", "why")
    EXIT_DEPTH_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LOCAL_EPOCHS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    exit_depth: int
    bits: int
    batch_size: int
    local_epochs: int
    models: int
    codec: str
    why: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, exit_depth: _Optional[int] = ..., bits: _Optional[int] = ..., batch_size: _Optional[int] = ..., local_epochs: _Optional[int] = ..., models: _Optional[int] = ..., codec: _Optional[str] = ..., why: _Optional[_Iterable[str]] = ...) -> None: ...

class DeviceProfile(_message.Message):
    __slots__ = ("board", "memory_available_mib", "cores", "storage_free_bytes", "runtimes", "isa", "train_samples")
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
    board: str
    memory_available_mib: int
    cores: int
    storage_free_bytes: int
    runtimes: _containers.ScalarMap[str, str]
    isa: _containers.RepeatedScalarFieldContainer[str]
    train_samples: int
    def __init__(self, board: _Optional[str] = ..., memory_available_mib: _Optional[int] = ..., cores: _Optional[int] = ..., storage_free_bytes: _Optional[int] = ..., runtimes: _Optional[_Mapping[str, str]] = ..., isa: _Optional[_Iterable[str]] = ..., train_samples: _Optional[int] = ...) -> None: ...

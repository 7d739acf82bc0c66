from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Compression(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPRESSION_UNSPECIFIED: _ClassVar[Compression]
    COMPRESSION_NONE: _ClassVar[Compression]
    COMPRESSION_ZSTD: _ClassVar[Compression]
COMPRESSION_UNSPECIFIED: Compression
COMPRESSION_NONE: Compression
COMPRESSION_ZSTD: Compression

class TensorSet(_message.Message):
    __slots__ = ("format_version", "tensors")
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    format_version: int
    tensors: _containers.RepeatedCompositeFieldContainer[TensorEntry]
    def __init__(self, format_version: _Optional[int] = ..., tensors: _Optional[_Iterable[_Union[TensorEntry, _Mapping]]] = ...) -> None: ...

class TensorEntry(_message.Message):
    __slots__ = ("name", "shape", "float32", "float16", "int8_blocks", "codebook", "compression", "stored_bytes", "plain_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    FLOAT32_FIELD_NUMBER: _ClassVar[int]
    FLOAT16_FIELD_NUMBER: _ClassVar[int]
    INT8_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    CODEBOOK_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    PLAIN_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    float32: Float32
    float16: Float16
    int8_blocks: Int8Blocks
    codebook: Codebook
    compression: Compression
    stored_bytes: int
    plain_bytes: int
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., float32: _Optional[_Union[Float32, _Mapping]] = ..., float16: _Optional[_Union[Float16, _Mapping]] = ..., int8_blocks: _Optional[_Union[Int8Blocks, _Mapping]] = ..., codebook: _Optional[_Union[Codebook, _Mapping]] = ..., compression: _Optional[_Union[Compression, str]] = ..., stored_bytes: _Optional[int] = ..., plain_bytes: _Optional[int] = ...) -> None: ...

class Float32(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Float16(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Int8Blocks(_message.Message):
    __slots__ = ("block_size",)
    BLOCK_SIZE_FIELD_NUMBER: _ClassVar[int]
    block_size: int
    def __init__(self, block_size: _Optional[int] = ...) -> None: ...

class Codebook(_message.Message):
    __slots__ = ("bits", "free", "grid")
    BITS_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    bits: int
    free: FreeCenters
    grid: GridCenters
    def __init__(self, bits: _Optional[int] = ..., free: _Optional[_Union[FreeCenters, _Mapping]] = ..., grid: _Optional[_Union[GridCenters, _Mapping]] = ...) -> None: ...

class FreeCenters(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class GridCenters(_message.Message):
    __slots__ = ("steps", "scale")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    steps: bytes
    scale: float
    def __init__(self, steps: _Optional[bytes] = ..., scale: _Optional[float] = ...) -> None: ...

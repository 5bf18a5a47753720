from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ArtefactKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ARTEFACT_KIND_UNSPECIFIED: _ClassVar[ArtefactKind]
    ARTEFACT_KIND_DECODER: _ClassVar[ArtefactKind]
    ARTEFACT_KIND_STATISTICS: _ClassVar[ArtefactKind]
    ARTEFACT_KIND_SCHEMA: _ClassVar[ArtefactKind]
    ARTEFACT_KIND_CARD: _ClassVar[ArtefactKind]
ARTEFACT_KIND_UNSPECIFIED: ArtefactKind
ARTEFACT_KIND_DECODER: ArtefactKind
ARTEFACT_KIND_STATISTICS: ArtefactKind
ARTEFACT_KIND_SCHEMA: ArtefactKind
ARTEFACT_KIND_CARD: ArtefactKind

class GetRootRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class GetRootResponse(_message.Message):
    __slots__ = ("root", "signatures")
    ROOT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    root: bytes
    signatures: bytes
    def __init__(self, root: _Optional[bytes] = ..., signatures: _Optional[bytes] = ...) -> None: ...

class GetFreshnessRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetFreshnessResponse(_message.Message):
    __slots__ = ("freshness", "signatures")
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    freshness: bytes
    signatures: bytes
    def __init__(self, freshness: _Optional[bytes] = ..., signatures: _Optional[bytes] = ...) -> None: ...

class GetLogProofRequest(_message.Message):
    __slots__ = ("last_size", "version")
    LAST_SIZE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    last_size: int
    version: int
    def __init__(self, last_size: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class GetLogProofResponse(_message.Message):
    __slots__ = ("checkpoint", "consistency", "approval", "index", "inclusion")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    INCLUSION_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    consistency: _containers.RepeatedScalarFieldContainer[bytes]
    approval: bytes
    index: int
    inclusion: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, checkpoint: _Optional[bytes] = ..., consistency: _Optional[_Iterable[bytes]] = ..., approval: _Optional[bytes] = ..., index: _Optional[int] = ..., inclusion: _Optional[_Iterable[bytes]] = ...) -> None: ...

class CountersignRequest(_message.Message):
    __slots__ = ("checkpoint", "key")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    key: bytes
    def __init__(self, checkpoint: _Optional[bytes] = ..., key: _Optional[bytes] = ...) -> None: ...

class CountersignResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetManifestRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class GetManifestResponse(_message.Message):
    __slots__ = ("manifest", "signatures")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    signatures: bytes
    def __init__(self, manifest: _Optional[bytes] = ..., signatures: _Optional[bytes] = ...) -> None: ...

class StreamArtefactRequest(_message.Message):
    __slots__ = ("version", "kind", "offset")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    version: int
    kind: ArtefactKind
    offset: int
    def __init__(self, version: _Optional[int] = ..., kind: _Optional[_Union[ArtefactKind, str]] = ..., offset: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class EnrolRequest(_message.Message):
    __slots__ = ("certificate_request",)
    CERTIFICATE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    certificate_request: bytes
    def __init__(self, certificate_request: _Optional[bytes] = ...) -> None: ...

class EnrolResponse(_message.Message):
    __slots__ = ("state", "certificate")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[EnrolResponse.State]
        STATE_PENDING: _ClassVar[EnrolResponse.State]
        STATE_APPROVED: _ClassVar[EnrolResponse.State]
        STATE_DENIED: _ClassVar[EnrolResponse.State]
    STATE_UNSPECIFIED: EnrolResponse.State
    STATE_PENDING: EnrolResponse.State
    STATE_APPROVED: EnrolResponse.State
    STATE_DENIED: EnrolResponse.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    state: EnrolResponse.State
    certificate: bytes
    def __init__(self, state: _Optional[_Union[EnrolResponse.State, str]] = ..., certificate: _Optional[bytes] = ...) -> None: ...

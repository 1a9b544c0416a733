from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ParallelGroupMap(_message.Message):
    __slots__ = ("parallel_group_item", "ckpt_restore_rank_list")
    PARALLEL_GROUP_ITEM_FIELD_NUMBER: _ClassVar[int]
    CKPT_RESTORE_RANK_LIST_FIELD_NUMBER: _ClassVar[int]
    parallel_group_item: _containers.RepeatedCompositeFieldContainer[ParallelGroupItem]
    ckpt_restore_rank_list: ParallelGroupRanks
    def __init__(self, parallel_group_item: _Optional[_Iterable[_Union[ParallelGroupItem, _Mapping]]] = ..., ckpt_restore_rank_list: _Optional[_Union[ParallelGroupRanks, _Mapping]] = ...) -> None: ...

class ParallelGroupItem(_message.Message):
    __slots__ = ("group_name", "parallel_group_ranks")
    GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    PARALLEL_GROUP_RANKS_FIELD_NUMBER: _ClassVar[int]
    group_name: str
    parallel_group_ranks: ParallelGroupRanks
    def __init__(self, group_name: _Optional[str] = ..., parallel_group_ranks: _Optional[_Union[ParallelGroupRanks, _Mapping]] = ...) -> None: ...

class ParallelGroupRanks(_message.Message):
    __slots__ = ("dim",)
    DIM_FIELD_NUMBER: _ClassVar[int]
    dim: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, dim: _Optional[_Iterable[int]] = ...) -> None: ...

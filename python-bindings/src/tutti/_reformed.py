"""How a group came out of the one before."""

from __future__ import annotations

from typing import Any, NamedTuple

from . import _errors
from ._c import ffi, lib


class Reformed(NamedTuple):
    """What :meth:`tutti.Communicator.reform` found; the same on every member, but for ``previous_rank``."""

    #: Of the new group.
    generation: int
    #: Of the group that failed.
    previous_generation: int
    #: The rank that this member had.
    previous_rank: int
    #: The number of ranks that there were.
    previous_size: int
    #: The number of the newest operation of the old group that every survivor completed.
    completed_everywhere: int
    #: The number of the newest that any survivor completed.
    completed_anywhere: int
    #: The old ranks that are not in the new group: "ranks 2, 5-7"; "" when all are.
    lost: str
    #: The one agreed cause of the failure, with ranks of the old group.
    cause: _errors.Error


def origin(handle: Any) -> tuple[int, Reformed | None]:
    """The generation of a group, and how it came out of the one before: None when there was none."""
    info = ffi.new("struct tutti_reform_info *")
    info.struct_size = ffi.sizeof("struct tutti_reform_info")
    info.cause.struct_size = ffi.sizeof("struct tutti_error")
    lib.tutti_get_reform(handle, info)
    if info.previous_generation == 0:
        return info.generation, None
    return info.generation, Reformed(
        generation=info.generation,
        previous_generation=info.previous_generation,
        previous_rank=info.previous_rank,
        previous_size=info.previous_size,
        completed_everywhere=info.completed_everywhere,
        completed_anywhere=info.completed_anywhere,
        lost=ffi.string(info.lost).decode("utf-8", "replace"),
        cause=_errors.from_struct(info.cause),
    )

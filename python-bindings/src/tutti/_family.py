"""Communicators that are made of another."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from . import _errors
from ._c import ffi, lib
from ._waiting import join_interruptibly

if TYPE_CHECKING:
    from ._member import Member

M = TypeVar("M", bound="Member")


class Family:
    """A communicator of :func:`tutti.init`, the root, and all that are made of it: they live and die together."""

    def __init__(self) -> None:
        self.is_over = False  # its end has been caused by, or raised to, the caller: leaving raises it no more
        self._children: list[weakref.ref[Any]] = []
        self._orphans: list[Any] = []

    def add(self, child: Member) -> None:
        self._children = [reference for reference in self._children if reference() is not None]
        self._children.append(weakref.ref(child))

    def adopt(self, child: Member) -> None:
        """Keeps a child to which the program has no reference any more, until the root ends."""
        self._orphans.append(child)

    def children(self) -> list[Any]:
        """Those that are made of the root, and of each other, and are still there."""
        known = [reference() for reference in list(self._children)]
        return self._orphans + [child for child in known if child is not None]


def make_child(parent: M, make: Callable[[Any, Any], int]) -> M | None:
    """The communicator that ``make(handle, slot)``, a collective on ``parent``, puts into ``slot[0]``."""

    def run(slot: Any) -> int:
        with parent._leaving:
            return lib.TUTTI_ERR_FINALIZED if parent._handle is None else make(parent._handle, slot)

    with parent._lock:
        parent._require()
        try:
            status, handle = join_interruptibly(run)
        except BaseException as exception:  # of a signal handler; the others wait for this rank
            parent.abort(_errors.describe(exception))
            raise
        if parent._handle is None:
            raise parent._closed()
        if status < 0:
            if status != lib.TUTTI_ERR_ARGUMENT:
                parent._family.is_over = True
            error = _errors.from_handle(handle, status) if handle != ffi.NULL else parent._failure(status)
            lib.tutti_free(handle)
            raise error
        return None if handle == ffi.NULL else type(parent)(handle, parent._root or parent)


def colored(color: int | None, key: int) -> Callable[[Any, Any], int]:
    """Makes the group of those with the same colour."""
    number = lib.TUTTI_NO_COLOR if color is None else operator.index(color)
    if color is not None and number < 0:
        raise ValueError(f"color is {color}: pass an integer from 0, or None to be in no group")
    key = operator.index(key)
    return lambda handle, slot: lib.tutti_split(handle, number, key, slot)


def listed(ranks: Sequence[int]) -> Callable[[Any, Any], int]:
    """Makes the group of the ranks in a list."""
    numbers = [operator.index(rank) for rank in ranks]
    if not numbers:
        raise ValueError("ranks is empty: a group has at least 1 rank")
    array = ffi.new("int[]", numbers)
    return lambda handle, slot: lib.tutti_subgroup(handle, array, len(numbers), slot)

"""Symmetric memory: arrays that the other ranks of the host can read where they are."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._buffers import TYPE_NAMES, type_of
from ._c import ffi, lib
from ._member import Member

if TYPE_CHECKING:
    import numpy.typing as npt


class Allocation:
    """Memory of the library, which the arrays that are views of it keep alive: freed with the last of them.

    Made before it has memory, so that a signal handler which raises can come at any time.
    """

    def __init__(self) -> None:
        self.slot = ffi.new("void **")
        self.bytes = 0

    @property
    def __array_interface__(self) -> dict[str, Any]:
        address = int(ffi.cast("uintptr_t", self.slot[0]))
        return {"version": 3, "data": (address, False), "shape": (self.bytes,), "typestr": "|u1"}

    def __del__(self) -> None:
        lib.tutti_dealloc(self.slot[0])


class Memory(Member):
    """What a communicator has to do with memory."""

    def empty(self, shape: int | Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A new array in symmetric memory, which the other ranks of this host can read where it is.

        A collective needs no copy in between where the arrays of all ranks are such, or contiguous parts of such:
        long ``broadcast``, ``gather``, ``all_gather`` and ``reduce_scatter`` are about twice as fast, ``all_reduce``
        gains from 2 MiB on.  It works all the same where some are not.  So use it for what goes through
        collectives again and again, such as gradients and weights::

            gradients = comm.empty((1000, 1000), np.float32)
            reduce = comm.plan_all_reduce(gradients, op="avg")

        shape: an integer, or a tuple of them.  dtype: one of the types of collectives, as NumPy takes it
        (``np.float32``, ``"int64"``, ``ml_dtypes.bfloat16``), or ``"bfloat16"``.

        The elements are zero (that is how the system gives memory; do not rely on it).  Only this rank takes part, and
        any thread may call it.  The array belongs to the process, not to the communicator: it may be used with others,
        and outlives them.  The memory goes back when the last view of it is gone.  It is taken at once, in whole pages,
        which makes this slower than ``np.empty``, up to milliseconds: make arrays once, and cut small ones out of one.

        ``torch.from_numpy(array)`` is a tensor in the same memory; one of bfloat16 is
        ``torch.from_numpy(comm.empty(shape, np.int16)).view(torch.bfloat16)``.

        A child of ``fork`` has the same memory as its parent, not a copy of it, as long as both are there.

        Raises :class:`tutti.OutOfMemoryError`, after which the group lives on.
        """
        lengths = _lengths(shape)
        element = _element(dtype)
        size = math.prod(lengths) * element.itemsize
        if size > sys.maxsize:
            raise ValueError(f"shape is {shape}: that is more than any memory holds; check the units")
        if size == 0:
            return np.empty(lengths, element)
        memory = Allocation()
        with self._using() as handle:
            status = lib.tutti_alloc(handle, size, memory.slot)
            if status < 0:
                raise self._failure(status)
        memory.bytes = size
        return np.asarray(memory).view(element).reshape(lengths)


def _lengths(shape: int | Sequence[int]) -> tuple[int, ...]:
    try:
        lengths = tuple(map(operator.index, shape if isinstance(shape, Sequence) else (shape,)))
    except TypeError:
        raise TypeError(f"shape is {shape!r}: pass an integer or a tuple of integers") from None
    if any(length < 0 for length in lengths):
        raise ValueError(f"shape is {shape!r}: no length can be negative")
    return lengths


def _element(dtype: npt.DTypeLike) -> np.dtype[Any]:
    try:
        if dtype is None:  # which NumPy takes for float64
            raise TypeError
        if isinstance(dtype, str) and dtype == "bfloat16":
            import ml_dtypes

            dtype = ml_dtypes.bfloat16
        element = np.dtype(dtype)
        type_of(element, "dtype")
    except ImportError:
        raise TypeError("dtype is bfloat16, which NumPy has not by itself: pip install ml_dtypes") from None
    except TypeError:
        raise TypeError(f"dtype is {dtype!r}, but tutti knows {TYPE_NAMES}: pass one of these, as np.float32") from None
    return element

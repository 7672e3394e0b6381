"""From the arguments of Python to calls of C: what all operations share."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np

from ._buffers import REDUCTIONS, empty_like, is_scalar, require_same, scalar_array, scalar_like, view
from ._c import ffi, lib
from ._work import milliseconds

NULL = ffi.NULL

_ndarray = np.ndarray
_COUNTS = ffi.typeof("size_t[]")
_BOOLEANS = (bool, np.bool_)
_PREMULTIPLIED_SUM = lib.TUTTI_PREMULTIPLIED_SUM


class Calls:
    """Turns arguments into calls; what becomes of the calls is up to the :meth:`_issue` of the class below.

    A call is what initialises a struct tutti_call: a tuple of its first fields, or a dict.  Its pointers keep the
    buffers alive, so it must be kept until the operation is done.
    """

    _rank: int
    _size: int

    def _issue(
        self, name: str, calls: list[Any], result: Any, finish: Callable[[], Any] | None, async_op: bool
    ) -> Any:
        """Issues ``calls`` as one operation; returns ``finish()`` or else ``result`` when it is done, or its Work."""
        raise NotImplementedError

    def _collective(self, name, emit, x, out, async_op, in_place=True, has_result=True, called="x"):
        """Emits one call for each array of ``x`` and issues them as one operation.

        emit(array, out, name of the array) returns a call and the result.  in_place: the result takes the place of
        ``x``, so a scalar comes back as a scalar.  has_result: false where this rank gets None.  called: the name of
        ``x`` in errors.
        """
        kind = type(x)
        if kind is list or kind is tuple:
            calls, result = self._emit_list(emit, x, out, called)
            return self._issue(name, calls, result if has_result else None, None, async_op)
        if kind is not _ndarray and is_scalar(x):
            call, result = emit(scalar_array(x), out, called)
            finish = (lambda: scalar_like(x, result)) if in_place and has_result and out is None else None
            return self._issue(name, [call], result, finish, async_op)
        call, result = emit(x, out, called)
        return self._issue(name, [call], result, None, async_op)

    def _emit_list(self, emit: Callable[..., Any], x: Sequence[Any], out: Any, called: str) -> tuple[list[Any], Any]:
        if out is None:
            outs: Sequence[Any] = [None] * len(x)
        elif isinstance(out, (list, tuple)) and len(out) == len(x):
            outs = out
        else:
            raise ValueError(f"{called} is a list of {len(x)} arrays: pass a list of as many as out")
        emitted = [emit(a, b, f"{called}[{i}]") for i, (a, b) in enumerate(zip(x, outs))]
        results = [result for _, result in emitted]
        if out is not None:
            return [call for call, _ in emitted], out
        in_place = all(result is a for result, a in zip(results, x))
        return [call for call, _ in emitted], x if in_place else results

    def _received_in(self, a: Any, b: Any, send: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Where a result of ``shape`` goes, for the argument ``a`` seen as ``send``: ``b``, or a new one."""
        b = empty_like(a, send, shape) if b is None else b
        recv = view(b, True, "out")
        require_same(send, shape, recv)
        return recv, b


# ---- Single arguments -----------------------------------------------------------------------------------


def reduction_code(op: str, factor: float | None, x: Any) -> int:
    """The reduction called ``op``, to which ``factor`` must fit, and which must make sense of ``x``."""
    code = REDUCTIONS.get(op)
    if code is None:
        raise ValueError(f"op is {op!r}: use one of {', '.join(REDUCTIONS)}")
    if (code == _PREMULTIPLIED_SUM) != (factor is not None):
        raise ValueError(
            "op='premultiplied_sum' needs factor=, by which the x of this rank is multiplied"
            if factor is None
            else f"factor is given, but op is {op!r}: pass op='premultiplied_sum'"
        )
    if type(x) in _BOOLEANS and op in ("sum", "product", "avg"):
        raise TypeError(
            f"x is a bool, and the {op} of booleans counts nothing: pass int(x), or op='logical_or' or 'logical_and'"
        )
    return code


def call_tail(timeout: float | None, algorithm: str | None = None, factor: float | None = None) -> tuple[Any, ...]:
    """The fields of struct tutti_call from ``timeout_ms`` on."""
    limit = 0 if timeout is None else milliseconds(timeout)
    if algorithm is None and factor is None:
        return (limit,)  # the rest is zero
    return (limit, NULL, NULL, NULL, NULL, 0, 0, NULL, factor or 0.0, algorithm_name(algorithm))


def algorithm_name(algorithm: str | None) -> Any:
    if algorithm is None:
        return NULL
    if not isinstance(algorithm, str):
        raise TypeError(f"algorithm is a {type(algorithm).__name__}: pass its name, such as 'ring'")
    return ffi.new("char[]", algorithm.encode())


def integer(value: Any, name: str) -> int:
    """A rank or a tag, as C takes it, which says whether it is valid."""
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is a {type(value).__name__}: pass an integer") from None
    if not -(2**31) <= value < 2**31:
        raise ValueError(f"{name} is {value}, which is out of range")
    return value


def require_array(x: Any, name: str, why: str) -> None:
    """Refuses scalars, and what an operation without lists does not take."""
    if is_scalar(x) or isinstance(x, (list, tuple)):
        raise TypeError(f"{name} is a {type(x).__name__}: {why}")


# ---- Parts of different lengths ---------------------------------------------------------------------------


class Parts:
    """How the first axis of an array is cut into one part for each rank, in rows."""

    def __init__(self, counts: Any, offsets: Any, size: int, name: str, fix: str) -> None:
        if counts is None:
            raise TypeError(f"{name} is missing: pass the number of rows of each rank's part, {fix}")
        self.name = name
        self.counts = _row_list(counts, size, name)
        self.offsets = None if offsets is None else _row_list(offsets, size, name.replace("counts", "offsets"))

    @property
    def rows(self) -> int:
        """As many as the array must have; at least as many where the parts have offsets."""
        if self.offsets is None:
            return sum(self.counts)
        return max((offset + count for offset, count in zip(self.offsets, self.counts)), default=0)

    def in_elements(self, row: int) -> tuple[Any, Any]:
        """Counts and offsets for C, where a row has ``row`` elements."""
        offsets = NULL if self.offsets is None else ffi.new(_COUNTS, [offset * row for offset in self.offsets])
        return ffi.new(_COUNTS, [count * row for count in self.counts]), offsets

    def require_in(self, shape: tuple[int, ...], name: str) -> None:
        """The array ``name`` of ``shape`` must have the rows."""
        if not shape:
            raise ValueError(f"{name} has shape (), which has no rows to cut: pass an array with at least one axis")
        if shape[0] != self.rows if self.offsets is None else shape[0] < self.rows:
            raise ValueError(
                f"{name} has shape {shape}, with {shape[0]} rows, but {self.name} {self.counts} "
                f"{'add up to' if self.offsets is None else 'and the offsets need'} {self.rows}: "
                f"{self.name} are numbers of rows (of the first axis)"
            )


def _row_list(values: Any, size: int, name: str) -> list[int]:
    try:
        rows = [operator.index(value) for value in values]
    except TypeError:
        raise TypeError(f"{name} is {values!r}: pass an integer for each rank") from None
    if len(rows) != size or min(rows) < 0:
        raise ValueError(f"{name} is {rows}: pass an integer from 0 for each of the {size} ranks")
    return rows


def row_elements(shape: tuple[int, ...]) -> int:
    """The elements of one row of an array of ``shape``."""
    count = 1
    for length in shape[1:]:
        count *= length
    return count

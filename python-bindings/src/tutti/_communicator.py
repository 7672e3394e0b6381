"""The communicator: collectives on arrays, lists of arrays and scalars."""

from __future__ import annotations

import operator
import time
from collections.abc import Sequence
from typing import Any, Callable, Literal, TypeVar, overload

from numpy import ndarray

from ._buffers import REDUCTIONS, empty_like, is_scalar, require_same, scalar_array, scalar_like, view
from ._c import ffi, lib
from ._member import ABORT_TIMEOUT, Member, describe
from ._work import SLICE_MS, Work, milliseconds

T = TypeVar("T")

_CALLS = ffi.typeof("struct tutti_call[]")
_PENDING = ffi.typeof("struct pending *")
_NULL = ffi.NULL
_STATUS_PENDING = lib.TUTTI_PENDING
_ALL_REDUCE = lib.TUTTI_ALL_REDUCE
_run = lib.pending_run
_new = ffi.new


class Communicator(Member):
    """This process's membership in a group of ``size`` ranks; made by :func:`tutti.init`.

    Used in a ``with`` block: leaving it normally waits for all operations and all ranks (:meth:`finalize`);
    leaving it by an exception, Ctrl-C included, aborts the group, so that the other ranks fail at once with
    ``rank 2: ValueError: ...`` as the reason instead of waiting.  (``sys.exit(0)`` leaves it normally.)

    **Collectives** must be called by all ranks, in the same order, with matching arguments.  Their ``x`` is

    - a NumPy array, or anything that lends its memory: ``bytearray``, ``array.array``, ``memoryview``, and CPU
      tensors with DLPack, such as those of PyTorch.  Nothing is copied; it must be contiguous in C order, and
      writable where the result goes into it.  Types: float32, float64, float16, bfloat16 (``ml_dtypes`` or
      DLPack), int8, uint8, int32, int64;
    - a list or tuple of these, which is one fused operation; or
    - a scalar: a Python int (sent as int64), a float (as float64) or a NumPy scalar (in its own type).

    ``timeout`` is the deadline of the call in seconds.  When it passes, the group ends on every rank; it is no
    "not yet" as in :meth:`Work.wait`.  Default: the setting ``call_timeout_ms``.

    ``async_op=True`` returns a :class:`Work` at once.  Operations complete in the order in which they were
    issued.

    **Errors**: ``TypeError`` and ``ValueError`` for arguments that cannot be sent, with the fix in the text, and
    :class:`ArgumentError` change nothing, here or on the other ranks.  Any other :class:`tutti.Error` is the end
    of the group on every rank; :meth:`reform` makes a new group of the survivors.

    **Ctrl-C** (or another signal handler that raises) in a blocking collective aborts the group, since an
    operation in which the others take part cannot be taken back; the buffers hold anything, and nothing writes
    to them after the exception has come out of the call.

    **Threads**: issue collectives from one thread at a time; calls that overlap are serialised.  :meth:`abort`
    and :meth:`Work.wait` may be called from any thread.  A child made by ``fork`` cannot use it.
    """

    # ---- Collectives -------------------------------------------------------------------------------------

    @overload
    def all_reduce(
        self, x: T, op: str = ..., out: Any = ..., async_op: Literal[False] = ..., timeout: float | None = ...
    ) -> T: ...

    @overload
    def all_reduce(
        self, x: T, op: str = ..., out: Any = ..., *, async_op: Literal[True], timeout: float | None = ...
    ) -> Work[T]: ...

    def all_reduce(self, x, op="sum", out=None, async_op=False, timeout=None):
        """Combines the ``x`` of all ranks, element by element; every rank gets the same bits.

        In place: ``x`` receives the result and is returned.  With ``out`` (of the shape and type of ``x``; a
        list for a list) the result goes there, ``x`` is only read, and ``out`` is returned.  A scalar comes back
        as a scalar of its kind.

        op: "sum", "product", "min", "max" or "avg".  Integers wrap around, and their "avg" is truncated towards
        zero: pass ``float(n)`` for a mean.  "min" and "max" give NaN where any operand is NaN.
        """
        reduction = _reduction(op)
        limit = 0 if timeout is None else milliseconds(timeout)

        def emit(a: Any, b: Any, name: str) -> tuple[Any, Any]:
            if b is None or b is a:
                pointer, count, code, _ = view(a, True, name)
                return (_ALL_REDUCE, pointer, pointer, count, code, reduction, 0, limit), a
            send = view(a, False, name)
            recv = view(b, True, "out")
            require_same(send, send[3], recv)
            return (_ALL_REDUCE, send[0], recv[0], send[1], send[2], reduction, 0, limit), b

        return self._collective("all_reduce", emit, x, out, async_op)

    @overload
    def broadcast(self, x: T, root: int = ..., async_op: Literal[False] = ..., timeout: float | None = ...) -> T: ...

    @overload
    def broadcast(self, x: T, root: int = ..., *, async_op: Literal[True], timeout: float | None = ...) -> Work[T]: ...

    def broadcast(self, x, root=0, async_op=False, timeout=None):
        """Copies the ``x`` of rank ``root`` into the ``x`` of the others, and returns it.

        ``x`` must have the same type and number of elements everywhere; it may be read-only on the root.  Of a
        scalar, that of the root is returned.
        """
        root = operator.index(root)
        limit = 0 if timeout is None else milliseconds(timeout)

        def emit(a: Any, b: Any, name: str) -> tuple[Any, Any]:
            pointer, count, code, _ = view(a, self._rank != root, name)
            return (lib.TUTTI_BROADCAST, pointer, pointer, count, code, 0, root, limit), a

        return self._collective("broadcast", emit, x, None, async_op)

    def all_gather(self, x: Any, out: Any = None, async_op: bool = False, timeout: float | None = None) -> Any:
        """Collects the ``x`` of all ranks, which must have the same shape and type, on every rank.

        Returns an array of shape ``(size, *x.shape)``, whose element ``[r]`` is the ``x`` of rank ``r``: a new one
        (a tensor for a tensor), or ``out``.  ``x`` may be ``out[rank]``, which then is not copied.  From a scalar
        comes an array of shape ``(size,)``, from a list a list.
        """
        limit = 0 if timeout is None else milliseconds(timeout)

        def emit(a: Any, b: Any, name: str) -> tuple[Any, Any]:
            send, recv, b = self._gathered(a, b, name)
            return (lib.TUTTI_ALL_GATHER, send[0], recv[0], send[1], send[2], 0, 0, limit), b

        return self._collective("all_gather", emit, x, out, async_op, in_place=False)

    def gather(
        self, x: Any, root: int = 0, out: Any = None, async_op: bool = False, timeout: float | None = None
    ) -> Any:
        """As :meth:`all_gather`, on rank ``root`` only: None is returned on the others, which ignore ``out``."""
        root = operator.index(root)
        limit = 0 if timeout is None else milliseconds(timeout)
        receives = self._rank == root

        def emit(a: Any, b: Any, name: str) -> tuple[Any, Any]:
            if receives:
                send, recv, b = self._gathered(a, b, name)
                return (lib.TUTTI_GATHER, send[0], recv[0], send[1], send[2], 0, root, limit), b
            pointer, count, code, _ = view(a, False, name)
            return (lib.TUTTI_GATHER, pointer, _NULL, count, code, 0, root, limit), None

        out = out if receives else None
        return self._collective("gather", emit, x, out, async_op, in_place=False, has_result=receives)

    def reduce_scatter(
        self, x: Any, op: str = "sum", out: Any = None, async_op: bool = False, timeout: float | None = None
    ) -> Any:
        """Combines the ``x`` of all ranks, element by element, and leaves each rank its part of the result.

        The first axis of ``x`` must be a multiple of ``size``; it is cut into ``size`` equal parts, and rank ``r``
        gets part ``r``: an array of shape ``(x.shape[0] // size, *x.shape[1:])``, new or ``out``.  ``x`` is not
        changed, but ``out`` may be this rank's own part of it.  op: as in :meth:`all_reduce`.
        """
        reduction = _reduction(op)
        limit = 0 if timeout is None else milliseconds(timeout)

        def emit(a: Any, b: Any, name: str) -> tuple[Any, Any]:
            send = view(a, False, name)
            shape = self._part(send[3], name)
            b = empty_like(a, send, shape) if b is None else b
            recv = view(b, True, "out")
            require_same(send, shape, recv)
            return (lib.TUTTI_REDUCE_SCATTER, send[0], recv[0], recv[1], send[2], reduction, 0, limit), b

        if is_scalar(x):
            raise TypeError(f"x is a {type(x).__name__}: pass an array whose first axis is a multiple of {self._size}")
        return self._collective("reduce_scatter", emit, x, out, async_op)

    @overload
    def barrier(self, async_op: Literal[False] = ..., timeout: float | None = ...) -> None: ...

    @overload
    def barrier(self, async_op: Literal[True], timeout: float | None = ...) -> Work[None]: ...

    def barrier(self, async_op=False, timeout=None):
        """Returns when every rank has come here."""
        limit = 0 if timeout is None else milliseconds(timeout)
        calls = [(lib.TUTTI_BARRIER, _NULL, _NULL, 0, 0, 0, 0, limit)]
        return self._issue("barrier", calls, None, None, async_op)

    # ---- From arguments to calls -------------------------------------------------------------------------

    def _collective(self, name, emit, x, out, async_op, in_place=True, has_result=True):
        """Emits one call for each array of ``x`` and issues them as one operation.

        emit(array, out, name of the array) returns a tuple for struct tutti_call, and the result.  in_place: the
        result takes the place of ``x``, so a scalar comes back as a scalar.  has_result: false where this rank
        gets None.
        """
        kind = type(x)
        if kind is list or kind is tuple:
            calls, result = self._emit_list(emit, x, out)
            result = result if has_result else None
            if not calls:
                return self._finished(name, result) if async_op else result
            return self._issue(name, calls, result, None, async_op)
        if kind is not ndarray and is_scalar(x):
            call, result = emit(scalar_array(x), out, "x")
            finish = (lambda: scalar_like(x, result)) if in_place and out is None else None
            return self._issue(name, [call], result, finish, async_op)
        call, result = emit(x, out, "x")
        return self._issue(name, [call], result, None, async_op)

    def _emit_list(self, emit: Callable[..., Any], x: Sequence[Any], out: Any) -> tuple[list[Any], Any]:
        if out is None:
            outs: Sequence[Any] = [None] * len(x)
        elif isinstance(out, (list, tuple)) and len(out) == len(x):
            outs = out
        else:
            raise ValueError(f"x is a list of {len(x)} arrays: pass a list of as many as out")
        emitted = [emit(a, b, f"x[{i}]") for i, (a, b) in enumerate(zip(x, outs))]
        results = [result for _, result in emitted]
        if out is not None:
            return [call for call, _ in emitted], out
        in_place = all(result is a for result, a in zip(results, x))
        return [call for call, _ in emitted], x if in_place else results

    def _gathered(self, a: Any, b: Any, name: str) -> tuple[Any, Any, Any]:
        send = view(a, False, name)
        shape = (self._size, *send[3])
        b = empty_like(a, send, shape) if b is None else b
        recv = view(b, True, "out")
        require_same(send, shape, recv)
        return send, recv, b

    def _part(self, shape: tuple[int, ...], name: str) -> tuple[int, ...]:
        if not shape or shape[0] % self._size != 0:
            raise ValueError(
                f"{name} has shape {shape}, whose first axis cannot be cut into {self._size} equal parts: pad it to a "
                f"multiple of {self._size}"
            )
        return (shape[0] // self._size, *shape[1:])

    # ---- From calls to C ---------------------------------------------------------------------------------

    def _issue(self, name, calls, result, finish, async_op):
        """Issues ``calls``, whose pointers keep the buffers alive, and returns the result or its Work."""
        if async_op:
            return self._start(name, calls, finish if finish is not None else lambda: result)
        spare = self._spare
        pending = spare.pop() if spare else _new(_PENDING)
        with self._lock:
            handle = self._handle
            if handle is None:
                raise self._closed()
            pending.status = _STATUS_PENDING
            try:
                _run(pending, handle, _new(_CALLS, calls), len(calls), SLICE_MS)
                while pending.status == _STATUS_PENDING:
                    lib.pending_wait(pending, SLICE_MS)
            except BaseException as exception:  # of a signal handler, which Python runs between two slices
                if pending.request != _NULL:
                    self._give_up(pending, calls, exception)
                raise
        if pending.status < 0:
            raise self._raised(pending.status)
        spare.append(pending)
        return result if finish is None else finish()

    def _start(self, name: str, calls: list[Any], finish: Callable[[], Any]) -> Work[Any]:
        work: Work[Any] = Work(self, name, calls, finish)
        with self._lock:
            handle = self._require()
            self._poll_works()
            with work._lock:
                # Known before it is issued, so that its buffers outlive it whatever a signal handler raises.
                self._works[work] = None
                pending = work._pending
                try:
                    lib.pending_start(pending, handle, _new(_CALLS, calls), len(calls))
                finally:
                    if pending.request == _NULL:
                        self._works.pop(work, None)
                if pending.status < 0:
                    raise self._raised(pending.status)
        return work

    def _finished(self, name: str, result: Any) -> Work[Any]:
        work: Work[Any] = Work(self, name, None, lambda: result)
        work._complete(None)
        return work

    def _give_up(self, pending: Any, calls: Any, exception: BaseException) -> None:
        """Ends the group, so that nothing writes to the buffers of an operation that was interrupted."""
        self._abandoned.append((pending, calls))
        self.abort(describe(exception))
        until = time.monotonic() + ABORT_TIMEOUT
        while pending.request != _NULL and time.monotonic() < until:
            lib.pending_wait(pending, SLICE_MS)
        if pending.request == _NULL:
            self._abandoned.pop()


def _reduction(op: str) -> int:
    code = REDUCTIONS.get(op)
    if code is None:
        raise ValueError(f"op is {op!r}: use one of {', '.join(REDUCTIONS)}")
    return code

"""The communicator: what its operations come to."""

from __future__ import annotations

import time
from typing import Any, Callable

from . import _errors
from ._c import ffi, lib
from ._collectives import Collectives
from ._member import ABORT_TIMEOUT
from ._memory import Memory
from ._messages import Messages
from ._plan import Plan, Plans
from ._varying import VaryingCollectives
from ._work import SLICE_MS, Work

_CALLS = ffi.typeof("struct tutti_call[]")
_PENDING = ffi.typeof("struct pending *")
_NULL = ffi.NULL
_STATUS_PENDING = lib.TUTTI_PENDING
_run = lib.pending_run
_new = ffi.new


class Communicator(Collectives, VaryingCollectives, Messages, Plans, Memory):
    """This process's membership in a group of ``size`` ranks; made by :func:`tutti.init`.

    Used in a ``with`` block: leaving it normally waits for all operations and all ranks (:meth:`finalize`);
    leaving it by an exception, Ctrl-C included, aborts the group, so that the other ranks fail at once with
    ``rank 2: ValueError: ...`` as the reason instead of waiting.  (``sys.exit(0)`` leaves it normally.)

    **Collectives** must be called by all ranks, in the same order, with matching arguments.  Their ``x`` is

    - a NumPy array, or anything that lends its memory: ``bytearray``, ``array.array``, ``memoryview``, and CPU
      tensors with DLPack, such as those of PyTorch.  Nothing is copied; it must be contiguous in C order, and
      writable where the result goes into it.  Types: float32, float64, float16, bfloat16 (``ml_dtypes`` or
      DLPack), int8, uint8, int16, int32, uint32, int64, uint64, bool, complex64;
    - a list or tuple of these, which is one fused operation; or
    - a scalar: a Python int (sent as int64), a float (as float64), a bool or a NumPy scalar (in its own type).

    ``timeout`` is the deadline of the call in seconds.  When it passes, the group ends on every rank; it is no
    "not yet" as in :meth:`Work.wait`.  Default: the setting ``call_timeout_ms``.

    ``async_op=True`` returns a :class:`Work` at once.  Collectives complete in the order in which they were
    issued.

    ``algorithm`` names the one to be used, such as "ring", instead of the one with the least expected cost; the same
    on every rank.

    **Messages** (:meth:`send`, :meth:`recv`, :meth:`batch`) have links of their own, and neither wait for collectives
    nor hold them up.

    **Memory**: collectives on arrays of :meth:`empty` are the fastest between ranks of one host.

    **Errors**: ``TypeError`` and ``ValueError`` for arguments that cannot be sent, with the fix in the text, and
    :class:`ArgumentError` change nothing, here or on the other ranks.  Any other :class:`tutti.Error` is the end
    of the group on every rank; :meth:`reform` makes a new group of the survivors.

    **Ctrl-C** (or another signal handler that raises) in a blocking collective aborts the group, since an
    operation in which the others take part cannot be taken back; the buffers hold anything, and nothing writes
    to them after the exception has come out of the call.

    **Threads**: issue collectives on one communicator from one thread at a time; calls that overlap are serialised.
    Those on different ones, such as :meth:`split` makes, are independent.  Messages, :meth:`abort` and
    :meth:`Work.wait` may be called from any thread.  A child made by ``fork`` cannot use it.
    """

    # ---- From calls to C ---------------------------------------------------------------------------------

    def _issue(self, name, calls, result, finish, async_op):
        if not calls:  # of an empty list
            return self._finished(name, result) if async_op else result
        if async_op:
            return self._start(name, calls, finish if finish is not None else lambda: result)
        with self._lock:
            handle = self._handle
            if handle is None:
                raise self._closed()
            self._drive(calls, _run, handle, _new(_CALLS, calls), len(calls), SLICE_MS)
        return result if finish is None else finish()

    def _drive(self, keep: Any, begin: Callable[..., None], *arguments: Any) -> None:
        """Has ``begin(pending, *arguments)`` make a request, and waits until it is done.  ``keep``: its buffers."""
        try:
            pending = self._spare.pop()
        except IndexError:
            pending = _new(_PENDING)
        pending.status = _STATUS_PENDING
        try:
            begin(pending, *arguments)
            while pending.status == _STATUS_PENDING:
                lib.pending_wait(pending, SLICE_MS)
        except BaseException as exception:  # of a signal handler, which Python runs between two slices
            if pending.request != _NULL:
                self._give_up(pending, keep, exception)
            raise
        if pending.status < 0:
            raise self._raised(pending.status)
        self._spare.append(pending)

    def _start(self, name: str, calls: list[Any], finish: Callable[[], Any]) -> Work[Any]:
        work: Work[Any] = Work(self, name, calls, finish)
        with self._lock:
            handle = self._require()
            self._poll_works()
            self._begin(work, lib.pending_start, handle, _new(_CALLS, calls), len(calls))
        return work

    def _begin(self, work: Work[Any], start: Callable[..., None], *arguments: Any) -> None:
        """Has ``start(pending, *arguments)`` make the request of ``work``, or raises its error."""
        with work._lock:
            # Known before it is issued, so that its buffers outlive it whatever a signal handler raises.
            self._works[work] = None
            pending = work._pending
            try:
                start(pending, *arguments)
            finally:
                if pending.request == _NULL:
                    self._works.pop(work, None)
            if pending.status < 0:
                raise self._raised(pending.status)

    def _finished(self, name: str, result: Any) -> Work[Any]:
        work: Work[Any] = Work(self, name, None, lambda: result)
        work._complete(None)
        return work

    def _issue_messages(self, name, calls, finish, async_op):
        if not calls:
            return self._finished(name, finish()) if async_op else finish()
        with self._using() as handle:
            array = _new(_CALLS, calls)
            if not async_op:
                self._drive(calls, _run, handle, array, len(calls), SLICE_MS)
                return finish()
            work: Work[Any] = Work(self, name, calls, finish, in_order=False)
            self._poll_works()
            self._begin(work, lib.pending_start, handle, array, len(calls))
            return work

    def _run_plan(self, plan: Plan[Any]) -> Any:
        with self._lock:
            self._require()
            self._drive(plan, lib.pending_plan_run, plan._slot[0], SLICE_MS)
        return plan._result

    def _start_plan(self, plan: Plan[Any]) -> Work[Any]:
        work: Work[Any] = Work(self, plan._name, plan, lambda: plan._result)
        with self._lock:
            self._require()
            self._poll_works()
            plan._pending = work._pending
            self._begin(work, lib.pending_plan_start, plan._slot[0])
        return work

    def _give_up(self, pending: Any, calls: Any, exception: BaseException) -> None:
        """Ends the group, so that nothing writes to the buffers of an operation that was interrupted."""
        entry = pending, calls
        self._abandoned.append(entry)
        self.abort(_errors.describe(exception))
        until = time.monotonic() + ABORT_TIMEOUT
        while pending.request != _NULL and time.monotonic() < until:
            lib.pending_wait(pending, SLICE_MS)
        if pending.request == _NULL:
            self._abandoned.remove(entry)

"""Being a member of a group: joined, failed, re-formed, left."""

from __future__ import annotations

import _thread
import contextlib
import copy
import os
import threading
import warnings
import weakref
from typing import Any, Callable, TypeVar

from . import _errors
from ._c import ffi, lib
from ._reformed import Reformed, origin
from ._waiting import join_interruptibly, run_interruptibly
from ._work import SLICE_MS, LoopWatch, Work, milliseconds

M = TypeVar("M", bound="Member")

#: Seconds that an interrupted call gets to come back from C after the group was aborted.
ABORT_TIMEOUT = 5.0

_members: weakref.WeakSet[Member] = weakref.WeakSet()


class Heir:
    """The newest of the communicators that were re-formed one from the other.

    Those that are closed hold it, for the ``with`` block that one of them may have been entered in.  The newest only
    refers to it: dropping that must free it at once, and the old ones must not pile up behind it.
    """

    def __init__(self, newest: Member) -> None:
        self.newest = newest


class Member:
    """A communicator as far as it does not communicate: it owns the handle of C, and the operations under way."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._rank = lib.tutti_rank(handle)
        self._size = lib.tutti_size(handle)
        self._generation, self._reformed = origin(handle)
        self._completed = 0  # when it was last looked at
        self._heir: Heir | None = None  # once it is re-formed
        self._heir_of_others: Callable[[], Heir | None] = lambda: None  # as long as they, or their block, are there
        self._works: dict[Work, None] = {}  # not known to be done, in the order of issue
        self._abandoned: list[Any] = []  # operations, with their buffers, that did not end in time after an abort
        self._spare: list[Any] = []  # struct pending, to be used again
        self._watcher = LoopWatch()
        self._lock = threading.RLock()  # held by blocking calls, so that the handle is not freed under them
        self._handle_lock = threading.RLock()  # held briefly by calls that any thread may make at any time
        self._leaving = threading.Lock()  # held in tutti_finalize() and tutti_reform(), perhaps by a helper thread
        self._left = False  # finalized or aborted by this process
        self._reported = False  # the end of the group has been raised to the caller
        self._end: _errors.Error = _errors.closed("the communicator is closed: call tutti.init() for a new group")
        _members.add(self)

    # ---- The group ---------------------------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """The number of this member, from 0."""
        return self._rank

    @property
    def size(self) -> int:
        """The number of ranks."""
        return self._size

    @property
    def generation(self) -> int:
        """1 for the group that :func:`tutti.init` made; each re-forming makes the next."""
        return self._generation

    @property
    def completed(self) -> int:
        """The number of the latest operation that has completed on this rank, from 1; 0 when none has.

        All ranks number the operations alike, and a list may count as several.  So compare it only with itself at
        another time, and with ``completed_everywhere`` and ``completed_anywhere`` of :attr:`reformed`.
        """
        with self._handle_lock:
            if self._handle is not None:
                self._completed = lib.tutti_completed(self._handle)
            return self._completed

    @property
    def reformed(self) -> Reformed | None:
        """How this group came out of the one before: a :class:`tutti.Reformed`, None when there was none."""
        return self._reformed

    def abort(self, reason: str = "") -> None:
        """Ends the group on every rank; ``reason`` is what the others are told.  Any thread, at any time."""
        with self._handle_lock:
            if self._handle is not None:
                self._left = True
                lib.tutti_abort(self._handle, reason.encode("utf-8", "replace"))

    def finalize(self, timeout: float | None = None) -> None:
        """Waits for the operations under way and for every rank to come here, and says goodbye.

        timeout: seconds, default ``call_timeout_ms``; when they have passed the group ends with an error.  Leaving the
        ``with`` block does this.  Ctrl-C aborts the group.
        """
        self._require()
        limit = 0 if timeout is None else milliseconds(timeout)

        def leave() -> int:
            with self._leaving:
                handle = self._handle
                return lib.TUTTI_ERR_FINALIZED if handle is None else lib.tutti_finalize(handle, limit)

        status = run_interruptibly(leave, lambda: self.abort("interrupted in finalize"))
        self._poll_works()
        if status < 0:
            raise self._raised(status)
        self._left = True

    def reform(self: M, timeout: float | None = None) -> M:
        """Makes a new group of those members that survived a failure, and returns its communicator.

        For each survivor, on its failed communicator; whoever does not come is left out.  The ranks keep their
        order.  Returns when every member of the old group has come or is known to be gone, or, with those that have
        come, when the ``timeout`` has passed.  :attr:`reformed` of the new communicator tells what was lost.

        timeout: seconds, default ``join_timeout_ms``; the shortest that any member gives counts.

        The failed communicator is closed: what was pending on it has failed, and every call on it goes on to raise its
        error.  A ``with`` block that it was entered in belongs to the new one from now on, so this is all there is to
        write::

            with tutti.init() as comm:
                while True:
                    try:
                        share(comm, state)  # from a rank with the newest state to all others
                        train(comm, state)
                        break
                    except tutti.Error:
                        comm = comm.reform()

        When a further rank is lost while the new group connects, the new communicator is returned all the same: its
        first call raises, as if that rank had been lost a moment later.

        Raises, and leaves the failed communicator as it is: :class:`ArgumentError` when the group has not failed,
        :class:`RefusedError` when the others went on without this member, :class:`UnreachableError` when the
        rendezvous cannot be reached: it must outlive the ranks that may die (``tutti run``, ``tutti rendezvous``).
        Ctrl-C gives up: the communicator is closed.
        """
        limit = 0 if timeout is None else milliseconds(timeout)
        self._require()

        def rejoin(slot: Any) -> int:
            with self._leaving:
                return lib.TUTTI_ERR_FINALIZED if self._handle is None else lib.tutti_reform(self._handle, limit, slot)

        try:
            status, handle = join_interruptibly(rejoin)
        except BaseException:  # of a signal handler, and a thread is still in C with the handle
            self._close(patience=0)
            raise
        if handle == ffi.NULL:
            raise self._closed() if self._handle is None else self._failure(status)
        if lib.tutti_rank(handle) < 0:
            error = _errors.from_handle(handle, status)
            lib.tutti_free(handle)
            raise error
        successor = type(self)(handle)
        heir = self._heir = self._heir_of_others() or Heir(successor)
        heir.newest = successor
        successor._heir_of_others = weakref.ref(heir)
        self._retire()
        return successor

    def links(self) -> list[dict[str, Any]]:
        """The links to the next and from the previous rank of the ring; empty in a group of one.

        Each is a dict of ``peer`` (its rank), ``host``, ``transport`` ("uds" or "tcp"), ``sent_bytes`` and
        ``received_bytes``; these are exact only while no operation is under way.
        """
        found: list[dict[str, Any]] = []
        info = ffi.new("struct tutti_link_info *")
        info.struct_size = ffi.sizeof("struct tutti_link_info")
        with self._handle_lock:
            handle = self._require()
            while lib.tutti_get_link(handle, len(found), info) == lib.TUTTI_OK:
                found.append(
                    {
                        "peer": info.peer,
                        "host": ffi.string(info.host).decode("utf-8", "replace"),
                        "transport": ffi.string(info.transport).decode(),
                        "sent_bytes": info.sent_bytes,
                        "received_bytes": info.received_bytes,
                    }
                )
        return found

    def fileno(self) -> int:
        """A descriptor that polls readable while an asynchronous operation is done and not waited for yet.

        For event loops of your own (``await`` uses it for asyncio): when it is readable, look with
        :meth:`Work.done`.  It belongs to the communicator: neither read nor close it.
        """
        with self._handle_lock:
            descriptor = lib.tutti_fd(self._require())
            if descriptor < 0:
                raise self._raised(descriptor)
            return descriptor

    def _poll_works(self) -> None:
        """Takes note of the operations that are done, oldest first."""
        for work in list(self._works):
            if not work._poll():
                break

    def _watch(self, loop: Any, future: Any) -> None:
        """Looks at all operations whenever one is done, until the future is done; called on the loop."""
        self._watcher.add(loop, future, self.fileno(), self._poll_works)

    # ---- Errors and the end ------------------------------------------------------------------------------

    def _require(self) -> Any:
        if self._handle is None:
            raise self._closed()
        return self._handle

    def _closed(self) -> _errors.Error:
        return copy.copy(self._end)

    def _failure(self, status: int) -> _errors.Error:
        with self._handle_lock:
            return _errors.from_handle(self._handle if self._handle is not None else ffi.NULL, status)

    def _raised(self, status: int) -> _errors.Error:
        """The exception for ``status``, which the caller raises."""
        if status != lib.TUTTI_ERR_ARGUMENT:
            self._reported = True
        return self._failure(status)

    def _retire(self) -> None:
        """The group has been re-formed: lets what is pending fail, and closes."""
        for work in list(self._works):
            with work._lock:
                if not work._done:
                    work._look(SLICE_MS)
        with self._handle_lock:
            if self._handle is not None:
                self._end = _errors.replaced(self._handle)
        self._close()

    def _close(self, patience: float = ABORT_TIMEOUT) -> None:
        """Frees the handle; a group that is still alive is aborted.

        patience: seconds for a helper thread to come back from C.  An abort calls it back from an interrupted
        finalize(), nothing from reform().  When it does not come in time, the handle is freed after it.
        """
        with self._lock, contextlib.ExitStack() as locks:
            with self._handle_lock:
                self._completed = self.completed
                handle, self._handle = self._handle, None
            if handle is None:
                return
            works = list(self._works)
            for work in works:
                locks.enter_context(work._lock)
            if self._leaving.acquire(timeout=patience):
                lib.tutti_free(handle)
                self._leaving.release()
            else:
                _thread.start_new_thread(self._free_later, (handle,))
            for work in works:
                if not work._done:
                    work._complete(self._closed())
            self._abandoned.clear()

    def _free_later(self, handle: Any) -> None:
        with self._leaving:
            lib.tutti_free(handle)

    def _forget(self) -> None:
        """In a forked child: the group belongs to the parent, and is neither used nor left here."""
        self._end = _errors.closed(
            "the communicator belongs to the parent process: a forked child must call tutti.init() itself"
        )
        self._handle = None
        self._works = {}
        self._lock = threading.RLock()
        self._handle_lock = threading.RLock()
        self._leaving = threading.Lock()

    def __enter__(self: M) -> M:
        self._require()
        return self

    def __exit__(self, kind: Any, exception: Any, traceback: Any) -> None:
        (self._heir.newest if self._heir else self)._exit(exception)

    def _exit(self, exception: BaseException | None) -> None:
        try:
            if self._handle is None:
                return
            if exception is None or (isinstance(exception, SystemExit) and not exception.code):
                if not self._left and not self._reported:
                    self.finalize()
            else:
                self.abort(describe(exception))
        finally:
            self._close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            if not self._left and not self._reported:
                warnings.warn(
                    f"{self!r} was dropped without finalize(), which the other ranks see as a failure: use it in a "
                    f"with block",
                    ResourceWarning,
                    stacklevel=2,
                    source=self,
                )
            self._close()

    def __repr__(self) -> str:
        generation = f", generation {self._generation}" if self._reformed else ""
        closed = "" if self._handle is not None else ", closed"
        return f"<tutti.Communicator rank {self._rank} of {self._size}{generation}{closed}>"


def describe(exception: BaseException) -> str:
    """The reason for which a rank aborts, to which C adds the rank: "ValueError: ..."."""
    name = type(exception).__name__
    text = str(exception)
    return f"{name}: {text}" if text else name


def _forget_all() -> None:
    for member in list(_members):
        member._forget()


os.register_at_fork(after_in_child=_forget_all)

"""Being a member of a group: joined, failed, re-formed, left."""

from __future__ import annotations

import _thread
import contextlib
import copy
import os
import threading
import time
import warnings
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Callable, TypeVar

from . import _errors
from ._c import ffi, lib
from ._family import Family, colored, listed, make_child
from ._plan import Plan, free_plan
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

    def __init__(self, handle: Any, root: Member | None = None) -> None:
        self._handle = handle
        self._root = root  # that this one was made of, if any: kept alive by it, for they die together
        self._family = Family() if root is None else root._family
        self._local: Any = None
        self._rank = lib.tutti_rank(handle)
        self._size = lib.tutti_size(handle)
        self._generation, self._reformed = origin(handle)
        self._completed = 0  # when it was last looked at
        self._heir: Heir | None = None  # once it is re-formed
        self._heir_of_others: Callable[[], Heir | None] = lambda: None  # as long as they, or their block, are there
        self._works: dict[Work, None] = {}  # not known to be done, in the order of issue
        self._abandoned: list[Any] = []  # operations, with their buffers, that did not end in time after an abort
        self._spare: list[Any] = []  # struct pending, to be used again
        self._plans: weakref.WeakSet[Plan[Any]] = weakref.WeakSet()
        self._dropped_plans: list[Any] = []  # to be freed once the lock can be had
        self._watcher = LoopWatch()
        self._lock = threading.RLock()  # held by blocking calls, so that the handle is not freed under them
        self._handle_lock = threading.RLock()  # held briefly by calls that any thread may make at any time
        self._users = 0  # threads in calls that do not hold the lock, since they may overlap: messages
        self._unused = threading.Condition(self._handle_lock)
        self._leaving = threading.Lock()  # held in tutti_finalize() and tutti_reform(), perhaps by a helper thread
        self._left = False  # finalized
        self._end: _errors.Error = _errors.closed(
            "the communicator is closed: call tutti.init() for a new group"
            if root is None
            else "the communicator is closed, since it or that of tutti.init() has been left: make it anew"
        )
        if root is not None:
            self._family.add(self)
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
                self._family.is_over = True
                lib.tutti_abort(self._handle, reason.encode("utf-8", "replace"))

    def finalize(self, timeout: float | None = None) -> None:
        """Waits for the operations under way and for every rank to come here, and says goodbye.

        timeout: seconds, default ``call_timeout_ms``; when they have passed the group ends with an error.  Leaving the
        ``with`` block does this.  Ctrl-C aborts the group.

        With the communicator of :func:`tutti.init` end those that are made of it, once what is under way on them is
        done.
        """
        self._require()
        limit = 0 if timeout is None else milliseconds(timeout)
        if self._root is None:
            limit = self._drain_children(limit)

        def leave() -> int:
            with self._leaving:
                handle = self._handle
                return lib.TUTTI_ERR_FINALIZED if handle is None else lib.tutti_finalize(handle, limit)

        status = run_interruptibly(leave, lambda: self.abort("interrupted in finalize"))
        self._poll_works()
        if status < 0:
            raise self._raised(status)
        self._left = True
        if self._root is None:
            self._family.is_over = True

    def _drain_children(self, limit_ms: int) -> int:
        """Waits for what is under way on the children; returns what is left of the limit (0: none)."""
        deadline = time.monotonic() + limit_ms / 1000 if limit_ms else None
        works = [work for child in self._family.children() for work in list(child._works)]
        try:
            for work in works:
                work._settle(deadline)  # a failure is that of the family, which finalize() will raise
        except BaseException:  # of a signal handler
            self.abort("interrupted in finalize")
            raise
        return 0 if deadline is None else max(1, int((deadline - time.monotonic()) * 1000))

    # ---- Groups within the group -------------------------------------------------------------------------

    def split(self: M, color: int | None, key: int = 0) -> M | None:
        """Makes a communicator of the ranks that give the same ``color``, in the order of ``key``, then of rank.

        Collective over this communicator.  color: from 0, or None to be in no group: then None is returned.

        The new one has ranks from 0 and an order of calls of its own, so it may be used by another thread.  It is left
        as the one it is made of: in a ``with`` block, or with the one of :func:`tutti.init`, which it keeps alive.  A
        failure in one is the end of all, on every rank; errors give the ranks of the one of :func:`tutti.init`, and
        only that can be re-formed: split again what comes out.
        """
        return make_child(self, colored(color, key))

    def subgroup(self: M, ranks: Sequence[int]) -> M:
        """Makes a communicator of ``ranks`` of this one, in that order: as :meth:`split`, but only they call it, with
        the same list."""
        return make_child(self, listed(ranks))

    @property
    def local(self: M) -> M:
        """The communicator of the ranks on this host: as :meth:`split`, made when it is first asked for, which is a
        collective over these ranks."""
        with self._lock:
            if self._local is None or self._local._handle is None:
                self._local = make_child(self, lib.tutti_local)
            return self._local

    def root_rank(self, rank: int) -> int:
        """The rank, in the communicator of :func:`tutti.init`, of rank ``rank`` of this one."""
        with self._handle_lock:
            found = lib.tutti_root_rank(self._require(), rank)
        if found < 0:
            raise IndexError(f"rank is {rank}: there are ranks 0 to {self._size - 1}")
        return found

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
        successor = type(self)(handle, None)
        heir = self._heir = self._heir_of_others() or Heir(successor)
        heir.newest = successor
        successor._heir_of_others = weakref.ref(heir)
        self._retire()
        return successor

    def links(self) -> list[dict[str, Any]]:
        """The links to the next and from the previous rank of the ring, then the others that are open, which may become
        more with any call; empty in a group of one.

        Each is a dict of ``peer`` (its rank), ``host``, ``transport`` ("shm", "uds" or "tcp"), ``sent_bytes`` and
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
        """Takes note of the operations that are done; collectives complete in their order."""
        waits = False
        for work in list(self._works):
            if not (waits and work._in_order):
                waits = (not work._poll() and work._in_order) or waits

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
            self._family.is_over = True
        return self._failure(status)

    @contextlib.contextmanager
    def _using(self) -> Iterator[Any]:
        """The handle, for calls that may overlap with others: it is not freed under them."""
        with self._handle_lock:
            handle = self._require()
            self._users += 1
        try:
            yield handle
        finally:
            with self._handle_lock:
                self._users -= 1
                self._unused.notify_all()

    def _retire(self, remedy: str = "this communicator has been re-formed: use the new one") -> None:
        """The group has been re-formed: lets what is pending fail, and closes."""
        if self._root is None:
            for child in self._family.children():
                child._retire("the communicator that it was made of has been re-formed: make it anew of the new one")
        for work in list(self._works):
            with work._lock:
                if not work._done:
                    work._look(SLICE_MS)
        with self._handle_lock:
            if self._handle is not None:
                self._end = _errors.replaced(self._handle, remedy)
        self._close()

    def _close(self, patience: float = ABORT_TIMEOUT) -> None:
        """Frees the handle; a group that is still alive is aborted.

        patience: seconds for a helper thread to come back from C.  An abort calls it back from an interrupted
        finalize(), nothing from reform().  When it does not come in time, the handle is freed after it.
        """
        children = []
        if self._root is None:
            children = self._family.children()
            self._family.is_over = True
        self._free(patience)
        for child in children:
            child._close(patience)

    def _free(self, patience: float) -> None:
        with self._lock, contextlib.ExitStack() as locks:
            with self._handle_lock:
                self._completed = self.completed
                handle, self._handle = self._handle, None
                while self._users > 0:
                    self._unused.wait()
            if handle is None:
                return
            works = list(self._works)
            for work in works:
                locks.enter_context(work._lock)
            self._free_plans(handle)
            if self._leaving.acquire(timeout=patience):
                lib.tutti_free(handle)
                self._leaving.release()
            else:
                _thread.start_new_thread(self._free_later, (handle,))
            for work in works:
                if not work._done:
                    work._complete(self._closed())
            self._abandoned.clear()
            self._local = None

    def _free_plans(self, handle: Any) -> None:
        """With all locks held.  A plan that is under way is waited for, after an abort; should that not end it, the
        plan is left to the end of the process."""
        until = time.monotonic() + ABORT_TIMEOUT
        abandoned = [keep for _, keep in self._abandoned]
        for plan in list(self._plans):
            if any(keep is plan for keep in abandoned):
                continue
            if plan._is_under_way():
                lib.tutti_abort(handle, b"closed while a plan was under way")
            while plan._is_under_way() and time.monotonic() < until:
                lib.pending_wait(plan._pending, SLICE_MS)
            if not plan._is_under_way():
                free_plan(plan._slot)
        for slot in self._dropped_plans:
            free_plan(slot)
        self._dropped_plans.clear()

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
        self._users = 0
        self._unused = threading.Condition(self._handle_lock)
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
                if not self._left and not self._family.is_over:
                    self.finalize()
            else:
                self.abort(_errors.describe(exception))
        finally:
            self._close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            if self._root is not None and not self._left and not self._family.is_over:
                self._family.adopt(self)  # it ends with the root: freeing it now would be a failure of the others
                return
            if not self._left and not self._family.is_over:
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


def _forget_all() -> None:
    for member in list(_members):
        member._forget()


os.register_at_fork(after_in_child=_forget_all)

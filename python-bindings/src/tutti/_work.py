"""Asynchronous operations: waiting for them from threads and from asyncio."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Callable, Generic, TypeVar

from . import _errors
from ._c import ffi, lib

if TYPE_CHECKING:
    from ._communicator import Communicator

T = TypeVar("T")

#: The longest time spent in C without looking for signals, so that Ctrl-C works in every wait.
SLICE_MS = 100


def milliseconds(seconds: float) -> int:
    """A time-out for C: at least 1, since 0 has a meaning of its own there."""
    if not seconds > 0:
        raise ValueError(f"timeout is {seconds}: pass a number of seconds greater than 0, or None")
    return 0x7FFFFFFF if seconds > 0x7FFFFFFF / 1000 else max(1, math.ceil(seconds * 1000))


class Work(Generic[T]):
    """An operation under way, as returned by every collective with ``async_op=True``.

    Wait for it with :meth:`wait`, from any thread, or with ``await``, on any event loop: that is woken by the
    communicator's descriptor, without a thread.  Any number may wait at the same time.  Cancelling an await
    gives up the wait and not the operation, which cannot be taken back: the other ranks take part in it.

    Its buffers must not be changed before it is done.  They stay alive, also when the ``Work`` is dropped: the
    communicator holds it until it is done.
    """

    def __init__(
        self, communicator: Communicator, name: str, keep: Any, finish: Callable[[], T], in_order: bool = True
    ) -> None:
        self._communicator = communicator
        self._pending = ffi.new("struct pending *", {"status": lib.TUTTI_PENDING})
        self._name = name
        self._keep = keep
        self._in_order = in_order  # it completes after those before it; not so messages
        self._finish: Callable[[], T] | None = finish
        self._value: Any = None
        self._error: BaseException | None = None
        self._done = False
        self._lock = threading.RLock()  # one thread at a time may wait for a request
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def wait(self, timeout: float | None = None) -> T:
        """Waits until the operation is done and returns its result, or raises its :class:`tutti.Error`.

        timeout: seconds.  When they have passed, :class:`tutti.PendingError` (a ``TimeoutError``) is raised,
        which only means "not yet": nothing has failed, and it can be waited for again.  Ctrl-C, too, ends only
        the wait.
        """
        if not self._settle(None if timeout is None else time.monotonic() + max(timeout, 0)):
            raise _errors.PendingError(f"{self._name} is not complete after {timeout} s: it goes on; wait again")
        return self._outcome()

    def done(self) -> bool:
        """Whether the operation has completed or failed; never waits."""
        return self._done or self._poll()

    @property
    def result(self) -> T:
        """The result, as :meth:`wait` returns it; :class:`tutti.PendingError` while it is not there yet."""
        return self.wait(0)

    def __await__(self) -> Generator[Any, None, T]:
        if not self.done():
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            self._communicator._watch(loop, future)
            with self._lock:
                if self._done:
                    future.set_result(None)
                else:
                    self._waiters.append((loop, future))
            yield from future.__await__()
        return self._outcome()

    def __repr__(self) -> str:
        state = "pending" if not self._done else "failed" if self._error is not None else "done"
        return f"<tutti.Work {self._name} {state}>"

    def _settle(self, deadline: float | None) -> bool:
        """Waits until it is done, and says so, or until the deadline has passed."""
        while not self._done:
            slice_ms = SLICE_MS
            if deadline is not None:
                slice_ms = min(slice_ms, math.ceil(max(deadline - time.monotonic(), 0) * 1000))
            if self._lock.acquire(timeout=slice_ms / 1000):
                try:
                    if self._done or self._look(slice_ms):
                        break
                finally:
                    self._lock.release()
            if deadline is not None and not self._done and time.monotonic() >= deadline:
                return False
        return True

    def _poll(self) -> bool:
        """Looks without waiting, also not for a thread that looks just now."""
        if self._lock.acquire(blocking=False):
            try:
                return self._done or self._look(0)
            finally:
                self._lock.release()
        return self._done

    def _look(self, timeout_ms: int) -> bool:
        """With the lock held and not done: waits in C; true when it is done."""
        pending = self._pending
        if pending.request != ffi.NULL:
            lib.pending_wait(pending, timeout_ms)
        if pending.status == lib.TUTTI_PENDING:
            return False
        self._complete(None if pending.status == lib.TUTTI_OK else self._communicator._failure(pending.status))
        return True

    def _complete(self, error: BaseException | None) -> None:
        """With the lock held: records the outcome, lets the buffers go and wakes those who wait."""
        if error is None and self._finish is not None:
            self._value = self._finish()
        self._error = error
        self._done = True
        self._keep = self._finish = None
        self._communicator._works.pop(self, None)
        waiters, self._waiters = self._waiters, []
        for loop, future in waiters:
            try:
                loop.call_soon_threadsafe(_wake, future)
            except RuntimeError:
                pass  # the loop has been closed, and nobody waits there any more

    def _outcome(self) -> T:
        if self._error is not None:
            self._communicator._family.is_over = True
            raise self._error.with_traceback(None)
        return self._value


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class LoopWatch:
    """Watches the descriptor of a communicator on event loops, exactly while somebody awaits there.

    It watches a duplicate, which stays valid until it has been removed from the loop, even when the
    communicator is closed before.
    """

    def __init__(self) -> None:
        self._watched: dict[asyncio.AbstractEventLoop, list[int]] = {}  # loop -> [descriptor, futures]

    def add(self, loop: asyncio.AbstractEventLoop, future: Any, descriptor: int, poll: Callable[[], None]) -> None:
        """Calls ``poll`` on ``loop`` whenever the descriptor is readable, until ``future`` is done."""
        entry = self._watched.get(loop)
        if entry is None:
            entry = self._watched[loop] = [os.dup(descriptor), 0]
            loop.add_reader(entry[0], poll)
        entry[1] += 1
        future.add_done_callback(lambda _: self._remove(loop))

    def _remove(self, loop: asyncio.AbstractEventLoop) -> None:
        entry = self._watched[loop]
        entry[1] -= 1
        if entry[1] == 0:
            del self._watched[loop]
            loop.remove_reader(entry[0])
            os.close(entry[0])

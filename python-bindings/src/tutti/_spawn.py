"""Groups of processes on this host, for notebooks and tests."""

from __future__ import annotations

import builtins
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pickle
import secrets
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any, Callable

from ._errors import Error, describe
from ._init import init

#: Seconds that the other ranks get to end by themselves after one has failed.
_GRACE = 10.0
_environment_lock = threading.Lock()


class SpawnError(RuntimeError):
    """A rank of :func:`spawn` failed.  ``rank`` says which, ``traceback`` is its traceback as text, and
    ``__cause__`` is its exception, where that can be sent between processes."""

    def __init__(self, message: str, rank: int = -1, traceback: str = "") -> None:
        super().__init__(message)
        self.rank = rank
        self.traceback = traceback


def spawn(fn: Callable[..., Any], n: int, *args: Any, timeout: float | None = None, **settings: Any) -> list[Any]:
    """Runs ``fn(comm, *args)`` in ``n`` new processes that form a group, and returns their results by rank.

    Each rank gets its communicator, which is closed when ``fn`` returns.  When a rank fails, the others are
    aborted, and :class:`SpawnError` is raised for the one that failed first.

    timeout: seconds after which the processes are ended and ``TimeoutError`` is raised.
    settings: as for :func:`tutti.init`, for every rank.

    The processes are fresh: they import the module of ``fn``, so a script needs the usual
    ``if __name__ == "__main__":``.  ``fn``, ``args`` and results are pickled; with ``cloudpickle`` installed, ``fn``
    may also be a lambda or a function typed into a notebook.  ``OMP_NUM_THREADS`` is 1 unless it is set.
    """
    if n < 1:
        raise ValueError(f"n is {n}: a group has at least 1 rank")
    settings.setdefault("rendezvous", f"unix:@tutti-spawn-{os.getuid()}-{os.getpid()}-{secrets.token_hex(8)}")
    job = _pickle_function(fn), args, settings
    context = multiprocessing.get_context("spawn")
    members: list[_Member] = []
    try:
        with _one_thread_each():
            for rank in range(n):
                members.append(_Member(context, rank, n, job))
        _collect(members, None if timeout is None else time.monotonic() + timeout)
    finally:
        for member in members:
            member.end()
    failures = [member.error for member in members if member.error is not None]
    if failures:
        raise _first_failure(failures)
    late = [str(member.rank) for member in members if member.process_is_late]
    if late:
        raise builtins.TimeoutError(f"after {timeout} s, ranks {', '.join(late)} of {n} had not returned from {fn!r}")
    return [member.result for member in members]


class _Member:
    """One process, as its parent sees it."""

    def __init__(self, context: Any, rank: int, size: int, job: tuple[Any, ...]) -> None:
        self.rank = rank
        self.result: Any = None
        self.error: SpawnError | None = None
        self.is_done = False
        self.process_is_late = False
        self.pipe, remote = context.Pipe(duplex=False)
        self.process = context.Process(target=_run_member, args=(remote, rank, size, *job), daemon=True)
        self.process.start()
        remote.close()

    def receive(self) -> None:
        """Takes what the process has sent; its pipe is readable."""
        self.is_done = True
        try:
            succeeded, payload = self.pipe.recv()
        except EOFError:
            self.process.join()
            self.error = SpawnError(f"rank {self.rank} ended {_how(self.process.exitcode)} without a result", self.rank)
            return
        if succeeded:
            self.result = payload
            return
        text, where, exception = payload
        self.error = SpawnError(f"{text}\n\n{where}", self.rank, where)
        self.error.__cause__ = exception

    def end(self) -> None:
        self.process.join(0 if not self.is_done else _GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


def _collect(members: list[_Member], deadline: float | None) -> None:
    """Receives until all are done, the deadline has passed, or the others had their time after a failure."""
    pending: dict[Any, _Member] = {member.pipe: member for member in members}
    failed = False
    while pending:
        wait = 0.1 if deadline is None else min(0.1, deadline - time.monotonic())
        if wait <= 0:
            break
        for pipe in multiprocessing.connection.wait(list(pending), wait):
            member = pending.pop(pipe)
            member.receive()
            if member.error is not None and not failed:
                failed = True
                grace = time.monotonic() + _GRACE
                deadline = grace if deadline is None else min(deadline, grace)
    for member in pending.values():
        member.process_is_late = True


def _first_failure(failures: list[SpawnError]) -> SpawnError:
    """The failure that caused the others: those are errors of tutti, which say that a peer is lost or gone."""
    return min(failures, key=lambda failure: isinstance(failure.__cause__, Error))


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"with exit code {exit_code}"
    try:
        return f"by signal {-exit_code} ({signal.Signals(-exit_code).name})"
    except ValueError:
        return f"by signal {-exit_code}"


def _pickle_function(fn: Callable[..., Any]) -> bytes:
    try:
        import cloudpickle
    except ImportError:
        return pickle.dumps(fn)
    return cloudpickle.dumps(fn)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Children started within share the cores, one thread each, unless the user has said otherwise.

    The libraries read the variable when they are loaded, before anything of ours runs in the child.
    """
    with _environment_lock:
        if "OMP_NUM_THREADS" in os.environ:
            yield
            return
        os.environ["OMP_NUM_THREADS"] = "1"
        try:
            yield
        finally:
            del os.environ["OMP_NUM_THREADS"]


def _run_member(pipe: Any, rank: int, size: int, fn: bytes, args: tuple[Any, ...], settings: dict[str, Any]) -> None:
    try:
        function = pickle.loads(fn)
        with init(rank=rank, size=size, **settings) as comm:
            result = function(comm, *args)
        pipe.send((True, result))
    except BaseException as exception:
        where = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(exception))
        except Exception:
            cause = None
        else:
            cause = exception
        pipe.send((False, (f"rank {rank}: {describe(exception)}", where, cause)))

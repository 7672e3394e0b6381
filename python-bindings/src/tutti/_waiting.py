"""Blocking C calls that take their time in one piece: joining and leaving a group."""

from __future__ import annotations

import _thread
import threading
from typing import Any, Callable

from ._c import ffi, lib
from ._work import SLICE_MS


def run_interruptibly(function: Callable[[], Any], give_up: Callable[[], None]) -> Any:
    """Returns ``function()``, a blocking C call that itself cannot be interrupted.

    Python runs signal handlers on the main thread, between two steps of the interpreter.  So there the call
    goes to a helper thread, and the main thread waits in slices; when a handler raises (Ctrl-C), ``give_up`` is
    called, which must let the helper end, and the exception goes on.  On any other thread no handler ever runs,
    and the call is made directly.
    """
    if threading.current_thread() is not threading.main_thread():
        return function()
    done = threading.Lock()
    done.acquire()
    result = []

    def run() -> None:
        try:
            result.append(function())
        finally:
            done.release()

    try:
        # Not threading.Thread: its start() waits in Python, where a handler may raise and leave it half done.
        _thread.start_new_thread(run, ())
        while not done.acquire(timeout=SLICE_MS / 1000):
            pass
    except BaseException:
        give_up()
        raise
    return result[0]


def join_interruptibly(join: Callable[[Any], int]) -> tuple[int, Any]:
    """Status and handle of ``join(slot)``, which calls tutti_init() or tutti_reform() to set ``slot[0]``.

    When a handler raises, the call in C ends by itself, at the latest after its time-out; then the group is left
    again and the handle freed.
    """
    slot = ffi.new("tutti_comm **")
    lock = threading.Lock()
    returned: list[int] = []
    abandoned: list[bool] = []

    def leave() -> None:
        if slot[0] != ffi.NULL:
            lib.tutti_abort(slot[0], b"interrupted while joining")
            lib.tutti_free(slot[0])

    def run() -> int:
        status = join(slot)
        with lock:
            returned.append(status)
            if abandoned:
                leave()
        return status

    def abandon() -> None:
        with lock:
            abandoned.append(True)
            if returned:
                leave()

    status = run_interruptibly(run, abandon)
    return status, slot[0]

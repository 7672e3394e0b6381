"""Blocking C calls that take their time in one piece: joining and leaving a group."""

from __future__ import annotations

import _thread
import threading
from typing import Any, Callable

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

"""Ctrl-C ends every wait, and the other ranks learn why."""

import signal

import pytest


@pytest.mark.parametrize("place", ["blocking", "barrier", "wait", "finalize", "leaving"])
def test_ctrl_c_ends_a_wait_for_an_absent_rank_and_aborts_the_group(run_ranks, place):
    script = """
import sys, numpy as np, tutti
from ranks import signal_self_inside, wait_for_peers, signal_peers

place, path = sys.argv[1:]
comm = tutti.init()
if comm.rank == 0:
    wait_for_peers(path)                  # makes no call before rank 1 has been interrupted
    with comm:
        if place in ("blocking", "wait"):
            comm.all_reduce(np.ones(100))     # the same call: another might meet what rank 1 sent before its abort
        comm.barrier()
    sys.exit(0)
try:
    with comm:
        if place == "wait":
            work = comm.all_reduce(np.ones(100), async_op=True)
            signal_self_inside("wait")
            work.wait()
        elif place == "finalize":
            signal_self_inside("run_interruptibly")
            comm.finalize()
        elif place == "leaving":
            signal_self_inside("run_interruptibly")
        else:
            signal_self_inside("_issue")
            comm.barrier() if place == "barrier" else comm.all_reduce(np.ones(100))
except KeyboardInterrupt:
    signal_peers(path)
    print("interrupted", flush=True)
    raise
"""
    other, interrupted = run_ranks(2, script, place, "interrupted", limit=30)
    assert interrupted.out == "interrupted\n" and interrupted.code == -signal.SIGINT, interrupted
    assert other.code == 1 and "AbortedError" in other.err, other
    assert "rank 1: KeyboardInterrupt" in other.err or "rank 1: interrupted in finalize" in other.err, other


def test_ctrl_c_ends_init_while_ranks_are_missing(run_ranks):
    script = """
import os, tutti
from ranks import signal_self_inside

os.environ["TUTTI_SIZE"] = "2"
signal_self_inside("run_interruptibly")
tutti.init()
"""
    (interrupted,) = run_ranks(1, script, limit=20)
    assert interrupted.code == -signal.SIGINT and "KeyboardInterrupt" in interrupted.err, interrupted


def test_nothing_writes_to_the_buffers_after_an_interrupted_call(run_ranks):
    script = """
import sys, numpy as np, tutti
from ranks import signal_self_inside, signal_peers, wait_for_peers

x = np.ones(1_000_000)
try:
    with tutti.init() as comm:
        if comm.rank == 0:
            wait_for_peers("interrupted")
        else:
            signal_self_inside("_issue")
        try:
            comm.all_reduce(x)
        except KeyboardInterrupt:
            before = x.copy()
            signal_peers("interrupted")
            try:
                comm.barrier()
            except tutti.AbortedError:
                assert comm._abandoned == [] and (x == before).all()
                print("unchanged")
            raise
except (KeyboardInterrupt, tutti.AbortedError):
    assert comm.rank == 0 or (x == before).all()
"""
    first, second = run_ranks(2, script, limit=30)
    assert (first.code, second.code) == (0, 0) and second.out == "unchanged\n", (first, second)


def test_a_signal_handler_that_does_not_raise_disturbs_nothing(run_ranks):
    script = """
import signal, tutti
from ranks import signal_self_inside, signal_peers, wait_for_peers

with tutti.init() as comm:
    if comm.rank == 0:
        wait_for_peers("handled")
    else:
        signal.signal(signal.SIGUSR1, lambda *_: signal_peers("handled"))
        signal_self_inside("_issue", signal.SIGUSR1)
    print(comm.all_reduce(1))
"""
    assert [(rank.code, rank.out) for rank in run_ranks(2, script, limit=30)] == [(0, "2\n")] * 2

"""Helpers for code that runs on the ranks of a test."""

import json
import os
import signal
import sys
import threading
import time

import numpy as np

import tutti


def signal_peers(path):
    """Tells wait_for_peers(path) that this rank has come so far, without using the group."""
    with open(path, "x"):
        pass


def wait_for_peers(path, limit=30):
    deadline = time.monotonic() + limit
    while not os.path.exists(path):
        assert time.monotonic() < deadline, f"no rank has made {path}"
        time.sleep(0.001)


def meet(comm, name="met"):
    """Returns when all ranks have come here, without using the group: then nobody can fail in what was before."""
    signal_peers(f"{name}-{comm.rank}")
    for rank in range(comm.size):
        wait_for_peers(f"{name}-{rank}")


def signal_self_inside(function, signum=signal.SIGINT):
    """Sends the signal to this process once its main thread is inside a function of this name."""
    main = threading.main_thread().ident

    def watch():
        while True:
            frame = sys._current_frames()[main]
            while frame is not None:
                if frame.f_code.co_name == function:
                    os.kill(os.getpid(), signum)
                    return
                frame = frame.f_back
            time.sleep(0.001)

    threading.Thread(target=watch, daemon=True).start()


def numbers(rank, shape, dtype, seed):
    """Numbers of this rank, small enough to be exact in every type whatever is done with three of them."""
    low = 0 if np.dtype(dtype) == np.uint8 else -3
    return np.random.default_rng([seed, rank]).integers(low, 4, shape).astype(dtype)


def reduced(arrays, op):
    """The reduction of arrays of numbers(), computed by NumPy."""
    dtype = arrays[0].dtype
    is_integer = dtype.kind in "iu"
    wide = np.stack([a.astype(np.int64 if is_integer else np.float64) for a in arrays])
    if op == "avg":
        total = wide.sum(axis=0)
        if is_integer:
            return (np.sign(total) * (np.abs(total) // len(arrays))).astype(dtype)
        narrow = np.float64 if dtype == np.float64 else np.float32
        return (total.astype(narrow) / narrow(len(arrays))).astype(dtype)
    function = {"sum": np.sum, "product": np.prod, "min": np.min, "max": np.max}[op]
    return function(wide, axis=0).astype(dtype)


def fails(function, *args, **kwargs):
    """The error of tutti with which ``function``, repeated, ends."""
    while True:
        try:
            function(*args, **kwargs)
        except tutti.Error as error:
            return error


def report(**facts):
    """Tells the test what it knows: one line of JSON on standard output."""
    print(json.dumps(facts), flush=True)


def origin(comm):
    """What a re-formed communicator says of how it came to be, for report(); ``common`` is so on every rank."""
    facts = comm.reformed._asdict()
    facts["cause"] = [type(comm.reformed.cause).__name__, comm.reformed.cause.rank, str(comm.reformed.cause)]
    previous_rank = facts.pop("previous_rank")
    return dict(size=comm.size, rank=comm.rank, common=facts, previous_rank=previous_rank)

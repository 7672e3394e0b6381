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


#: Every type that NumPy has itself.
TYPES = "float32 float64 float16 int8 uint8 int16 int32 uint32 int64 uint64 bool complex64".split()
FACTOR = 0.5  # of rank 0 in a premultiplied sum, which then is exact; that of rank r is (r + 1) times as much


def reductions(dtype):
    """Those that the type takes."""
    kind = np.dtype(dtype).kind
    names = ["sum", "product"]
    if kind != "c":
        names += ["min", "max"]
    if kind != "b":
        names += ["avg"]
    if kind in "iub":
        names += ["bit_and", "bit_or", "bit_xor", "logical_and", "logical_or"]
    else:
        names += ["premultiplied_sum"]
    return names


def keywords(op, rank):
    """What to call a reduction with."""
    return {"op": op, "factor": FACTOR * (rank + 1)} if op == "premultiplied_sum" else {"op": op}


def numbers(rank, shape, dtype, seed):
    """Numbers of this rank, small enough to be exact in every type whatever is done with five of them."""
    kind = np.dtype(dtype).kind
    random = np.random.default_rng([seed, rank])
    if kind == "b":
        drawn = random.random(shape) < 0.7
    elif kind == "c":
        drawn = random.integers(-2, 3, shape) + 1j * random.integers(-2, 3, shape)
    else:
        drawn = random.integers(0 if kind == "u" else -3, 4, shape)
    return np.asarray(drawn, dtype)


_UFUNCS = {
    "sum": np.add,
    "product": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "bit_and": np.bitwise_and,
    "bit_or": np.bitwise_or,
    "bit_xor": np.bitwise_xor,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
}


def reduced(arrays, op):
    """The reduction of arrays of numbers(), computed by NumPy, whose booleans have sums and products of their own."""
    dtype = arrays[0].dtype
    if op == "avg":
        total = reduced(arrays, "sum")
        if dtype.kind in "iu":
            wide = sum(a.astype(np.int64) for a in arrays)
            return np.asarray(np.sign(wide) * (np.abs(wide) // len(arrays)), dtype)
        if dtype.kind == "c":
            return (total.reshape(-1).view(np.float32) / np.float32(len(arrays))).view(dtype).reshape(total.shape)
        narrow = np.float64 if dtype == np.float64 else np.float32
        return np.asarray(total.astype(narrow) / narrow(len(arrays)), dtype)
    if op == "premultiplied_sum":
        wide = np.complex128 if dtype.kind == "c" else np.float64
        return np.asarray(sum(a.astype(wide) * (FACTOR * (r + 1)) for r, a in enumerate(arrays)), dtype)
    wide = {"b": np.bool_, "i": np.int64, "u": np.uint64, "c": np.complex128}.get(dtype.kind, np.float64)
    return np.asarray(_UFUNCS[op].reduce([a.astype(wide) for a in arrays], axis=0), dtype)


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

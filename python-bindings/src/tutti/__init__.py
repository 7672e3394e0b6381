"""Collective communication for distributed machine learning on CPUs.

A step on every rank, started by ``tutti run -n 4 python train.py``::

    import numpy as np, tutti

    with tutti.init() as comm:
        gradients = [np.ones((64, 10), np.float32)]
        comm.all_reduce(gradients, op="avg")  # in place
"""

from ._c import ffi as _ffi
from ._c import lib as _lib
from ._buckets import Buckets
from ._communicator import Communicator
from ._errors import (
    AbortedError,
    ArgumentError,
    ConfigError,
    Error,
    FinalizedError,
    InternalError,
    MismatchError,
    OutOfMemoryError,
    PeerLostError,
    PendingError,
    ProtocolError,
    RefusedError,
    SystemCallError,
    TimeoutError,
    UnreachableError,
    UnsupportedError,
    VersionError,
)
from ._init import init
from ._messages import ANY_SOURCE, ANY_TAG, Received, Recv, Send
from ._plan import Choice, Plan
from ._reformed import Reformed
from ._spawn import SpawnError, spawn
from ._work import Work

__version__: str = _ffi.string(_lib.tutti_version()).decode()

__all__ = [
    "ANY_SOURCE",
    "ANY_TAG",
    "AbortedError",
    "ArgumentError",
    "Buckets",
    "Choice",
    "Communicator",
    "ConfigError",
    "Error",
    "FinalizedError",
    "InternalError",
    "MismatchError",
    "OutOfMemoryError",
    "PeerLostError",
    "PendingError",
    "Plan",
    "ProtocolError",
    "Received",
    "Recv",
    "Reformed",
    "RefusedError",
    "Send",
    "SpawnError",
    "SystemCallError",
    "TimeoutError",
    "UnreachableError",
    "UnsupportedError",
    "VersionError",
    "Work",
    "init",
    "spawn",
]

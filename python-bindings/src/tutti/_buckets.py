"""Gradients on their way while the backward pass goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from ._buffers import type_of
from ._calls import reduction_code
from ._work import Work

if TYPE_CHECKING:
    from ._communicator import Communicator

_MIB = 1 << 20


class Buckets:
    """Averages the gradients of a step over the ranks, a bucket at a time, while the others are still computed.

    For NumPy and JAX, and whatever else ``np.asarray`` reads.  Made once, used in every step::

        buckets = tutti.Buckets(comm, params)
        for x, y in batches:
            for i, gradient in backward(params, x, y):  # in about the reverse order of params
                buckets.add(i, gradient)                # starts an all_reduce when a bucket is full
            for p, g in zip(params, buckets.wait()):
                p -= 0.1 * g

    params: a list of arrays, or a dict of arrays by name, of which only shape and dtype count; the same on every rank.
    A pytree goes in as ``jax.tree.leaves(params)``.
    bucket_bytes: of one all_reduce.  Buckets are filled in the reverse order of ``params``, since a backward pass ends
    with the first layer; each holds one dtype, and an array that is larger has one of its own.
    op: as in :meth:`Communicator.all_reduce`.
    like: a function from a NumPy array to the arrays of the results, such as ``jnp.asarray``; it gets a copy.  Without
    it, results are views of the buckets, valid until the next :meth:`add`.
    timeout: the deadline, in seconds, of each all_reduce.

    Memory: the bytes of all gradients, once.
    """

    def __init__(
        self, comm: Communicator, params: Any, bucket_bytes: int = 25 * _MIB, op: str = "avg",
        like: Callable[[np.ndarray], Any] | None = None, timeout: float | None = None,
    ) -> None:  # fmt: skip
        if bucket_bytes < 1:
            raise ValueError(f"bucket_bytes is {bucket_bytes}: pass at least 1; 25 MiB is usual")
        reduction_code(op, None, None)
        self._comm = comm
        self._keywords = {"op": op, "timeout": timeout}
        self._like = like
        self._is_dict = isinstance(params, Mapping)
        named = list(params.items()) if self._is_dict else list(enumerate(params))
        self._slots: dict[Any, _Slot] = {}
        self._buckets = _fill(named, bucket_bytes, self._slots)
        self._keys = [key for key, _ in named]
        self._missing: set[Any] = set()
        self._started = 0
        self._lock = threading.RLock()  # frameworks call back from threads of their own
        self._begin_step()

    def add(self, key: Any, gradient: Any) -> None:
        """Takes over the gradient of parameter ``key``: its index, or its name.  Any thread.

        It is copied, so it may be used again at once.  None counts as zeros, for a parameter that this step does not
        use: every parameter needs a gradient in every step.  Buckets are reduced in the same order on every rank,
        whatever the order in which gradients are added.
        """
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                raise KeyError(f"{key!r} is none of the parameters that these buckets were made for")
            if key not in self._missing:
                raise ValueError(
                    f"the gradient of {key!r} has been added before in this step: add the sum of both, once, and call "
                    f"wait() at the end of each step"
                )
            slot.put(key, gradient)
            self._missing.discard(key)
            slot.bucket.missing -= 1
            self._start_full()

    def wait(self) -> Any:
        """Waits for the sums of this step and returns them: a list in the order of ``params``, or a dict.

        Raises ``ValueError`` when gradients are missing; they can still be added.
        """
        with self._lock:
            if self._missing:
                missing = [key for key in self._keys if key in self._missing]
                names = ", ".join(repr(key) for key in missing[:10]) + (", ..." if len(missing) > 10 else "")
                raise ValueError(
                    f"{len(missing)} of {len(self._keys)} gradients were not added in this step, those of {names}: a "
                    f"parameter that is not used needs add(key, None), since the other ranks wait for its bucket"
                )
            for bucket in self._buckets:
                if bucket.work is not None:
                    bucket.work.wait()
                    bucket.work = None
            self._begin_step()
            views = ((key, self._slots[key].view) for key in self._keys)
            results = {key: view if self._like is None else self._like(view.copy()) for key, view in views}
            return results if self._is_dict else list(results.values())

    def all_reduce(self, gradients: Any) -> Any:
        """Adds all ``gradients``, like ``params`` a list or a dict, and waits: for those that come all at once.

        Even then something overlaps: one bucket is filled while the others are on their way and, with JAX, the first
        arrays are still computed.
        """
        named = dict(gradients) if isinstance(gradients, Mapping) else dict(enumerate(gradients))
        unknown = named.keys() ^ self._slots.keys()
        if unknown:
            raise ValueError(f"gradients differ from the parameters in {sorted(map(repr, unknown))}: pass one for each")
        for key in reversed(self._keys):
            self.add(key, named[key])
        return self.wait()

    def __len__(self) -> int:
        """The number of buckets."""
        return len(self._buckets)

    def __repr__(self) -> str:
        size = sum(bucket.buffer.nbytes for bucket in self._buckets)
        return f"<tutti.Buckets {len(self)} of {size} bytes for {len(self._keys)} parameters>"

    def _begin_step(self) -> None:
        self._missing = set(self._keys)
        self._started = 0
        for bucket in self._buckets:
            bucket.missing = bucket.arrays

    def _start_full(self) -> None:
        """Starts what is full, in the order of the buckets: all ranks must issue in the same order."""
        while self._started < len(self._buckets) and self._buckets[self._started].missing == 0:
            bucket = self._buckets[self._started]
            bucket.work = self._comm.all_reduce(bucket.buffer, async_op=True, **self._keywords)
            self._started += 1


class _Bucket:
    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.elements = 0
        self.arrays = 0
        self.missing = 0
        self.buffer = np.empty(0, dtype)
        self.work: Work[Any] | None = None


class _Slot:
    """The place of one gradient."""

    def __init__(self, bucket: _Bucket, shape: tuple[int, ...], count: int) -> None:
        self.bucket = bucket
        self.shape = shape
        self.span = slice(bucket.elements, bucket.elements + count)
        bucket.elements += count
        bucket.arrays += 1

    @property
    def view(self) -> np.ndarray:
        return self.bucket.buffer[self.span].reshape(self.shape)

    def put(self, key: Any, gradient: Any) -> None:
        if gradient is None:
            self.bucket.buffer[self.span] = 0
            return
        array = np.asarray(gradient)
        if array.shape != self.shape:
            raise ValueError(f"the gradient of {key!r} has shape {array.shape}, but its parameter has {self.shape}")
        if array.dtype != self.bucket.dtype:
            raise TypeError(
                f"the gradient of {key!r} has dtype {array.dtype}, but its parameter has {self.bucket.dtype}: pass "
                f"gradient.astype({self.bucket.dtype.name!r})"
            )
        self.view[...] = array


def _fill(named: Iterable[tuple[Any, Any]], bucket_bytes: int, slots: dict[Any, _Slot]) -> list[_Bucket]:
    """Makes the slots; returns the buckets in the order in which a backward pass fills them."""
    complete: list[_Bucket] = []
    filling: dict[np.dtype, _Bucket] = {}
    for key, x in reversed(list(named)):
        if not hasattr(x, "shape") or not hasattr(x, "dtype"):
            x = np.asarray(x)
        shape, dtype = tuple(x.shape), np.dtype(x.dtype)
        type_of(dtype, f"params[{key!r}]")
        count = int(np.prod(shape, dtype=np.int64))
        bucket = filling.get(dtype)
        if bucket is not None and (bucket.elements + count) * dtype.itemsize > bucket_bytes:
            complete.append(filling.pop(dtype))
            bucket = None
        if bucket is None:
            bucket = filling[dtype] = _Bucket(dtype)
        slots[key] = _Slot(bucket, shape, count)
    complete.extend(filling.values())
    for bucket in complete:
        bucket.buffer = np.empty(bucket.elements, bucket.dtype)
    return complete

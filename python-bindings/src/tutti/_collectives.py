"""Collectives in which every rank has a part of the same length."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, overload

from ._buffers import is_scalar, require_same, view
from ._c import lib
from ._calls import NULL, Calls, call_tail, integer, reduction_code, require_array
from ._work import Work

T = TypeVar("T")

_ALL_REDUCE = lib.TUTTI_ALL_REDUCE


class Collectives(Calls):
    """:class:`tutti.Communicator` says what holds for all of them."""

    @overload
    def all_reduce(
        self, x: T, op: str = ..., out: Any = ..., async_op: Literal[False] = ..., timeout: float | None = ...,
        *, factor: float | None = ..., algorithm: str | None = ...,
    ) -> T: ...  # fmt: skip

    @overload
    def all_reduce(
        self, x: T, op: str = ..., out: Any = ..., *, async_op: Literal[True], timeout: float | None = ...,
        factor: float | None = ..., algorithm: str | None = ...,
    ) -> Work[T]: ...  # fmt: skip

    def all_reduce(self, x, op="sum", out=None, async_op=False, timeout=None, *, factor=None, algorithm=None):
        """Combines the ``x`` of all ranks, element by element; every rank gets the same bits.

        In place: ``x`` receives the result and is returned.  With ``out`` (of the shape and type of ``x``; a
        list for a list) the result goes there, ``x`` is only read, and ``out`` is returned.  A scalar comes back
        as a scalar of its kind.

        op, with the types that it takes:

        - "sum", "product": all.  Integers wrap around; of booleans they are "or" and "and".
        - "min", "max": all but complex; NaN where any operand is NaN.
        - "avg": all but bool: the sum divided by the number of ranks.  That of integers is truncated towards zero:
          pass ``float(n)`` for a mean.
        - "bit_and", "bit_or", "bit_xor", "logical_and", "logical_or" (1 or 0): integers and bool.
        - "premultiplied_sum": floats and complex; the ``x`` of each rank is multiplied by its own ``factor`` first.
        """
        reduction = reduction_code(op, factor, x)
        tail = call_tail(timeout, algorithm, factor)

        def emit(a: Any, b: Any, name: str) -> tuple[Any, Any]:
            if b is None or b is a:
                pointer, count, code, _ = view(a, True, name)
                return (_ALL_REDUCE, pointer, pointer, count, code, reduction, 0, *tail), a
            send = view(a, False, name)
            recv = view(b, True, "out")
            require_same(send, send[3], recv)
            return (_ALL_REDUCE, send[0], recv[0], send[1], send[2], reduction, 0, *tail), b

        return self._collective("all_reduce", emit, x, out, async_op)

    def reduce(
        self, x: Any, op: str = "sum", root: int = 0, out: Any = None, async_op: bool = False,
        timeout: float | None = None, *, factor: float | None = None, algorithm: str | None = None,
    ) -> Any:  # fmt: skip
        """As :meth:`all_reduce`, on rank ``root`` only: the others, whose ``x`` is only read, get None and ignore
        ``out``."""
        reduction = reduction_code(op, factor, x)
        root = integer(root, "root")
        tail = call_tail(timeout, algorithm, factor)
        receives = self._rank == root

        def emit(a: Any, b: Any, name: str) -> tuple[Any, Any]:
            send = view(a, receives and (b is None or b is a), name)
            recv = send
            if not receives:
                return (lib.TUTTI_REDUCE, send[0], NULL, send[1], send[2], reduction, root, *tail), None
            if b is not None and b is not a:
                recv = view(b, True, "out")
                require_same(send, send[3], recv)
            return (lib.TUTTI_REDUCE, send[0], recv[0], send[1], send[2], reduction, root, *tail), a if b is None else b

        return self._collective("reduce", emit, x, out if receives else None, async_op, has_result=receives)

    @overload
    def broadcast(
        self, x: T, root: int = ..., async_op: Literal[False] = ..., timeout: float | None = ...,
        *, algorithm: str | None = ...,
    ) -> T: ...  # fmt: skip

    @overload
    def broadcast(
        self, x: T, root: int = ..., *, async_op: Literal[True], timeout: float | None = ...,
        algorithm: str | None = ...,
    ) -> Work[T]: ...  # fmt: skip

    def broadcast(self, x, root=0, async_op=False, timeout=None, *, algorithm=None):
        """Copies the ``x`` of rank ``root`` into the ``x`` of the others, and returns it.

        ``x`` must have the same type and number of elements everywhere; it may be read-only on the root.  Of a
        scalar, that of the root is returned.
        """
        root = integer(root, "root")
        tail = call_tail(timeout, algorithm)

        def emit(a: Any, b: Any, name: str) -> tuple[Any, Any]:
            pointer, count, code, _ = view(a, self._rank != root, name)
            return (lib.TUTTI_BROADCAST, pointer, pointer, count, code, 0, root, *tail), a

        return self._collective("broadcast", emit, x, None, async_op)

    def all_gather(
        self, x: Any, out: Any = None, async_op: bool = False, timeout: float | None = None,
        *, algorithm: str | None = None,
    ) -> Any:  # fmt: skip
        """Collects the ``x`` of all ranks, which must have the same shape and type, on every rank.

        Returns an array of shape ``(size, *x.shape)``, whose element ``[r]`` is the ``x`` of rank ``r``: a new one
        (a tensor for a tensor), or ``out``.  ``x`` may be ``out[rank]``, which then is not copied.  From a scalar
        comes an array of shape ``(size,)``, from a list a list.
        """
        tail = call_tail(timeout, algorithm)

        def emit(a: Any, b: Any, name: str) -> tuple[Any, Any]:
            send = view(a, False, name)
            recv, b = self._received_in(a, b, send, (self._size, *send[3]))
            return (lib.TUTTI_ALL_GATHER, send[0], recv[0], send[1], send[2], 0, 0, *tail), b

        return self._collective("all_gather", emit, x, out, async_op, in_place=False)

    def gather(
        self, x: Any, root: int = 0, out: Any = None, async_op: bool = False, timeout: float | None = None,
        *, algorithm: str | None = None,
    ) -> Any:  # fmt: skip
        """As :meth:`all_gather`, on rank ``root`` only: None is returned on the others, which ignore ``out``."""
        root = integer(root, "root")
        tail = call_tail(timeout, algorithm)
        receives = self._rank == root

        def emit(a: Any, b: Any, name: str) -> tuple[Any, Any]:
            send = view(a, False, name)
            if not receives:
                return (lib.TUTTI_GATHER, send[0], NULL, send[1], send[2], 0, root, *tail), None
            recv, b = self._received_in(a, b, send, (self._size, *send[3]))
            return (lib.TUTTI_GATHER, send[0], recv[0], send[1], send[2], 0, root, *tail), b

        out = out if receives else None
        return self._collective("gather", emit, x, out, async_op, in_place=False, has_result=receives)

    def scatter(
        self, x: Any = None, root: int = 0, out: Any = None, async_op: bool = False, timeout: float | None = None,
        *, algorithm: str | None = None,
    ) -> Any:  # fmt: skip
        """Gives each rank its part of the ``x`` of rank ``root``: the opposite of :meth:`gather`.

        On the root ``x`` has the shape ``(size, *shape)``, and rank ``r`` gets ``x[r]``.  The others must pass ``out``
        (of ``shape``, and the type of ``x``), since they do not know what comes, and ignore ``x``.  On the root ``out``
        is a new array when it is not given, and may be ``x[root]``, which then is not copied.  Lists for lists.
        Returns ``out``.
        """
        root = integer(root, "root")
        tail = call_tail(timeout, algorithm)

        def send_parts(a: Any, b: Any, name: str) -> tuple[Any, Any]:
            send = view(a, False, name)
            if not send[3] or send[3][0] != self._size:
                raise ValueError(
                    f"{name} has shape {send[3]}, but its first axis must have the length {self._size}, that of the "
                    f"ranks: {name}[r] goes to rank r"
                )
            recv, b = self._received_in(a, b, send, send[3][1:])
            return (lib.TUTTI_SCATTER, send[0], recv[0], recv[1], send[2], 0, root, *tail), b

        def receive_part(a: Any, b: Any, name: str) -> tuple[Any, Any]:
            pointer, count, code, _ = view(a, True, name)
            return (lib.TUTTI_SCATTER, NULL, pointer, count, code, 0, root, *tail), a

        if self._rank != root:
            if out is None or is_scalar(out):
                raise TypeError(f"rank {self._rank} is not the root, {root}: pass out=, the array to receive into")
            return self._collective("scatter", receive_part, out, None, async_op, called="out")
        if x is None or is_scalar(x):
            raise TypeError(f"rank {root} is the root: pass x, an array of shape ({self._size}, ...)")
        return self._collective("scatter", send_parts, x, out, async_op)

    def reduce_scatter(
        self, x: Any, op: str = "sum", out: Any = None, async_op: bool = False, timeout: float | None = None,
        *, factor: float | None = None, algorithm: str | None = None,
    ) -> Any:  # fmt: skip
        """Combines the ``x`` of all ranks, element by element, and leaves each rank its part of the result.

        The first axis of ``x`` must be a multiple of ``size``; it is cut into ``size`` equal parts, and rank ``r``
        gets part ``r``: an array of shape ``(x.shape[0] // size, *x.shape[1:])``, new or ``out``.  ``x`` is not
        changed, but ``out`` may be this rank's own part of it.  op: as in :meth:`all_reduce`.
        """
        reduction = reduction_code(op, factor, x)
        tail = call_tail(timeout, algorithm, factor)

        def emit(a: Any, b: Any, name: str) -> tuple[Any, Any]:
            send = view(a, False, name)
            recv, b = self._received_in(a, b, send, self._part(send[3], name))
            return (lib.TUTTI_REDUCE_SCATTER, send[0], recv[0], recv[1], send[2], reduction, 0, *tail), b

        if is_scalar(x):
            require_array(x, "x", f"pass an array whose first axis is a multiple of {self._size}")
        return self._collective("reduce_scatter", emit, x, out, async_op)

    def all_to_all(
        self, x: Any, out: Any = None, async_op: bool = False, timeout: float | None = None,
        *, algorithm: str | None = None,
    ) -> Any:  # fmt: skip
        """Exchanges parts: part ``r`` of the result is this rank's part of the ``x`` of rank ``r``.

        The first axis of ``x`` must be a multiple of ``size``; it is cut into ``size`` equal parts, and part ``r`` goes
        to rank ``r``.  The result has the shape of ``x`` and is new, or ``out``, which may be ``x`` itself.
        """
        tail = call_tail(timeout, algorithm)

        def emit(a: Any, b: Any, name: str) -> tuple[Any, Any]:
            send = view(a, b is a, name)
            self._part(send[3], name)
            recv, b = self._received_in(a, b, send, send[3])
            return (lib.TUTTI_ALL_TO_ALL, send[0], recv[0], send[1] // self._size, send[2], 0, 0, *tail), b

        if is_scalar(x):
            require_array(x, "x", f"pass an array whose first axis is a multiple of {self._size}")
        return self._collective("all_to_all", emit, x, out, async_op)

    @overload
    def barrier(
        self, async_op: Literal[False] = ..., timeout: float | None = ..., *, algorithm: str | None = ...
    ) -> None: ...

    @overload
    def barrier(
        self, async_op: Literal[True], timeout: float | None = ..., *, algorithm: str | None = ...
    ) -> Work[None]: ...

    def barrier(self, async_op=False, timeout=None, *, algorithm=None):
        """Returns when every rank has come here."""
        calls = [(lib.TUTTI_BARRIER, NULL, NULL, 0, 0, 0, 0, *call_tail(timeout, algorithm))]
        return self._issue("barrier", calls, None, None, async_op)

    def _part(self, shape: tuple[int, ...], name: str) -> tuple[int, ...]:
        """The shape of one of ``size`` equal parts."""
        if not shape or shape[0] % self._size != 0:
            raise ValueError(
                f"{name} has shape {shape}, whose first axis cannot be cut into {self._size} equal parts: pad it to a "
                f"multiple of {self._size}"
            )
        return (shape[0] // self._size, *shape[1:])

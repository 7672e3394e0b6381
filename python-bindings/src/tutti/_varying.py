"""Collectives in which the parts of the ranks have different lengths."""

from __future__ import annotations

from typing import Any

from ._buffers import View, require_same, view
from ._c import lib
from ._calls import NULL, Calls, Parts, algorithm_name, call_tail, integer, reduction_code, require_array, row_elements

_SINGLE = "pass an array with at least one axis, and make one call for each array"


class VaryingCollectives(Calls):
    """The v-variants: their ``x`` and ``out`` are arrays (no lists, no scalars), cut along the first axis.

    A count is a number of *rows*, elements of the first axis; all parts have the same ``shape[1:]``.  Parts lie one
    after the other, or where ``offsets`` (in rows, too) say.
    """

    def all_gather_v(
        self, x: Any, counts: Any, out: Any = None, offsets: Any = None, async_op: bool = False,
        timeout: float | None = None, *, algorithm: str | None = None,
    ) -> Any:  # fmt: skip
        """As :meth:`all_gather`, of parts of different lengths, which come one after the other along the first axis.

        counts: the rows of every rank, the same on every rank: ``comm.all_gather(len(x))``.
        Returns an array of shape ``(sum(counts), *x.shape[1:])``, new or ``out``.  With ``offsets``, part ``r`` goes to
        the rows from ``offsets[r]`` of ``out``, which must then be given.  ``x`` may be its own place in ``out``.
        """
        parts = Parts(counts, offsets, self._size, "counts", "comm.all_gather(len(x))")
        send, row = self._rows(x, "x")
        self._require_own(parts, self._rank, send, "x")
        recv, out = self._rows_out(x, send, parts, out)
        call = _varying(lib.TUTTI_ALL_GATHER_V, send, recv, timeout, algorithm)
        call["recv_counts"], call["recv_offsets"] = parts.in_elements(row)
        return self._issue("all_gather_v", [call], out, None, async_op)

    def gather_v(
        self, x: Any, counts: Any = None, root: int = 0, out: Any = None, offsets: Any = None, async_op: bool = False,
        timeout: float | None = None, *, algorithm: str | None = None,
    ) -> Any:  # fmt: skip
        """As :meth:`all_gather_v`, on rank ``root`` only: the others need only ``x``, and get None."""
        root = integer(root, "root")
        send, row = self._rows(x, "x")
        if self._rank != root:
            call = _varying(lib.TUTTI_GATHER_V, send, None, timeout, algorithm, root)
            return self._issue("gather_v", [call], None, None, async_op)
        parts = Parts(counts, offsets, self._size, "counts", "comm.gather(len(x))")
        self._require_own(parts, root, send, "x")
        recv, out = self._rows_out(x, send, parts, out)
        call = _varying(lib.TUTTI_GATHER_V, send, recv, timeout, algorithm, root)
        call["recv_counts"], call["recv_offsets"] = parts.in_elements(row)
        return self._issue("gather_v", [call], out, None, async_op)

    def scatter_v(
        self, x: Any = None, counts: Any = None, root: int = 0, out: Any = None, offsets: Any = None,
        async_op: bool = False, timeout: float | None = None, *, algorithm: str | None = None,
    ) -> Any:  # fmt: skip
        """Cuts the ``x`` of rank ``root`` into parts of ``counts`` rows, and gives rank ``r`` part ``r``.

        The others need only ``out``, with as many rows as they get.  On the root it is new when it is not given, and
        may be its own part of ``x``.  Returns ``out``.
        """
        root = integer(root, "root")
        if self._rank != root:
            if out is None:
                raise TypeError(f"rank {self._rank} is not the root, {root}: pass out=, the array to receive into")
            require_array(out, "out", _SINGLE)
            call = _varying(lib.TUTTI_SCATTER_V, None, view(out, True, "out"), timeout, algorithm, root)
            return self._issue("scatter_v", [call], out, None, async_op)
        if x is None:
            raise TypeError(f"rank {root} is the root: pass x, the array to be cut, and counts")
        parts = Parts(counts, offsets, self._size, "counts", "counts=[rows of rank 0, ...]")
        send, row = self._rows(x, "x")
        parts.require_in(send[3], "x")
        recv, out = self._received_in(x, out, send, (parts.counts[root], *send[3][1:]))
        call = _varying(lib.TUTTI_SCATTER_V, send, recv, timeout, algorithm, root)
        call["send_counts"], call["send_offsets"] = parts.in_elements(row)
        call["count"] = recv[1]
        return self._issue("scatter_v", [call], out, None, async_op)

    def reduce_scatter_v(
        self, x: Any, counts: Any, op: str = "sum", out: Any = None, async_op: bool = False,
        timeout: float | None = None, *, factor: float | None = None, algorithm: str | None = None,
    ) -> Any:  # fmt: skip
        """As :meth:`reduce_scatter`, but rank ``r`` gets ``counts[r]`` rows; the same ``counts`` on every rank."""
        reduction = reduction_code(op, factor, None)
        parts = Parts(counts, None, self._size, "counts", "counts=[rows of rank 0, ...]")
        send, row = self._rows(x, "x")
        parts.require_in(send[3], "x")
        recv, out = self._received_in(x, out, send, (parts.counts[self._rank], *send[3][1:]))
        call = _varying(lib.TUTTI_REDUCE_SCATTER_V, send, recv, timeout, algorithm)
        call.update(reduction=reduction, factor=factor or 0.0)
        call["send_counts"], _ = parts.in_elements(row)
        return self._issue("reduce_scatter_v", [call], out, None, async_op)

    def all_to_all_v(
        self, x: Any, send_counts: Any, recv_counts: Any, out: Any = None, send_offsets: Any = None,
        recv_offsets: Any = None, async_op: bool = False, timeout: float | None = None,
        *, algorithm: str | None = None,
    ) -> Any:  # fmt: skip
        """As :meth:`all_to_all`: ``send_counts[r]`` rows of ``x`` go to rank ``r``, ``recv_counts[r]`` come from it.

        ``comm.all_to_all(np.array(send_counts))`` tells the ``recv_counts``.  Returns an array of shape
        ``(sum(recv_counts), *x.shape[1:])``, new or ``out``, which must not overlap ``x``.
        """
        sent = Parts(send_counts, send_offsets, self._size, "send_counts", "send_counts=[rows for rank 0, ...]")
        received = Parts(
            recv_counts, recv_offsets, self._size, "recv_counts", "comm.all_to_all(np.array(send_counts))"
        )
        send, row = self._rows(x, "x")
        sent.require_in(send[3], "x")
        recv, out = self._rows_out(x, send, received, out)
        call = _varying(lib.TUTTI_ALL_TO_ALL_V, send, recv, timeout, algorithm)
        call["send_counts"], call["send_offsets"] = sent.in_elements(row)
        call["recv_counts"], call["recv_offsets"] = received.in_elements(row)
        return self._issue("all_to_all_v", [call], out, None, async_op)

    def _rows(self, x: Any, name: str) -> tuple[View, int]:
        """``x`` as memory, and the elements of one of its rows."""
        require_array(x, name, _SINGLE)
        seen = view(x, False, name)
        if not seen[3]:
            raise ValueError(f"{name} has shape (), which has no rows: pass an array with at least one axis")
        return seen, row_elements(seen[3])

    def _require_own(self, parts: Parts, rank: int, send: View, name: str) -> None:
        if parts.counts[rank] != send[3][0]:
            raise ValueError(
                f"counts[{rank}] is {parts.counts[rank]}, but the {name} of this rank has {send[3][0]} rows (shape "
                f"{send[3]}): pass counts=comm.all_gather(len({name}))"
            )

    def _rows_out(self, x: Any, send: View, parts: Parts, out: Any) -> tuple[View, Any]:
        """Where received parts go: ``out``, or a new array when they follow one another."""
        if parts.offsets is None:
            return self._received_in(x, out, send, (parts.rows, *send[3][1:]))
        if out is None:
            raise TypeError("offsets say where the parts lie in out: pass out=")
        recv = view(out, True, "out")
        parts.require_in(recv[3], "out")
        require_same(send, (recv[3][0], *send[3][1:]), recv)
        return recv, out


def _varying(
    op: int, send: View | None, recv: View | None, timeout: float | None, algorithm: str | None, root: int = 0
) -> dict[str, Any]:
    """A call whose count is what this rank sends or, where it sends nothing, receives."""
    seen = send or recv
    return {
        "op": op,
        "send": send[0] if send else NULL,
        "recv": recv[0] if recv else NULL,
        "count": seen[1],
        "type": seen[2],
        "root": root,
        "timeout_ms": call_tail(timeout)[0],
        "algorithm": algorithm_name(algorithm),
    }

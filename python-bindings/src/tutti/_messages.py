"""Messages from rank to rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

from ._buffers import is_scalar, scalar_array, view
from ._c import ffi, lib
from ._calls import Calls, call_tail, integer

#: Of a receive: from whichever rank sends.
ANY_SOURCE: int = lib.TUTTI_ANY_SOURCE
#: Of a receive: whatever its tag.
ANY_TAG: int = lib.TUTTI_ANY_TAG

_RECEIVED = ffi.typeof("struct tutti_received *")


class Send(NamedTuple):
    """A message to be sent by :meth:`Communicator.batch`."""

    x: Any
    dest: int
    tag: int = 0


class Recv(NamedTuple):
    """A message to be received by :meth:`Communicator.batch`."""

    x: Any
    source: int = ANY_SOURCE
    tag: int = ANY_TAG


class Received(NamedTuple):
    """What a receive has received."""

    #: The rank that sent it.
    source: int
    tag: int
    #: Elements: at most as many as there is room for.
    count: int


class Messages(Calls):
    """Messages have links of their own: they neither wait for collectives nor hold them up."""

    def send(self, x: Any, dest: int, tag: int = 0, async_op: bool = False, timeout: float | None = None) -> Any:
        """Sends ``x``, an array or a scalar, to rank ``dest``, which may be this one.

        Returns (the :class:`Work` is done) when ``x`` may be used again, which does not mean that it has been received.
        Messages are matched by source and tag (from 0), those of two ranks in the order of sending.
        """
        return self._issue_messages("send", *self._messages([Send(x, dest, tag)], timeout, single=True), async_op)

    def recv(
        self, x: Any, source: int = ANY_SOURCE, tag: int = ANY_TAG, async_op: bool = False,
        timeout: float | None = None,
    ) -> Any:  # fmt: skip
        """Receives a message into the array ``x`` and returns a :class:`tutti.Received`: its source, tag and count.

        ``x`` must have the type of the message, and at least its length: the first ``count`` elements are written.
        """
        return self._issue_messages("recv", *self._messages([Recv(x, source, tag)], timeout, single=True), async_op)

    def batch(self, messages: Sequence[Send | Recv], async_op: bool = False, timeout: float | None = None) -> Any:
        """Sends and receives all ``messages`` at once, in any order: :class:`tutti.Send` and :class:`tutti.Recv`.

        Returns, when all are done, a list with a :class:`tutti.Received` for each Recv and None for each Send.  Ranks
        that send to one another would otherwise have to take care who sends first::

            right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
            comm.batch([tutti.Send(x, right), tutti.Recv(y, left)])
        """
        calls, finish = self._messages(list(messages), timeout)
        return self._issue_messages("batch", calls, finish, async_op)

    def _messages(
        self, messages: list[Any], timeout: float | None, single: bool = False
    ) -> tuple[list[Any], Callable[[], Any]]:
        """The calls, and what returns the results when they are done."""
        limit = call_tail(timeout)[0]
        calls, slots = [], []
        for i, message in enumerate(messages):
            name = "x" if single else f"messages[{i}].x"
            if not isinstance(message, (Send, Recv)):
                raise TypeError(
                    f"messages[{i}] is a {type(message).__name__}: pass tutti.Send(x, dest, tag) or "
                    f"tutti.Recv(x, source, tag)"
                )
            slots.append(ffi.new(_RECEIVED) if isinstance(message, Recv) else None)
            calls.append(_call(message, name, slots[-1], limit))

        def finish() -> Any:
            results = [None if s is None else Received(s.source, s.tag, s.count) for s in slots]
            return results[0] if single else results

        return calls, finish

    def _issue_messages(self, name: str, calls: list[Any], finish: Callable[[], Any], async_op: bool) -> Any:
        """As ``_issue``, for messages."""
        raise NotImplementedError


def _call(message: Any, name: str, slot: Any, limit: int) -> dict[str, Any]:
    x, peer, tag = message
    sends = isinstance(message, Send)
    if isinstance(x, (list, tuple)):
        raise TypeError(f"{name} is a {type(x).__name__}: pass an array; batch() takes several messages")
    if sends and is_scalar(x):
        x = scalar_array(x)
    pointer, count, code, _ = view(x, not sends, name)
    call = {
        "op": lib.TUTTI_SEND if sends else lib.TUTTI_RECV,
        "send" if sends else "recv": pointer,
        "count": count,
        "type": code,
        "timeout_ms": limit,
        "peer": integer(peer, "dest" if sends else "source"),
        "tag": integer(tag, "tag"),
    }
    if not sends:
        call["received"] = slot
    return call

"""Operations that are made again and again, and what would be done for one."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Callable, Generic, NamedTuple, TypeVar

from . import _errors
from ._buffers import is_scalar
from ._c import ffi, lib
from ._collectives import Collectives
from ._varying import VaryingCollectives
from ._work import Work

if TYPE_CHECKING:
    from ._communicator import Communicator

T = TypeVar("T")

_CALLS = ffi.typeof("struct tutti_call[]")


class Choice(NamedTuple):
    """What :meth:`tutti.Communicator.choice` tells of a call."""

    #: Of the algorithm, for example "ring".
    algorithm: str
    #: Over how many channels it is striped.
    channels: int
    #: How long it takes, in microseconds, by the cost model.
    predicted_us: float


class Plan(Generic[T]):
    """A collective on the same arrays again and again: all that can be done once has been done.

    Made by the ``plan_`` methods of a communicator, as ``reduce = comm.plan_all_reduce(x)``.  ``reduce()`` makes the
    call, on what the arrays hold then, and returns its result; ``reduce(async_op=True)`` returns a :class:`Work`, to be
    waited for before the plan is started again.  The other ranks may make the same call with or without a plan.
    It keeps its arrays alive, and ends with its communicator.
    """

    def __init__(self, communicator: Communicator, name: str, calls: list[Any], result: T) -> None:
        self._communicator = communicator
        self._name = name
        self._calls = calls  # whose pointers keep the buffers alive
        self._result = result
        self._slot = ffi.new("tutti_plan **")
        self._pending: Any = None  # of the latest start
        with communicator._lock:
            handle = communicator._require()
            if calls:  # of an empty list nothing is to be done
                status = lib.tutti_plan_new(handle, ffi.new(_CALLS, calls), len(calls), self._slot)
                if status < 0:
                    raise communicator._raised(status)
            communicator._plans.add(self)
            while communicator._dropped_plans:
                free_plan(communicator._dropped_plans.pop())

    def __call__(self, async_op: bool = False) -> Any:
        communicator = self._communicator
        if not self._calls:
            communicator._require()
            return communicator._issue(self._name, [], self._result, None, async_op)
        if self._is_under_way():
            raise _errors.ArgumentError(
                f"the plan of {self._name} is under way: wait for its Work before it is started again",
                code=lib.TUTTI_ERR_ARGUMENT,
            )
        return communicator._start_plan(self) if async_op else communicator._run_plan(self)

    def _is_under_way(self) -> bool:
        return self._pending is not None and self._pending.request != ffi.NULL

    def __del__(self) -> None:
        if getattr(self, "_slot", None) is None or self._slot[0] == ffi.NULL:
            return
        # The collector may come here on any thread, which must not wait for a call that another is in.
        communicator = self._communicator
        if communicator._lock.acquire(blocking=False):
            try:
                if communicator._handle is not None:  # a plan must not outlive it
                    free_plan(self._slot)
            finally:
                communicator._lock.release()
        else:
            communicator._dropped_plans.append(self._slot)

    def __repr__(self) -> str:
        return f"<tutti.Plan of {self._name}{', under way' if self._is_under_way() else ''}>"


def free_plan(slot: Any) -> None:
    """With the lock of its communicator held, and while the plan is not under way."""
    plan, slot[0] = slot[0], ffi.NULL
    lib.tutti_plan_free(plan)


class Planner(Collectives, VaryingCollectives):
    """Takes the arguments of collectives, and makes plans of them."""

    def __init__(self, communicator: Communicator) -> None:
        self._rank = communicator.rank
        self._size = communicator.size
        self._communicator = communicator

    def _collective(self, name, emit, x, *rest, **keywords):
        if is_scalar(x):
            raise TypeError(
                f"x is a {type(x).__name__}, which a plan would read only once: pass np.array(x), and set its element"
            )
        return super()._collective(name, emit, x, *rest, **keywords)

    def _issue(self, name, calls, result, finish, async_op):
        return Plan(self._communicator, name, calls, result)


class Chooser(Collectives, VaryingCollectives):
    """Takes the arguments of collectives, and asks what would be done for them."""

    def __init__(self, communicator: Communicator) -> None:
        self._rank = communicator.rank
        self._size = communicator.size
        self._communicator = communicator

    def _issue(self, name, calls, result, finish, async_op):
        if len(calls) != 1:
            raise TypeError(f"x is a list of {len(calls)}: pass one array, as large as all of them, which are fused")
        choice = ffi.new("struct tutti_choice *")
        choice.struct_size = ffi.sizeof("struct tutti_choice")
        communicator = self._communicator
        with communicator._lock:
            status = lib.tutti_get_choice(communicator._require(), ffi.new(_CALLS, calls), choice)
            if status < 0:
                raise communicator._raised(status)
        return Choice(ffi.string(choice.algorithm).decode(), choice.channels, choice.predicted_us)


def _planned(name: str) -> Callable[..., Plan[Any]]:
    """The method that makes plans of the collective ``name``, with its arguments, but whether to wait."""
    signature = inspect.signature(getattr(Planner, name))
    kept = [p for p in signature.parameters.values() if p.name != "async_op"]
    signature = signature.replace(parameters=kept, return_annotation="Plan")

    def method(*args, **keywords):
        arguments = signature.bind(*args, **keywords).arguments
        communicator = arguments.pop("self")
        return getattr(Planner(communicator), name)(**arguments)

    method.__name__ = f"plan_{name}"
    method.__qualname__ = f"Plans.plan_{name}"
    method.__doc__ = f"A :class:`tutti.Plan` of :meth:`{name}`, with its arguments."
    method.__signature__ = signature
    return method


class Plans:
    """What a communicator plans."""

    plan_all_reduce = _planned("all_reduce")
    plan_reduce = _planned("reduce")
    plan_broadcast = _planned("broadcast")
    plan_all_gather = _planned("all_gather")
    plan_all_gather_v = _planned("all_gather_v")
    plan_gather = _planned("gather")
    plan_gather_v = _planned("gather_v")
    plan_scatter = _planned("scatter")
    plan_scatter_v = _planned("scatter_v")
    plan_reduce_scatter = _planned("reduce_scatter")
    plan_reduce_scatter_v = _planned("reduce_scatter_v")
    plan_all_to_all = _planned("all_to_all")
    plan_all_to_all_v = _planned("all_to_all_v")
    plan_barrier = _planned("barrier")

    def choice(self, operation: str, *args: Any, **keywords: Any) -> Choice:
        """What would be done for a call, a :class:`tutti.Choice`: ``comm.choice("all_reduce", x, op="sum")``.

        It exchanges nothing.  A call with ``algorithm=`` is refused, with the names that there are, where that
        algorithm cannot do it.
        """
        if not hasattr(Plans, f"plan_{operation}"):
            names = ", ".join(name[len("plan_") :] for name in vars(Plans) if name.startswith("plan_"))
            raise ValueError(f"operation is {operation!r}: use one of {names}")
        return getattr(Chooser(self), operation)(*args, **keywords)

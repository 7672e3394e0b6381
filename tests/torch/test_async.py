"""Asynchronous operations: works, futures and callbacks, by whichever thread, and what they keep alive."""

import gc
import threading
import time
import weakref
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from cases import BACKEND, Check
from files import signal_peers, wait_for_peers


def _operations(n, me):
    """Every asynchronous operation by name: a function that starts it, and the tensors that hold its result."""

    def ones(count=6):
        return torch.full((count,), float(me + 1))

    def zeros(count=6):
        return torch.zeros(count)

    total = float(sum(range(1, n + 1)))
    each = [torch.full((6,), float(rank + 1)) for rank in range(n)]

    def all_reduce():
        x = ones()
        return dist.all_reduce(x, async_op=True), [x], [torch.full((6,), total)]

    def broadcast():
        x = ones()
        return dist.broadcast(x, 0, async_op=True), [x], each[:1]

    def reduce():
        x = ones()
        return dist.reduce(x, 0, async_op=True), [x] * (me == 0), [torch.full((6,), total)] * (me == 0)

    def all_gather():
        outputs = [zeros() for _ in range(n)]
        return dist.all_gather(outputs, ones(), async_op=True), outputs, each

    def all_gather_into_tensor():
        output = zeros(6 * n)
        return dist.all_gather_into_tensor(output, ones(), async_op=True), [output], [torch.cat(each)]

    def reduce_scatter():
        output = zeros()
        work = dist.reduce_scatter(output, [ones() for _ in range(n)], async_op=True)
        return work, [output], [torch.full((6,), total)]

    def reduce_scatter_tensor():
        output = zeros()
        return dist.reduce_scatter_tensor(output, ones(6 * n), async_op=True), [output], [torch.full((6,), total)]

    def all_to_all_single():
        output = zeros(6 * n)
        return dist.all_to_all_single(output, ones(6 * n), async_op=True), [output], [torch.cat(each)]

    def all_to_all():
        outputs = [zeros() for _ in range(n)]
        return dist.all_to_all(outputs, [ones() for _ in range(n)], async_op=True), outputs, each

    def gather():
        outputs = [zeros() for _ in range(n)] if me == 0 else None
        return dist.gather(ones(), outputs, async_op=True), outputs or [], each if me == 0 else []

    def scatter():
        output = zeros()
        parts = [torch.full((6,), float(rank)) for rank in range(n)] if me == 0 else None
        return dist.scatter(output, parts, async_op=True), [output], [torch.full((6,), float(me))]

    def barrier():
        return dist.barrier(async_op=True), [], []

    functions = [all_reduce, broadcast, reduce, all_gather, all_gather_into_tensor, reduce_scatter]
    functions += [reduce_scatter_tensor, all_to_all_single, all_to_all, gather, scatter, barrier]
    return {function.__name__: function for function in functions}


def _only_waits(name):
    """Gloo's works of these have no future and are never said to be completed."""
    return BACKEND == "gloo" and name in ("reduce_scatter", "reduce_scatter_tensor")


def _completed(work, limit=20):
    """Whether the work is said to be completed within so many seconds."""
    deadline = time.monotonic() + limit
    while not work.is_completed() and time.monotonic() < deadline:
        time.sleep(0)
    return work.is_completed()


def _waits(ranks):
    check = Check()
    for name, start in _operations(ranks.size, ranks.rank).items():
        for how in ("wait", "wait with a time-out", "poll", "future", "then"):
            case = f"{name} by {how}"
            if _only_waits(name) and how in ("poll", "future", "then"):
                continue
            work, got, expected = start()
            value = None
            if how == "wait":
                check.that(case, work.wait() is True, "did not return True")
                check.that(case, work.wait() is True, "did not return True the second time")
            elif how == "wait with a time-out":
                check.that(case, work.wait(timedelta(seconds=20)) is True, "did not return True")
            elif how == "poll":
                check.that(case, _completed(work), "is not completed within 20 s")
            elif how == "future":
                value = work.get_future().wait()
            else:
                seen = []
                chained = work.get_future().then(lambda future, seen=seen: seen.append(future.value()) or len(seen))
                check.that(case, chained.wait() == 1, "the callback has not run before its future was done")
                value = seen[0]
            if value is not None:
                tensors = isinstance(value, list) and all(isinstance(x, torch.Tensor) for x in value)
                check.that(case, tensors, f"the future has {type(value)}, not a list of tensors")
            # A future may be told a moment before its work is.
            check.that(case, _only_waits(name) or _completed(work, 0 if value is None else 20), "is not completed")
            for x, wanted in zip(got, expected):
                check.equal(case, x, wanted)
            if value is not None and name in ("all_reduce", "broadcast", "scatter"):
                check.that(case, value[0].data_ptr() == got[0].data_ptr(), "the future has another tensor")
    return check.finish()


def test_every_operation_is_waited_for_in_every_way(group):
    group(_waits)


def _many(ranks):
    """Hundreds at once, waited for in another order, while others are started."""
    check = Check()
    tensors = [torch.full((i % 50 + 1,), float(ranks.rank + i)) for i in range(300)]
    works = [dist.all_reduce(x, async_op=True) for x in tensors]
    sums = []
    for work in works[100:200]:
        work.get_future().add_done_callback(lambda future: sums.append(float(future.value()[0][0])))
    for i in list(range(299, -1, -7)) + list(range(300)):
        works[i].wait()
    base = sum(range(ranks.size))
    for i, x in enumerate(tensors):
        check.equal(f"all_reduce {i}", x, torch.full_like(x, base + i * ranks.size))
    collected = torch.futures.collect_all([work.get_future() for work in works]).wait()
    check.that("collect_all", len(collected) == 300)
    expected = [float(base + i * ranks.size) for i in range(100, 200)]
    check.that("callbacks", sorted(sums) == expected, f"{sums}")
    return check.finish()


def test_hundreds_of_operations_at_once(small_group):
    small_group(_many)


def _threads(ranks):
    """Works that one thread starts and others wait for, as DDP does, while a thread of Python never rests."""
    check = Check()
    stop = threading.Event()

    def spin():
        while not stop.is_set():
            sum(range(100))

    busy = threading.Thread(target=spin)
    busy.start()
    try:
        tensors = [torch.full((1000,), float(ranks.rank + i)) for i in range(40)]
        works = [dist.all_reduce(x, async_op=True) for x in tensors]
        called = []
        chained = [
            work.get_future().then(lambda future, i=i: called.append(i) or future.value()[0].sum())
            for i, work in enumerate(works)
        ]
        results = {}

        def wait(name, call, chosen):
            results[name] = [call(i) for i in chosen]

        threads = [
            threading.Thread(target=wait, args=("works", lambda i: works[i].wait(), range(40))),
            threading.Thread(target=wait, args=("reversed", lambda i: works[i].wait(), range(39, -1, -1))),
            threading.Thread(target=wait, args=("futures", lambda i: float(chained[i].wait()), range(40))),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        check.that("threads", not any(thread.is_alive() for thread in threads), "a thread still waits")
        expected = [1000.0 * (sum(range(ranks.size)) + i * ranks.size) for i in range(40)]
        check.that("futures", results.get("futures") == expected, f"{results.get('futures')}")
        check.that("works", results.get("works") == results.get("reversed") == [True] * 40)
        check.that("callbacks", sorted(called) == list(range(40)), f"{called}")
    finally:
        stop.set()
        busy.join()
    return check.finish()


def test_other_threads_wait_while_python_is_busy(small_group):
    small_group(_threads)


def _holder_of_the_lock(ranks, path):
    """An operation completes while a thread holds the GIL for good, and its callback runs when that lets go."""
    check = Check()
    called = threading.Event()
    x = torch.ones(10)
    if ranks.rank == 0:
        work = dist.all_reduce(x, async_op=True)
        work.get_future().then(lambda future: called.set())
        signal_peers(path)
        # One instruction of C that keeps the GIL: whoever completes the operation now cannot have it.
        for _ in range(3):
            sum(range(3_000_000))
        check.that("all_reduce", work.wait() is True)
        check.that("callback", called.wait(20), "was not called")
    else:
        wait_for_peers(path)
        dist.all_reduce(x)
    check.equal("all_reduce", x, torch.full((10,), float(ranks.size)))
    return check.finish()


def test_an_operation_completes_while_the_gil_is_held(pair, tmp_path):
    pair(_holder_of_the_lock, str(tmp_path / "started"))


def _callbacks_that_communicate(ranks):
    """A callback may start the next operation, and one that raises harms nobody but its own future."""
    check = Check()
    second = torch.ones(3)

    def start_another(future):
        return dist.all_reduce(second, async_op=True).get_future()

    first = dist.all_reduce(torch.ones(3), async_op=True)
    first.wait()
    first.get_future().then(start_another).wait().wait()
    check.equal("all_reduce from a callback", second, torch.full((3,), float(ranks.size)))

    work = dist.all_reduce(torch.ones(3), async_op=True)
    failing = work.get_future().then(lambda future: 1 / 0)
    check.raises("a callback that raises", failing.wait, kinds=Exception, match="ZeroDivisionError")
    check.that("the work of it", work.wait() is True)
    x = torch.ones(1)
    dist.all_reduce(x)
    check.that("later", float(x) == ranks.size)
    return check.finish()


def test_callbacks_may_communicate_and_may_fail(small_group):
    small_group(_callbacks_that_communicate)


def _dropped(ranks, path):
    """Tensors and works that the user forgets live until the operation is complete, and no longer."""
    check = Check()
    n = 200_000
    x = torch.full((n,), float(ranks.rank + 1))
    expected = torch.full((n // 2,), float(sum(range(1, ranks.size + 1))))
    alive = weakref.ref(x)
    part = x[: n // 2]
    if ranks.rank == 0:
        dist.all_reduce(part, async_op=True)
        del x, part
        gc.collect()
        # Memory that had been given back would be handed out here, and be added instead.
        for _ in range(20):
            torch.full((n,), 1e9)
        signal_peers(path)
        dist.barrier()
        dist.barrier(async_op=True).wait()
        deadline = time.monotonic() + 5
        while alive() is not None and time.monotonic() < deadline:
            gc.collect()
        check.that("the tensor", alive() is None, "lives on after its operation and the next ones")
    else:
        wait_for_peers(path)
        dist.all_reduce(part)
        check.equal("all_reduce", part, expected)
        dist.barrier()
        dist.barrier()
    return check.finish()


def test_tensors_that_the_user_drops_live_until_completion(pair, tmp_path):
    pair(_dropped, str(tmp_path / "dropped"))


def _not_yet(ranks, path):
    """is_completed() is False while a rank is missing, and nothing blocks."""
    check = Check()
    x = torch.ones(5)
    if ranks.rank == 0:
        work = dist.all_reduce(x, async_op=True)
        check.that("is_completed", not work.is_completed(), "before the other rank has come")
        future = work.get_future()
        check.that("future", not future.done(), "done before the other rank has come")
        signal_peers(path)
        work.wait()
        check.that("is_completed", work.is_completed(), "not after wait()")
        future.wait()
        check.that("future", future.done(), "not done after wait()")
    else:
        wait_for_peers(path)
        dist.all_reduce(x)
    check.equal("all_reduce", x, torch.full((5,), 2.0))
    return check.finish()


def test_polling_tells_that_a_rank_is_missing(pair, tmp_path):
    pair(_not_yet, str(tmp_path / "polled"))


def _mixed_with_blocking(ranks):
    """What one rank waits for at once, another starts and waits for later; messages come in between."""
    check = Check()
    after, before = (ranks.rank + 1) % ranks.size, (ranks.rank - 1) % ranks.size
    works, tensors = [], []
    for i in range(60):
        x = torch.full((1 + 37 * i,), float(ranks.rank))
        tensors.append(x)
        work = dist.all_reduce(x, async_op=True)
        if (i + ranks.rank) % 3 == 0:
            work.wait()
        works.append(work)
        if i % 10 == 0:
            y = torch.zeros(3)
            batch = [dist.P2POp(dist.isend, torch.full((3,), float(i)), after), dist.P2POp(dist.irecv, y, before)]
            for request in dist.batch_isend_irecv(batch):
                request.wait()
            check.equal(f"message {i}", y, torch.full((3,), float(i)))
    for i, (work, x) in enumerate(zip(works, tensors)):
        work.wait()
        check.equal(f"all_reduce {i}", x, torch.full_like(x, sum(range(ranks.size))))
    return check.finish()


def test_blocking_and_asynchronous_calls_of_different_ranks_meet(small_group):
    small_group(_mixed_with_blocking)


def _nested(ranks, depth):
    """A callback waits for another operation's future, which only others can complete."""

    def next_sum(left, x):
        future = dist.all_reduce(x, async_op=True).get_future()
        return future.then(lambda done: next_sum(left - 1, done.value()[0]) if left else done.value()[0]).wait()

    return next_sum(depth, torch.ones(3)).tolist()


@pytest.mark.skipif(BACKEND == "gloo", reason="Gloo has two threads, and hangs at a depth of two")
def test_a_callback_may_wait_for_another_future(pair):
    assert pair(_nested, 3) == [[16.0] * 3] * 2


def _freed(ranks):
    """After wait() nothing but the user holds the tensor."""
    x = torch.ones(1000)
    storage = weakref.ref(x.untyped_storage())
    work = dist.all_reduce(x, async_op=True)
    work.wait()
    del work, x
    gc.collect()
    return storage() is None


def test_a_work_that_was_waited_for_holds_nothing(pair):
    assert all(pair(_freed))

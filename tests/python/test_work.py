"""Asynchronous operations: waiting from threads, from asyncio and from an event loop of one's own."""

import asyncio
import gc
import select
import threading
import time
import weakref

import numpy as np
import pytest
from ranks import signal_peers, wait_for_peers

import tutti


def _results_by_wait(comm):
    arrays = [np.full(10, comm.rank + i, np.float32) for i in range(20)]
    works = [comm.all_reduce(a, async_op=True) for a in arrays]
    total = sum(range(comm.size))
    for i in reversed(range(20)):
        assert works[i].wait() is arrays[i]
        assert works[i].result is arrays[i] and works[i].done()
        assert (arrays[i] == total + comm.size * i).all()
    assert comm.all_reduce(comm.rank, async_op=True).wait(timeout=30) == total
    gathered = comm.all_gather([np.array(1.0), np.array(2)], async_op=True).wait()
    assert [g.shape for g in gathered] == [(comm.size,), (comm.size,)]
    assert (comm.gather(1.5, async_op=True).wait() is None) == (comm.rank != 0)
    assert comm.broadcast(7 * comm.rank, root=comm.size - 1, async_op=True).wait() == 7 * (comm.size - 1)


def test_works_are_waited_for_in_any_order(group):
    group(_results_by_wait)


def _not_yet(comm, path):
    if comm.rank == 1:
        wait_for_peers(path)
        return comm.all_reduce(1)
    work = comm.all_reduce(1, async_op=True)
    assert not work.done() and "pending" in repr(work)
    for timeout in (0, 0.01, 0.25):
        began = time.monotonic()
        with pytest.raises(tutti.PendingError, match="all_reduce is not complete.*it goes on; wait again") as caught:
            work.wait(timeout=timeout)
        assert isinstance(caught.value, TimeoutError) and not isinstance(caught.value, tutti.Error)
        assert time.monotonic() - began >= timeout
    with pytest.raises(tutti.PendingError):
        _ = work.result
    signal_peers(path)
    assert work.wait() == 2 and work.result == 2 and "done" in repr(work)
    return work.wait()


def test_the_timeout_of_a_wait_only_means_not_yet(pair, tmp_path):
    assert pair(_not_yet, str(tmp_path / "waited")) == [2, 2]
    assert pair(_not_yet, str(tmp_path / "waited again")) == [2, 2]


def _dropped(comm, path):
    if comm.rank == 1:
        wait_for_peers(path)
        return comm.all_reduce([np.ones(100_000), np.ones(3)])[0].sum()
    x = np.ones(100_000)
    alive = weakref.ref(x)
    comm.all_reduce([x, np.ones(3)], async_op=True)
    del x
    gc.collect()
    assert alive() is not None  # held by the communicator, since the others still read and write it
    signal_peers(path)
    comm.barrier(async_op=True).wait()
    comm.barrier(async_op=True).wait()
    gc.collect()
    return alive() is None


def _two_barriers(comm, path):
    result = _dropped(comm, path)
    if comm.rank == 1:
        comm.barrier()
        comm.barrier()
    return result


def test_a_dropped_work_keeps_its_buffers_until_it_is_done(pair, tmp_path):
    assert pair(_two_barriers, str(tmp_path / "dropped")) == [True, 200_000]


def _many_threads(comm):
    works = [comm.all_reduce(np.full(1000, i), async_op=True) for i in range(10)]
    sums = []

    def wait_for_all():
        sums.append([int(work.wait()[0]) for work in works])

    threads = [threading.Thread(target=wait_for_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [[i * comm.size for i in range(10)]] * 4


def test_any_number_of_threads_wait_for_the_same_works(group):
    group(_many_threads)


def _awaited(comm):
    async def main():
        threads = threading.active_count()
        arrays = [np.full(1000, comm.rank, np.float64) for _ in range(10)]
        works = [comm.all_reduce(a, async_op=True) for a in arrays]
        results = await asyncio.gather(*works, works[3])
        assert all(r is a for r, a in zip(results, arrays)) and results[10] is arrays[3]
        assert (arrays[9] == sum(range(comm.size))).all()
        assert await comm.broadcast(comm.rank + 5, async_op=True) == 5
        assert await comm.barrier(async_op=True) is None
        assert await works[0] is arrays[0]
        assert threading.active_count() == threads

    asyncio.run(main())
    asyncio.run(main())  # on another event loop
    assert comm._watcher._watched == {}


def test_works_are_awaited_without_a_thread(group):
    group(_awaited)


def _cancelled(comm, path):
    if comm.rank == 1:
        wait_for_peers(path)
        return comm.all_reduce(np.ones(3)).tolist()

    async def main():
        x = np.ones(3)
        work = comm.all_reduce(x, async_op=True)

        async def wait():
            return await work

        task = asyncio.create_task(wait())
        other = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait(), 0.02)
        assert not work.done() and not other.done()
        signal_peers(path)
        assert await other is x and await work is x
        return x.tolist()

    return asyncio.run(main())


def test_cancelling_an_await_does_not_cancel_the_operation(pair, tmp_path):
    assert pair(_cancelled, str(tmp_path / "cancelled")) == [[2, 2, 2]] * 2


def _own_event_loop(comm, path):
    if comm.rank == 1:
        wait_for_peers(path)
        return [comm.all_reduce(i) for i in range(3)]
    poll = select.poll()
    poll.register(comm.fileno(), select.POLLIN)
    works = [comm.all_reduce(i, async_op=True) for i in range(3)]
    assert poll.poll(20) == []
    signal_peers(path)
    results = []
    while works:
        assert poll.poll(30_000), "the descriptor has not become readable within 30 s"
        while works and works[0].done():
            results.append(works.pop(0).result)
    assert poll.poll(0) == []
    return results


def test_the_descriptor_is_readable_while_a_work_is_done_and_not_looked_at(pair, tmp_path):
    assert pair(_own_event_loop, str(tmp_path / "polled")) == [[0, 2, 4]] * 2


def _mixed(comm):
    x = np.ones(50_000, np.float32)
    work = comm.all_reduce(x, async_op=True)
    assert comm.all_reduce(1) == comm.size  # issued later, so it completes later
    assert work.wait(timeout=30) is x
    assert (x == comm.size).all()


def test_blocking_calls_complete_after_the_works_issued_before_them(group):
    group(_mixed)


def _awaits_a_failure(comm, path):
    async def main():
        work = comm.all_reduce(np.ones(3), async_op=True)
        later = comm.barrier(async_op=True)
        signal_peers(path)
        with pytest.raises(tutti.AbortedError, match="enough"):
            await work
        with pytest.raises(tutti.AbortedError, match="enough"):
            await later
        return repr(work)

    if comm.rank == 1:
        wait_for_peers(path)
        comm.abort("enough")
        return "work failed"
    return asyncio.run(main())


def test_awaiting_a_work_of_a_dead_group_raises_its_error(tmp_path):
    path = str(tmp_path / "started")
    assert all("failed" in text for text in tutti.spawn(_awaits_a_failure, 2, path, timeout=60))


def _leaves_while_pending(comm):
    with comm:
        works = [comm.all_reduce(np.ones(10_000), async_op=True) for _ in range(5)]
    assert all(work.done() and work.wait()[0] == comm.size for work in works)
    with pytest.raises(tutti.FinalizedError, match=r"closed: call tutti\.init"):
        comm.barrier()


def test_leaving_the_block_waits_for_all_works():
    tutti.spawn(_leaves_while_pending, 2, timeout=60)


def _closed_while_pending(comm, path):
    if comm.rank == 1:
        wait_for_peers(path)
        with pytest.raises(tutti.AbortedError, match="rank 0: LookupError: stop"):
            comm.all_reduce(1)
        return
    with pytest.raises(LookupError):
        with comm:
            work = comm.all_reduce(1, async_op=True)
            raise LookupError("stop")
    signal_peers(path)
    with pytest.raises(tutti.Error):
        work.wait()
    assert work.done()


def test_a_work_of_a_communicator_that_was_closed_raises(tmp_path):
    tutti.spawn(_closed_while_pending, 2, str(tmp_path / "closed"), timeout=60)

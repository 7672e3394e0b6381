"""Symmetric memory: arrays of Communicator.empty()."""

import asyncio
import concurrent.futures
import gc
import os
import pickle

import numpy as np
import pytest
from ranks import TYPES, numbers, reduced

import tutti

COUNT = 50_000  # elements: enough that a collective looks where its buffers lie


def _mappings():
    """(begin, end) of the symmetric memory of this process."""
    found = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, permissions, _ = line.split(maxsplit=2)
            if "/memfd:tutti" in line and permissions == "rw-s":
                begin, end = (int(address, 16) for address in span.split("-"))
                found.append((begin, end))
    return found


def _is_mapped(address):
    return any(begin <= address < end for begin, end in _mappings())


# ---- The array -------------------------------------------------------------------------------------------


def test_an_array_is_zero_and_has_the_shape_and_type_asked_for(alone):
    for dtype in TYPES:
        for shape, expected in ((7, (7,)), ((3, 5), (3, 5)), ([2, 3, 4], (2, 3, 4)), ((), ()), (np.int64(2), (2,))):
            x = alone.empty(shape, dtype)
            assert type(x) is np.ndarray and x.shape == expected and x.dtype == np.dtype(dtype)
            assert x.flags.c_contiguous and x.flags.writeable and x.flags.aligned
            assert _is_mapped(x.ctypes.data) and not x.any()
            x[...] = 1
            assert x.all()


def test_an_array_can_be_of_bfloat16(alone):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype in (ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16), "bfloat16"):
        x = alone.empty((2, 3), dtype)
        x[:] = 1.5
        assert x.dtype == ml_dtypes.bfloat16 and _is_mapped(x.ctypes.data)
        assert alone.all_reduce(x, op="max") is x and (x == 1.5).all()


def test_an_array_without_elements_needs_no_memory(alone):
    before = _mappings()
    for shape in (0, (3, 0), (0, 0)):
        x = alone.empty(shape, np.float32)
        assert x.shape == np.empty(shape).shape and x.dtype == np.float32
        assert alone.all_reduce(x) is x
    assert _mappings() == before


@pytest.mark.parametrize(
    "shape, dtype, kind, text",
    [
        (-1, "f4", ValueError, "no length can be negative"),
        ((3, -2), "f4", ValueError, "no length can be negative"),
        (2.5, "f4", TypeError, "pass an integer or a tuple of integers"),
        ("34", "f4", TypeError, "pass an integer or a tuple of integers"),
        ((3, "a"), "f4", TypeError, "pass an integer or a tuple of integers"),
        (None, "f4", TypeError, "pass an integer or a tuple of integers"),
        ((1 << 40, 1 << 40), "f4", ValueError, "more than any memory holds"),
        (3, None, TypeError, "dtype is None, but tutti knows float32, "),
        (3, ">f4", TypeError, "dtype is '>f4', but tutti knows float32, "),
        (3, object, TypeError, "pass one of these, as np.float32"),
        (3, "uint12", TypeError, "dtype is 'uint12', but tutti knows"),
        (3, np.complex128, TypeError, "bfloat16, int8.* and complex64"),
        (3, [("a", "f4")], TypeError, "but tutti knows"),
    ],
)
def test_what_cannot_be_an_array_says_what_to_pass(alone, shape, dtype, kind, text):
    with pytest.raises(kind, match=text):
        alone.empty(shape, dtype)


def test_more_than_the_machine_has_is_refused_and_the_group_lives_on(alone):
    with pytest.raises(tutti.OutOfMemoryError, match="no memory for 140737488355328 bytes: this machine has"):
        alone.empty(1 << 45, np.float32)
    assert alone.all_reduce(alone.empty(3, np.int32) + 1).tolist() == [1, 1, 1]


# ---- How long it lives -----------------------------------------------------------------------------------


def test_the_memory_goes_back_with_the_last_view_of_it(alone):
    x = alone.empty((10, 1000), np.float64)
    address = x.ctypes.data
    views = [x[3], x.T, x.view(np.int64), memoryview(x), np.frombuffer(x, np.uint8)]
    del x
    while views:
        gc.collect()
        assert _is_mapped(address)
        views.pop()
    gc.collect()
    assert not _is_mapped(address)


def test_a_thousand_arrays_come_and_go(alone):
    before = _mappings()
    for count in range(1, 1001):
        x = alone.empty(count * 17 % 5000 + 1, np.int64)
        assert not x.any()
        x[:] = count
    kept = [alone.empty(3, np.int64) for _ in range(100)]
    for number, x in enumerate(kept):
        x[:] = number
    assert [x.tolist() for x in kept] == [[number] * 3 for number in range(100)]
    del kept, x
    gc.collect()
    assert _mappings() == before


def test_an_array_outlives_its_communicator_and_is_used_with_the_next():
    with tutti.init(rank=0, size=1) as comm:
        x = comm.empty(COUNT, np.float32)
        x[:] = 3
    assert (x == 3).all()
    with tutti.init(rank=0, size=1) as comm:
        assert comm.all_reduce(x) is x and (x == 3).all()
        comm.abort("the end")
        with pytest.raises(tutti.AbortedError):
            comm.all_reduce(x)
    x += 1
    assert (x == 4).all()
    with pytest.raises(tutti.FinalizedError, match="closed"):
        comm.empty(1, np.float32)


def test_arrays_that_live_until_the_end_of_the_process_end_in_silence(run_ranks):
    script = """
import numpy as np, tutti
with tutti.init() as comm:
    kept = [comm.empty(10, np.float32), comm.empty(1 << 20, np.float32)]
    comm.all_reduce(kept)
    kept.append(kept)
print("done")
"""
    for rank in run_ranks(2, script):
        assert (rank.code, rank.out, rank.err) == (0, "done\n", ""), rank


def _dropped_under_way(comm):
    works = [comm.all_reduce(comm.empty(COUNT, dtype), async_op=True) for dtype in (np.int32, np.float32)]
    gc.collect()
    for work in works:
        x = work.wait()
        assert _is_mapped(x.ctypes.data)
        assert not x.any()


def test_an_operation_keeps_its_array(pair):
    pair(_dropped_under_way)


def test_threads_make_and_drop_arrays(alone):
    def work(number):
        for turn in range(100):
            x = alone.empty(1 + (turn * 131 + number) % 9000, np.int32)
            assert not x.any()
            x[:] = number
            assert (x == number).all()
        return number

    before = _mappings()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [0, 1, 2, 3]
    gc.collect()
    assert _mappings() == before


# ---- Collectives -----------------------------------------------------------------------------------------


def _on_symmetric_memory(comm, dtype, ordinary):
    """Every collective, in place and not, on parts of larger arrays; rank ``ordinary`` has arrays of its own."""
    n, rank, root = comm.size, comm.rank, comm.size - 1

    def new(shape, values=None):
        whole = comm.empty((2 + 17 * rank + int(np.prod(shape)),), dtype) if rank != ordinary else None
        part = np.empty(shape, dtype) if whole is None else whole[2 + 17 * rank :].reshape(shape)
        part[...] = 0 if values is None else values
        return part

    wide = [numbers(r, (n, COUNT // 10), dtype, seed=1) for r in range(n)]
    long = [numbers(r, (COUNT,), dtype, seed=2) for r in range(n)]
    total, totals = reduced(long, "sum"), reduced(wide, "sum")

    def check(result, expected, on=True):
        if on:
            np.testing.assert_array_equal(result, expected)

    check(comm.all_reduce(new(COUNT, long[rank])), total)
    x = new(COUNT, long[rank])
    check(comm.all_reduce(x, out=new(COUNT)), total)
    check(x, long[rank])
    check(comm.reduce(x, root=root, out=new(COUNT)), total, rank == root)
    check(comm.broadcast(new(COUNT, long[rank]), root=root), long[root])
    check(comm.all_gather(x, out=new((n, COUNT))), np.stack(long))
    check(comm.gather(x, root=root, out=new((n, COUNT)) if rank == root else None), np.stack(long), rank == root)
    y = new(wide[rank].shape, wide[rank])
    check(comm.reduce_scatter(y, out=new((1, COUNT // 10))), totals[rank : rank + 1])
    check(comm.scatter(y if rank == root else None, root=root, out=new(COUNT // 10)), wide[root][rank])
    check(comm.all_to_all(y, out=new(y.shape)), np.stack([w[rank] for w in wide]))
    many = [new(COUNT // 10, long[rank][: COUNT // 10]) for _ in range(5)]
    for z in comm.all_reduce(many):
        check(z, total[: COUNT // 10])


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
def test_collectives_on_it_give_what_they_give_elsewhere(any_group, dtype):
    any_group(_on_symmetric_memory, dtype, None)


def test_some_ranks_may_have_other_memory(group):
    for ordinary in range(group.size):
        group(_on_symmetric_memory, "float32", ordinary)


def _again_and_again(comm):
    for turn in range(60):
        x = comm.empty(COUNT + turn % 3, np.int32)
        x[:] = comm.rank + turn
        assert (comm.all_reduce(x) == sum(range(comm.size)) + comm.size * turn).all()


def test_memory_that_was_freed_is_used_again(group):
    group(_again_and_again)


def _planned_and_awaited(comm):
    n, h = comm.size, comm.empty((1, COUNT), np.float32)
    reduce = comm.plan_all_reduce(h)
    for turn in range(5):
        h[:] = comm.rank + turn
        assert reduce() is h and (h == sum(range(n)) + n * turn).all()

    async def main():
        h[:] = comm.rank
        assert await comm.broadcast(h, root=n - 1, async_op=True) is h
        return (h == n - 1).all()

    return bool(asyncio.run(main()))


def test_plans_and_awaited_calls_take_it(group):
    assert all(group(_planned_and_awaited))


def _on_children(comm):
    x = comm.empty(COUNT, np.int64)
    x[:] = comm.rank
    with comm.split(comm.rank % 2) as half:
        half.all_reduce(x)
        assert (x == sum(range(comm.rank % 2, comm.size, 2))).all()
    x[:] = comm.rank
    assert (comm.all_reduce(x) == sum(range(comm.size))).all()


def test_all_communicators_of_a_process_take_it(group):
    group(_on_children)


def test_a_pickled_array_is_a_copy_in_ordinary_memory(alone):
    x = alone.empty(COUNT, np.int64)
    x[:] = 7
    copy = pickle.loads(pickle.dumps(x))
    assert (copy == 7).all() and not _is_mapped(copy.ctypes.data)


def _torch(comm):
    import torch

    n = comm.size
    x = comm.empty((3, COUNT), np.float32)
    tensor = torch.from_numpy(x)
    tensor.fill_(comm.rank)
    assert tensor.data_ptr() == x.ctypes.data
    assert comm.all_reduce(tensor) is tensor and (x == sum(range(n))).all()
    half = torch.from_numpy(comm.empty(COUNT, np.int16)).view(torch.bfloat16)
    half.fill_(1.5)
    assert _is_mapped(half.data_ptr())
    assert comm.all_reduce(half) is half and (half == 1.5 * n).all()
    address = half.data_ptr()
    del half
    gc.collect()
    assert not _is_mapped(address)


def test_tensors_of_torch_view_it(group):
    pytest.importorskip("torch", reason="torch is not installed: its tensors are not tested")
    group(_torch)


# ---- Forks -----------------------------------------------------------------------------------------------


def _forked(comm):
    x, dropped = comm.empty(COUNT, np.int32), comm.empty(COUNT, np.int32)
    x[:] = dropped[:] = comm.rank + 1
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert (x == comm.rank + 1).all()
            del x, dropped
            gc.collect()
            with pytest.raises(tutti.FinalizedError, match="fork"):
                comm.empty(1, np.float32)
            with tutti.init(rank=0, size=1) as own:
                y = own.empty(COUNT, np.int32)
                y[:] = 77
                assert (own.all_reduce(y) == 77).all()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert (x == comm.rank + 1).all() and (dropped == comm.rank + 1).all()
    comm.all_reduce([x, dropped])
    return x[0] == x[-1] == dropped[0] == dropped[-1] == sum(range(comm.size + 1))


def test_a_forked_child_drops_its_arrays_and_leaves_those_of_the_parent_alone(pair):
    assert all(pair(_forked))

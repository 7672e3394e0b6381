"""Plans: the same call again and again; and what would be chosen for a call."""

import asyncio
import gc
import inspect
import weakref

import numpy as np
import pytest
from ranks import keywords, numbers, reduced, signal_peers, wait_for_peers

import tutti


def _all_reduces(comm):
    x = np.zeros(5, np.float32)
    plan = comm.plan_all_reduce(x, op="max")
    for step in range(4):
        x[:] = 10 * step + comm.rank
        assert (plan() if step % 2 else plan(async_op=True).wait()) is x
        assert (x == 10 * step + comm.size - 1).all()
    x[:] = comm.rank
    out = np.zeros(5, np.float32)
    plan = comm.plan_all_reduce(x, out=out)
    assert plan() is out and plan() is out
    assert (out == sum(range(comm.size))).all() and (x == comm.rank).all()


def test_a_plan_makes_its_call_on_what_the_arrays_hold(any_group):
    any_group(_all_reduces)


def _every_collective(comm):
    n, rank, root = comm.size, comm.rank, comm.size - 1
    every = [numbers(r, (n, 3), "int32", seed=1) for r in range(n)]
    x = every[rank]
    counts = list(range(1, n + 1))
    rows = [np.full((counts[r], 2), r) for r in range(n)]
    table = [[(a + b) % 3 for b in range(n)] for a in range(n)]
    sent = [np.repeat(np.arange(n), table[a]) + 10 * a for a in range(n)]
    on_root = rank == root
    plans = {
        "reduce": (comm.plan_reduce(x, "min", root, np.zeros_like(x)), reduced(every, "min") if on_root else None),
        "broadcast": (comm.plan_broadcast(x.copy(), root), every[root]),
        "all_gather": (comm.plan_all_gather(x), np.stack(every)),
        "gather": (comm.plan_gather(x, root), np.stack(every) if on_root else None),
        "scatter": (comm.plan_scatter(x if on_root else None, root, np.zeros(3, np.int32)), every[root][rank]),
        "reduce_scatter": (comm.plan_reduce_scatter(x), reduced(every, "sum")[rank : rank + 1]),
        "all_to_all": (comm.plan_all_to_all(x), np.stack([y[rank] for y in every])),
        "barrier": (comm.plan_barrier(), None),
        "all_gather_v": (comm.plan_all_gather_v(rows[rank], counts), np.concatenate(rows)),
        "gather_v": (comm.plan_gather_v(rows[rank], counts, root), np.concatenate(rows) if on_root else None),
        "scatter_v": (
            comm.plan_scatter_v(np.concatenate(rows), counts, root, None if on_root else np.zeros_like(rows[rank])),
            rows[rank],
        ),
        "reduce_scatter_v": (
            comm.plan_reduce_scatter_v(np.ones(sum(counts)), counts, **keywords("premultiplied_sum", rank)),
            np.full(counts[rank], 0.5 * n * (n + 1) / 2),
        ),
        "all_to_all_v": (
            comm.plan_all_to_all_v(sent[rank], table[rank], [table[a][rank] for a in range(n)]),
            np.concatenate([y[y % 10 == rank] for y in sent]),
        ),
        "a list": (comm.plan_all_gather([x, x[0]]), None),
        "nothing": (comm.plan_all_reduce([]), None),
    }
    for _ in range(3):
        for name, (plan, expected) in plans.items():
            result = plan()
            if name == "a list":
                np.testing.assert_array_equal(result[1], np.stack([y[0] for y in every]))
            elif name == "nothing":
                assert result == [] and plan(async_op=True).wait() == []
            elif expected is None:
                assert result is None, name
            else:
                np.testing.assert_array_equal(result, expected, name)
    assert repr(plans["gather"][0]) == "<tutti.Plan of gather>"


def test_every_collective_can_be_planned(any_group):
    any_group(_every_collective)


def test_a_plan_takes_the_arguments_of_its_collective():
    names = [name for name in dir(tutti.Communicator) if name.startswith("plan_")]
    assert len(names) == 14
    for name in names:
        collective = inspect.signature(getattr(tutti.Communicator, name[len("plan_") :])).parameters
        planned = inspect.signature(getattr(tutti.Communicator, name)).parameters
        assert list(planned) == [p for p in collective if p != "async_op"]
        assert name[len("plan_") :] in getattr(tutti.Communicator, name).__doc__


def _with_and_without(comm):
    x = np.full(1000, comm.rank + 1.0)
    if comm.rank == 0:
        comm.plan_all_reduce(x)()
    else:
        comm.all_reduce(x)
    return float(x[0])


def test_other_ranks_may_call_without_a_plan(group):
    n = group.size
    assert group(_with_and_without) == [n * (n + 1) / 2] * n


def _under_way(comm, path):
    x = np.ones(10)
    if comm.rank == 1:
        wait_for_peers(path)
        comm.all_reduce(x)
        return comm.all_reduce(1)
    plan = comm.plan_all_reduce(x)
    work = plan(async_op=True)
    assert "under way" in repr(plan)
    for async_op in (True, False):
        with pytest.raises(tutti.ArgumentError, match="the plan of all_reduce is under way: wait for its Work"):
            plan(async_op=async_op)
    alive = weakref.ref(x)
    del x, plan
    gc.collect()
    assert alive() is not None  # held by the work
    signal_peers(path)
    assert work.wait().tolist() == [2] * 10
    del work
    gc.collect()
    assert alive() is None
    return comm.all_reduce(1)


def test_a_plan_is_not_started_twice_at_once_and_lives_until_it_is_done(pair, tmp_path):
    assert pair(_under_way, str(tmp_path / "started")) == [2, 2]


def _awaited(comm):
    x = np.full(4, comm.rank)
    plan = comm.plan_all_reduce(x, op="max")

    async def main():
        assert await plan(async_op=True) is x
        return x.tolist()

    return asyncio.run(main())


def test_a_plan_is_awaited(group):
    assert group(_awaited) == [[group.size - 1] * 4] * group.size


def _closed_under_way(comm, path):
    if comm.rank == 1:
        wait_for_peers(path)
        with pytest.raises(tutti.AbortedError):
            comm.barrier()
        return True
    plan = comm.plan_barrier()
    with pytest.raises(LookupError):
        with comm:
            work = plan(async_op=True)
            raise LookupError("stop")
    signal_peers(path)
    with pytest.raises(tutti.Error):
        work.wait()
    with pytest.raises(tutti.FinalizedError, match="closed"):
        plan()
    return True


def test_a_communicator_may_be_closed_while_a_plan_is_under_way(tmp_path):
    assert tutti.spawn(_closed_under_way, 2, str(tmp_path / "closed"), timeout=60) == [True, True]


def test_what_cannot_be_planned_says_why(alone):
    with pytest.raises(TypeError, match=r"x is a float, which a plan would read only once: pass np\.array\(x\)"):
        alone.plan_all_reduce(1.0)
    with pytest.raises(ValueError, match="not contiguous"):
        alone.plan_broadcast(np.ones(4)[::2])
    with pytest.raises(tutti.ArgumentError, match="root"):
        alone.plan_broadcast(np.ones(4), root=1)
    with pytest.raises(TypeError, match="async_op"):
        alone.plan_all_reduce(np.ones(4), async_op=True)
    assert alone.all_reduce(2) == 2


def test_ctrl_c_in_a_plan_aborts_the_group(run_ranks):
    script = """
import sys, numpy as np, tutti
from ranks import signal_self_inside, wait_for_peers, signal_peers

with tutti.init() as comm:
    if comm.rank == 0:
        wait_for_peers("interrupted")
        comm.all_reduce(np.ones(3))  # the same call: another might meet what rank 1 has sent before the abort arrives
        comm.barrier()
    plan = comm.plan_all_reduce(np.ones(3))
    signal_self_inside("_run_plan")
    try:
        plan()
    except KeyboardInterrupt:
        signal_peers("interrupted")
        raise
"""
    other, interrupted = run_ranks(2, script, limit=30)
    assert interrupted.code == -2, interrupted
    assert other.code == 1 and "rank 1: KeyboardInterrupt" in other.err, other


def _choices(comm):
    small, large = np.ones(2, np.float32), np.ones(1 << 20, np.float32)
    choices = [
        comm.choice("all_reduce", small),
        comm.choice("all_reduce", large, op="max"),
        comm.choice("all_reduce", large, algorithm="ring"),
        comm.choice("broadcast", large, root=comm.size - 1),
        comm.choice("all_gather_v", large, [1 << 20] * comm.size),
    ]
    assert choices[2].algorithm == "ring"
    for choice in choices:
        assert isinstance(choice, tutti.Choice) and choice.algorithm and choice.channels >= 1
        assert choice.predicted_us >= 0
    if comm.size > 1:
        assert choices[0].predicted_us <= choices[1].predicted_us
    return choices


def test_choice_tells_the_algorithm_and_the_time_the_same_on_every_rank(any_group):
    choices = any_group(_choices)
    assert all(choice == choices[0] for choice in choices)


def test_a_wrong_choice_says_what_there_is(alone):
    with pytest.raises(ValueError, match="operation is 'allreduce': use one of all_reduce, reduce, "):
        alone.choice("allreduce", np.ones(3))
    with pytest.raises(TypeError, match="x is a list of 2: pass one array"):
        alone.choice("all_reduce", [np.ones(3), np.ones(3)])
    with pytest.raises(tutti.ArgumentError, match="xyzzy"):
        alone.choice("all_reduce", np.ones(3), algorithm="xyzzy")

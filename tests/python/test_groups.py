"""Communicators that are made of another: who is in them, and how they live and die together."""

import gc
import threading
import warnings

import numpy as np
import pytest
from ranks import meet

import tutti


def _splits(comm):
    n, rank = comm.size, comm.rank
    facts = []
    with comm.split(rank % 2, key=-rank) as part:
        members = [r for r in reversed(range(n)) if r % 2 == rank % 2]
        assert (part.rank, part.size) == (members.index(rank), len(members))
        assert [part.root_rank(r) for r in range(part.size)] == members
        with pytest.raises(IndexError, match=f"rank is {part.size}: there are ranks 0 to {part.size - 1}"):
            part.root_rank(part.size)
        assert part.all_gather(rank).tolist() == members
        with part.split(0) as inner:
            assert [inner.root_rank(r) for r in range(inner.size)] == members
            facts.append(inner.all_reduce(rank))
    assert "closed" in repr(part) and "closed" not in repr(comm)
    return comm.all_gather(facts[0]).tolist()


def test_split_makes_groups_by_colour_in_the_order_of_the_keys(any_group):
    n = any_group.size
    sums = [sum(range(rank % 2, n, 2)) for rank in range(n)]
    assert any_group(_splits) == [sums] * n


def _no_colour(comm):
    part = comm.split(None if comm.rank == 0 else 3)
    if comm.rank == 0:
        assert part is None
    else:
        assert (part.rank, part.size) == (comm.rank - 1, comm.size - 1)
        part.finalize()
    with pytest.raises(ValueError, match="color is -2: pass an integer from 0, or None"):
        comm.split(-2)
    return comm.all_reduce(1)


def test_a_rank_without_colour_is_in_no_group(group):
    assert group(_no_colour) == [group.size] * group.size


def _subgroups(comm):
    n, rank = comm.size, comm.rank
    some = [r for r in reversed(range(n)) if r != 1]
    if rank in some:
        with comm.subgroup(some) as part:
            assert part.rank == some.index(rank)
            assert part.all_gather(rank).tolist() == some
    with pytest.raises(tutti.ArgumentError):
        comm.subgroup([n])
    with pytest.raises(ValueError, match="ranks is empty"):
        comm.subgroup([])
    if n > 1:
        with pytest.raises(tutti.ArgumentError):
            comm.subgroup([(rank + 1) % n])
    return comm.all_reduce(1)


def test_a_subgroup_has_the_ranks_of_the_list_in_its_order(any_group):
    assert any_group(_subgroups) == [any_group.size] * any_group.size


def _local(comm):
    local = comm.local
    assert local is comm.local and (local.rank, local.size) == (comm.rank, comm.size)  # all are on this host
    total = local.all_reduce(comm.rank)
    local.finalize()
    return total


def test_the_local_group_is_made_once(group):
    assert group(_local) == [sum(range(group.size))] * group.size


def test_the_local_group_has_the_ranks_of_one_host(run_ranks):
    script = """
import os, tutti
host = "red" if os.environ["TUTTI_RANK"] in "03" else "blue"
with tutti.init(host=host) as comm:
    local = comm.local
    print(host, [local.root_rank(r) for r in range(local.size)], local.all_reduce(comm.rank))
"""
    ranks = run_ranks(4, script)
    assert [rank.out for rank in ranks] == ["red [0, 3] 3\n", "blue [1, 2] 3\n", "blue [1, 2] 3\n", "red [0, 3] 3\n"]


def _threads(comm):
    """Each communicator in a thread of its own, in no order between them."""
    parts = [comm, comm.split(0), comm.subgroup(list(reversed(range(comm.size))))]
    sums = {}

    def work(i):
        x = np.zeros(1000, np.int64)
        for step in range(20):
            x += parts[i].all_reduce(np.full(1000, parts[i].rank + step))
        sums[i] = int(x[0])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(parts))]
    for thread in threads if comm.rank % 2 else reversed(threads):
        thread.start()
    for thread in threads:
        thread.join()
    for part in parts[1:]:
        part.finalize()
    return [sums[i] for i in range(len(parts))]


def test_threads_use_communicators_of_their_own_independently(any_group):
    n = any_group.size
    expected = sum(n * (n - 1) // 2 + n * step for step in range(20))
    assert any_group(_threads) == [[expected] * 3] * n


# ---- Life and death --------------------------------------------------------------------------------------


def _left_with_the_root(comm):
    with comm:
        part = comm.split(0)
        work = part.all_reduce(np.ones(100_000), async_op=True)
        plan = part.plan_all_reduce(np.ones(3))
        plan()
    assert work.done() and work.wait()[0] == comm.size  # what was under way has been waited for
    for call in (part.barrier, lambda: part.split(0), plan, lambda: part.local):
        with pytest.raises(tutti.FinalizedError, match="closed"):
            call()
    return repr(part)


def test_children_end_with_the_root_and_what_is_under_way_is_waited_for():
    for text in tutti.spawn(_left_with_the_root, 3, timeout=60):
        assert "closed" in text


def _dropped(comm):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            comm.split(0)
        work = comm.split(0).all_reduce(1, async_op=True)
        gc.collect()
        total = comm.all_reduce(1)
        assert work.wait() == total
        del work
        gc.collect()
    return total


def test_a_dropped_child_does_no_harm():
    assert tutti.spawn(_dropped, 2, timeout=60) == [2, 2]


def _root_is_dropped_first(comm):
    part = tutti.init(rank=0, size=1).split(0)
    gc.collect()
    assert part.all_reduce(1) == 1  # it keeps the root alive
    part.finalize()
    return True


def test_a_child_keeps_its_root_alive():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the root, which nobody has finalized
        assert tutti.spawn(_root_is_dropped_first, 1, timeout=60) == [True]


def _order_of_freeing(comm, order):
    parts = {"root": comm, "child": comm.split(0)}
    parts["grandchild"] = parts["child"].split(0)
    parts["plan"] = parts["grandchild"].plan_all_reduce(np.ones(3))
    parts["plan"]()
    for name in order:
        part = parts.pop(name)
        if name != "plan" and part._handle is not None:
            part.finalize()
            part._close()
        del part
        gc.collect()
    return True


@pytest.mark.parametrize(
    "order",
    [
        ("plan", "grandchild", "child", "root"),
        ("root", "child", "grandchild", "plan"),
        ("child", "root", "plan", "grandchild"),
        ("grandchild", "plan", "root", "child"),
    ],
    ids=" ".join,
)
def test_a_family_is_freed_in_any_order(order):
    assert tutti.spawn(_order_of_freeing, 2, order, timeout=60) == [True] * 2


def _fails_in_a_child(comm, path):
    part = comm.split(comm.rank // 2)
    other = comm.split(comm.rank % 2)
    meet(comm, path)
    with pytest.raises(tutti.Error):
        if comm.rank == 3:
            part.abort("enough")
            part.barrier()
        else:
            (comm if comm.rank == 0 else part if comm.rank == 2 else other).barrier()
    errors = []
    for member in (comm, part, other):
        with pytest.raises(tutti.AbortedError) as caught:
            member.all_reduce(1)
        errors.append((caught.value.rank, "enough" in str(caught.value)))
    with pytest.raises(tutti.Error):
        comm.split(0)
    return errors


def test_a_failure_in_a_child_is_the_end_of_the_family_and_names_the_rank_of_the_root(tmp_path):
    assert tutti.spawn(_fails_in_a_child, 4, str(tmp_path / "split"), timeout=60) == [[(3, True)] * 3] * 4


def _leaves_by_an_exception(comm, path):
    part = comm.split(0)
    meet(comm, path)
    if comm.rank == 1:
        with pytest.raises(LookupError):
            with part:
                raise LookupError("no data")
        return "left"
    with part:
        with pytest.raises(tutti.AbortedError, match="rank 1: LookupError: no data"):
            part.barrier()
        with pytest.raises(tutti.AbortedError, match="no data"):
            comm.barrier()
    return "left"


def test_leaving_the_block_of_a_child_by_an_exception_aborts_the_family(tmp_path):
    assert tutti.spawn(_leaves_by_an_exception, 2, str(tmp_path / "split"), timeout=60) == ["left"] * 2


def test_only_the_root_is_re_formed_and_split_again(run_ranks, rendezvous):
    script = """
import os, signal, tutti
from ranks import fails, meet

with tutti.init() as comm:
    part = comm.split(0)
    plan = part.plan_barrier()
    meet(comm)
    if comm.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    assert fails(part.barrier).rank == 1
    try:
        part.reform()
    except tutti.ArgumentError:
        pass
    comm = comm.reform()
    for call in (part.barrier, plan):
        try:
            call()
        except tutti.PeerLostError as error:
            assert "make it anew" in str(error), error
    part = comm.split(0)
    print(part.all_reduce(1), part.root_rank(1))
"""
    ranks = run_ranks(3, script, rendezvous=rendezvous)
    for rank in (0, 2):
        assert (ranks[rank].code, ranks[rank].out) == (0, "2 1\n"), ranks


@pytest.mark.parametrize("call", ["comm.split(0)", "comm.subgroup([0, 1])", "comm.local"])
def test_ctrl_c_ends_the_wait_for_the_others_and_aborts_the_group(run_ranks, call):
    script = f"""
import sys, tutti
from ranks import signal_peers, signal_self_inside, wait_for_peers

with tutti.init() as comm:
    if comm.rank == 0:
        wait_for_peers("interrupted")
        {call}  # the same call: another might meet what rank 1 has sent before the abort arrives
        comm.barrier()
    signal_self_inside("run_interruptibly")
    try:
        {call}
    except KeyboardInterrupt:
        signal_peers("interrupted")
        raise
"""
    other, interrupted = run_ranks(2, script, limit=30)
    assert interrupted.code == -2, interrupted
    assert other.code == 1 and "rank 1: KeyboardInterrupt" in other.err, other


def test_a_forked_child_cannot_use_a_child(run_ranks):
    script = """
import os, tutti
with tutti.init() as comm:
    part = comm.split(0)
    child = os.fork()
    if child == 0:
        try:
            part.barrier()
        except tutti.FinalizedError as error:
            os._exit(7 if "belongs to the parent process" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert part.all_reduce(1) == comm.size
"""
    assert [rank.code for rank in run_ranks(2, script)] == [0, 0]

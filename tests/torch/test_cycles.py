"""Groups that come and go: nothing of them is left in the process."""

import gc
import os
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from cases import BACKEND

CYCLES = 300
WARM_UP = 30  # cycles in which pools, caches and allocators may still grow

#: What a process may gain in 270 cycles: an arena of the allocator, say, but not 1 KiB for each cycle and rank.
GROWTH_BYTES = 6 << 20


def _left_behind():
    """(threads, descriptors, resident bytes, mappings) of this process."""
    gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with open("/proc/self/maps") as file:
        mappings = sum(1 for _ in file)
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), resident, mappings


def _init(store, ranks):
    dist.init_process_group(BACKEND, store=store, rank=ranks.rank, world_size=ranks.size, timeout=timedelta(seconds=20))


def _cycle(ranks):
    x = torch.full((100,), float(ranks.rank))
    dist.all_reduce(x)
    assert float(x[0]) == sum(range(ranks.size))
    work = dist.all_reduce(x, async_op=True)
    work.get_future().then(lambda future: future.value()[0].sum()).wait()
    if BACKEND != "gloo":
        y = torch.zeros(1)
        peer = 1 - ranks.rank
        for request in dist.batch_isend_irecv([dist.P2POp(dist.isend, x[:1], peer), dist.P2POp(dist.irecv, y, peer)]):
            request.wait()


def _cycles(ranks, folder):
    """What is left behind, after the warm-up and at the end."""
    dist.destroy_process_group()
    seen = []
    for i in range(CYCLES):
        _init(dist.FileStore(os.path.join(folder, f"store-{i}"), ranks.size), ranks)
        _cycle(ranks)
        dist.destroy_process_group()
        if i + 1 in (WARM_UP, CYCLES):
            seen.append(_left_behind())
    return seen


def _compare(results):
    for before, after in results:
        for what, first, last in zip(("threads", "descriptors"), before, after):
            assert last <= first, f"{what}: {first} after the warm-up, {last} at the end"
        assert after[2] - before[2] < GROWTH_BYTES, f"resident bytes: {before[2]}, then {after[2]}"
        assert after[3] - before[3] < 20, f"mappings: {before[3]}, then {after[3]}"


def test_three_hundred_groups_leave_nothing_behind(fresh, tmp_path):
    _compare(fresh(2)(_cycles, str(tmp_path), limit=100))


def _sub_groups(ranks):
    seen = []
    for i in range(100):
        group = dist.new_group([0, 1])
        other = dist.new_group([i % 2])
        x = torch.ones(10)
        dist.all_reduce(x, group=group)
        assert float(x[0]) == 2
        if other is not dist.GroupMember.NON_GROUP_MEMBER:
            dist.all_reduce(x, group=other)
            dist.destroy_process_group(other)
        dist.destroy_process_group(group)
        if i + 1 in (10, 100):
            seen.append(_left_behind())
    return seen


def test_a_hundred_sub_groups_leave_nothing_behind(fresh):
    _compare(fresh(2)(_sub_groups))


def _one_store(ranks, path):
    """The agent of torchrun keeps its store, with the keys of groups that are gone."""
    dist.destroy_process_group()
    store = dist.FileStore(path, ranks.size)
    for _ in range(10):
        _init(store, ranks)
        _cycle(ranks)
        group = dist.new_group([1])
        if group is not dist.GroupMember.NON_GROUP_MEMBER:
            dist.barrier(group)
        dist.destroy_process_group()


@pytest.mark.skipif(BACKEND == "gloo", reason="Gloo finds the addresses of the group before")
def test_groups_meet_again_in_a_store_that_was_used_before(fresh, tmp_path):
    fresh(2)(_one_store, str(tmp_path / "store"))

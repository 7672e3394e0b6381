"""Collectives of Python objects, and barriers."""

import threading
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from cases import BACKEND, Check, each_group


def _something(rank):
    """Objects of very different lengths by rank."""
    return {"rank": rank, "text": "x" * (10**rank), "list": [None, 1.5, (rank,)]}


def _objects(ranks):
    check = Check()
    for members, me, group, _ in each_group(ranks):
        n = len(members)
        everything = [_something(rank) for rank in range(n)]
        case = f"in {members}"
        got = [None] * n
        dist.all_gather_object(got, _something(me), group=group)
        check.that(f"all_gather_object {case}", got == everything, f"gave {got}"[:100])
        for root in {0, n - 1}:
            got = [None] * n if me == root else None
            dist.gather_object(_something(me), got, group=group, group_dst=root)
            check.that(f"gather_object {case}", me != root or got == everything, f"gave {got}"[:100])
            got = [_something(root), "a string", 7] if me == root else [None] * 3
            dist.broadcast_object_list(got, group=group, group_src=root)
            check.that(f"broadcast_object_list {case}", got == [_something(root), "a string", 7], f"gave {got}"[:100])
            got = [None]
            dist.scatter_object_list(got, everything if me == root else None, group=group, group_src=root)
            check.that(f"scatter_object_list {case}", got == [_something(me)], f"gave {got}"[:100])
        if n > 1 and me == 0:
            dist.send_object_list([_something(3), "more"], group=group, group_dst=1)
        if n > 1 and me == 1:
            got = [None, None]
            dist.recv_object_list(got, group=group, group_src=0)
            check.that(f"recv_object_list {case}", got == [_something(3), "more"], f"gave {got}"[:100])
    return check.finish()


def test_collectives_of_objects(group):
    group(_objects)


def _barrier(ranks, path):
    """Nobody leaves a barrier before the last rank has entered."""
    check = Check()
    for members, me, group, _ in each_group(ranks):
        last = f"{path}-{members}"
        for how in ("barrier", "async", "monitored"):
            if me == len(members) - 1:
                with open(last + how, "x"):
                    pass
            if how == "barrier":
                dist.barrier(group)
            elif how == "async":
                dist.barrier(group, async_op=True).wait()
            else:
                dist.monitored_barrier(group, timedelta(seconds=30))
            try:
                with open(last + how):
                    check.that(f"{how} in {members}", True)
            except FileNotFoundError:
                check.that(f"{how} in {members}", False, "left before the last rank had entered")
    return check.finish()


def test_nobody_leaves_a_barrier_before_all_have_entered(group, tmp_path):
    group(_barrier, str(tmp_path / "entered"))


def _late_at_barrier(ranks, late, wait_all_ranks):
    """What a rank gets when some come too late to a monitored barrier, and how long that took in s."""
    if ranks.rank in late:
        ranks.gloo.barrier().wait()  # by which all others have got their error
        return None
    began = time.monotonic()
    try:
        dist.monitored_barrier(timeout=timedelta(seconds=0.5), wait_all_ranks=wait_all_ranks)
        return "nothing", 0
    except RuntimeError as error:
        return str(error), time.monotonic() - began
    finally:
        ranks.gloo.barrier().wait()


def test_a_monitored_barrier_names_who_is_missing(fresh):
    results = fresh(3)(_late_at_barrier, [1], False)
    message, took = results[0]
    assert "1" in message.lower() and "rank" in message.lower(), message
    assert 0.3 < took < 10, took
    assert results[2][0] != "nothing"


def test_a_monitored_barrier_names_all_who_are_missing(fresh):
    message, took = fresh(4)(_late_at_barrier, [1, 3], True)[0]
    assert "1" in message and "3" in message and "rank" in message.lower(), message
    assert 0.3 < took < 10, took


def _threads_of_groups(ranks):
    """Each group may be used by a thread of its own."""
    check = Check()
    groups = [dist.new_group(backend=BACKEND) for _ in range(3)]
    sums = {}

    def work(i):
        x = torch.zeros(1000)
        for turn in range(20):
            x.fill_(ranks.rank + i)
            dist.all_reduce(x, group=groups[i])
            sums.setdefault(i, set()).add(float(x[turn]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(3):
        expected = {float(sum(range(ranks.size)) + i * ranks.size)}
        check.that(f"thread {i}", sums.get(i) == expected, f"got {sums.get(i)} instead of {expected}")
    for group in groups:
        dist.destroy_process_group(group)
    return check.finish()


def test_threads_use_groups_of_their_own_at_once(small_group):
    small_group(_threads_of_groups)

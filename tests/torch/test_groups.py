"""Sub-groups: who makes them, who belongs to them."""

import time

import torch
import torch.distributed as dist
from cases import BACKEND, Check


def _local_groups(ranks):
    """Groups that only their members make, and those that dist.new_subgroups() makes for all."""
    check = Check()
    members = [i for i in range(ranks.size) if i % 2 == ranks.rank % 2]
    for _ in range(2 if BACKEND != "gloo" else 1):  # Gloo would find the addresses of the group before
        group = dist.new_group(members, use_local_synchronization=True)
        x = torch.tensor([float(ranks.rank)])
        dist.all_reduce(x, group=group)
        check.equal(f"all_reduce in {members}", x, torch.tensor([float(sum(members))]))
        dist.destroy_process_group(group)
    own, groups = dist.new_subgroups(ranks.size // 2)
    x = torch.ones(1)
    dist.all_reduce(x, group=own)
    check.equal("all_reduce in a part", x, torch.tensor([float(ranks.size // 2)]))
    for group in groups:
        if group is not dist.GroupMember.NON_GROUP_MEMBER:
            dist.destroy_process_group(group)
    return check.finish()


def test_groups_that_only_their_members_make(four, pair):
    four(_local_groups)
    pair(_local_groups)


def _elsewhere(ranks):
    """A rank outside of a group does nothing there."""
    subject, _ = ranks.groups([ranks.size - 1])
    if ranks.rank == ranks.size - 1:
        return True
    x = torch.ones(3)
    return subject is dist.GroupMember.NON_GROUP_MEMBER and dist.all_reduce(x, group=subject) is None and x.sum() == 3


def test_a_rank_outside_of_a_group_does_nothing(small_group):
    assert all(small_group(_elsewhere))


def _destroyed_by_one(ranks):
    """What one member does to its part of a group concerns no other group, nor the other members' time."""
    group = dist.new_group([0, 1])
    dist.all_reduce(torch.ones(1), group=group)
    began = time.monotonic()
    if ranks.rank == 0:
        dist.destroy_process_group(group)
    took = time.monotonic() - began
    x = torch.ones(1)
    dist.all_reduce(x)
    if ranks.rank == 1:
        dist.destroy_process_group(group)
    return took < 5 and x.item() == ranks.size


def test_a_member_destroys_its_part_of_a_group_by_itself(pair):
    assert all(pair(_destroyed_by_one))


def _destroyed_in_any_order(ranks):
    groups = [dist.new_group([0, 1]) for _ in range(3)]
    for group in groups if ranks.rank == 0 else reversed(groups):
        dist.destroy_process_group(group)
    x = torch.ones(1)
    dist.all_reduce(x)
    return x.item() == ranks.size


def test_groups_are_destroyed_in_any_order(pair):
    assert all(pair(_destroyed_in_any_order))

"""Messages between two ranks: send, recv, any source, tags, batches."""

import time

import pytest
import torch
import torch.distributed as dist
from cases import BACKEND, LAYOUTS, TYPES, Buffers, Check, label, numbers


def _neighbours(ranks):
    return (ranks.rank + 1) % ranks.size, (ranks.rank - 1) % ranks.size


def _layouts(ranks):
    check = Check()
    after, before = _neighbours(ranks)
    for dtype in TYPES:
        for layout, shape in {**LAYOUTS, "expanded": (4, 6)}.items():
            if BACKEND == "gloo" and layout in ("transposed", "strided", "channels last", "expanded"):
                continue  # it takes contiguous tensors only
            case = label(dtype, layout)
            buffers = Buffers()
            logical = numbers(ranks.rank, shape, dtype)
            x = buffers.lay(layout, logical)
            expected = numbers(before, shape, dtype)
            if layout == "expanded":
                expected = expected[:1].expand(shape)
            y = buffers.lay("contiguous" if layout == "expanded" else layout, torch.zeros(shape, dtype=dtype))
            for name in ("isend and irecv", "batch_isend_irecv"):
                y.zero_()
                if name == "batch_isend_irecv":
                    batch = [dist.P2POp(dist.isend, x, after), dist.P2POp(dist.irecv, y, before)]
                    works = dist.batch_isend_irecv(batch if ranks.rank % 2 else batch[::-1])
                else:
                    works = [dist.irecv(y, before), dist.isend(x, after)]
                for work in works:
                    work.wait()
                check.equal(f"{name} {case}", y, expected)
            if ranks.rank == 0:
                dist.send(x, after)
            if ranks.rank == 1:
                y.zero_()
                source = dist.recv(y, 0)
                check.that("recv " + case, source == 0, f"gave {source} as the source")
                check.equal("send and recv " + case, y, expected)
            check.that(case, buffers.intact(), "something was written between the elements")
    return check.finish()


def test_messages_of_every_type_and_layout(small_group):
    small_group(_layouts)


def _any_source(ranks):
    check = Check()
    x = torch.zeros(3)
    seen = []
    if ranks.rank == 0:
        for _ in range(ranks.size - 1):
            source = dist.recv(x, src=None, tag=5)
            check.equal(f"recv from any source, which was {source}", x, torch.full((3,), float(source)))
            seen.append(source)
        check.that("recv from any source", sorted(seen) == list(range(1, ranks.size)), f"came from {seen}")
    else:
        dist.send(torch.full((3,), float(ranks.rank)), 0, tag=5)
    # The rank that recv() gives is that of the world, also in a group.
    members = list(range(1, ranks.size))
    group, _ = ranks.groups(members)
    if ranks.rank == members[-1] and len(members) > 1:
        source = dist.recv(x, src=None, group=group)
        check.that("recv from any source in a group", source == x[0], f"gave {source} for {x[0]}")
    elif ranks.rank in members[:1] and len(members) > 1:
        dist.send(torch.full((3,), float(ranks.rank)), members[-1], group=group)
    check.that("recv from any source", True)
    return check.finish()


def test_a_message_from_any_source_tells_its_rank(four, pair):
    four(_any_source)
    pair(_any_source)


def _tags(ranks):
    """Messages are matched by tag, whatever the order in which they are received; of one tag in order."""
    check = Check()
    if ranks.rank == 0:
        works = [dist.isend(torch.tensor([10.0 * tag + i]), 1, tag=tag) for i in range(3) for tag in (1, 2, 3)]
        for work in works:
            work.wait()
    elif ranks.rank == 1:
        x = torch.zeros(1)
        for tag in (3, 1, 2):
            for i in range(3):
                dist.recv(x, 0, tag=tag)
                check.equal(f"message {i} with tag {tag}", x, torch.tensor([10.0 * tag + i]))
    check.that("tags", True)
    return check.finish()


def test_tags_choose_the_message(pair):
    pair(_tags)


def _groups(ranks):
    """Ranks are those of the world unless group_dst and group_src say otherwise; groups do not mix."""
    check = Check()
    members = (1, 3)
    group, _ = ranks.groups(members)
    first, second = members
    if ranks.rank == first:
        works = [
            dist.isend(torch.tensor([1.0]), second),
            dist.isend(torch.tensor([2.0]), second, group=group),
            dist.isend(torch.tensor([3.0]), group=group, group_dst=1),
        ]
        for work in works:
            work.wait()
    if ranks.rank == second:
        x, y, z = torch.zeros(1), torch.zeros(1), torch.zeros(1)
        dist.recv(y, first, group=group)
        source = dist.recv(z, group=group, group_src=0)
        dist.recv(x, first)
        check.that("recv by group_src", source == first, f"gave {source}, which is not the rank of the world")
        for got, expected in ((x, 1.0), (y, 2.0), (z, 3.0)):
            check.equal("messages in a group", got, torch.tensor([expected]))
    check.that("groups", True)
    return check.finish()


def test_messages_in_a_group(four):
    four(_groups)


def _many(ranks):
    """Many messages at once, to all and from all, of sizes from nothing to a megabyte."""
    check = Check()
    sizes = [0, 1, 100, 70_000, 300_000, 3]
    peers = [peer for peer in range(ranks.size) if peer != ranks.rank]
    inputs = {peer: [torch.full((n,), float(ranks.rank + i)) for i, n in enumerate(sizes)] for peer in peers}
    outputs = {peer: [torch.zeros(n) for n in sizes] for peer in peers}
    batch = []
    for i in range(len(sizes)):
        for peer in peers:
            batch.append(dist.P2POp(dist.isend, inputs[peer][i], peer))
            batch.append(dist.P2POp(dist.irecv, outputs[peer][i], peer))
    for work in dist.batch_isend_irecv(batch):
        work.wait()
    for peer in peers:
        for i, n in enumerate(sizes):
            check.equal(f"message {i} from {peer}", outputs[peer][i], torch.full((n,), float(peer + i)))
    return check.finish()


def test_many_messages_at_once(four):
    four(_many)


def _before_collectives(ranks):
    """A message that nobody has received yet holds up no collective."""
    check = Check()
    after, before = _neighbours(ranks)
    x, y = torch.full((100_000,), float(ranks.rank)), torch.zeros(100_000)
    sent = dist.isend(x, after)
    total = torch.ones(1000)
    dist.all_reduce(total)
    check.equal("all_reduce after isend", total, torch.full((1000,), float(ranks.size)))
    dist.recv(y, before)
    check.equal("the message", y, torch.full((100_000,), float(before)))
    sent.wait()
    return check.finish()


def test_an_unreceived_message_holds_up_no_collective(small_group):
    small_group(_before_collectives)


def _to_self(ranks):
    check = Check()
    x = torch.zeros(2)
    began = time.monotonic()
    check.raises("send to oneself", lambda: dist.send(x, ranks.rank))
    check.raises("recv from oneself", lambda: dist.recv(x, ranks.rank))
    took = time.monotonic() - began
    check.that("the errors", took < 10, f"came after {took:.0f} s")
    return check.finish()


def test_messages_to_oneself_are_refused(fresh):
    fresh(2)(_to_self)


@pytest.mark.skipif(BACKEND == "gloo", reason="Gloo ends with an error of its own, or not at all")
def test_a_message_that_is_too_long_is_an_error(fresh):
    errors = fresh(2)(_too_long)
    assert "7" in errors[1] and "5" in errors[1], errors
    assert errors[0], errors


def _too_long(ranks):
    try:
        if ranks.rank == 0:
            dist.send(torch.ones(7), 1)
            dist.barrier()
        else:
            dist.recv(torch.zeros(5), 0)
    except RuntimeError as error:
        return str(error)
    return ""

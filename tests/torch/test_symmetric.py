"""tutti.torch.empty(): tensors in memory that the other ranks of the host read where it is."""

import gc

import pytest
import torch
import torch.distributed as dist
from cases import BACKEND, FLOATS, INTEGERS, Check, numbers, reduced

pytestmark = pytest.mark.skipif(BACKEND != "tutti", reason="symmetric memory is tutti's")


def _collectives(ranks):
    import tutti.torch

    check = Check()
    n, me = ranks.size, ranks.rank
    for dtype in (*FLOATS, *INTEGERS):
        for count in (1, 1000, 200_000) if dtype in (torch.float32, torch.bfloat16) else (1000,):
            case = f"{count} {dtype}"
            inputs = [numbers(rank, (count,), dtype) for rank in range(n)]
            x = tutti.torch.empty(count, dtype=dtype)
            check.that(case, x.dtype == dtype and x.shape == (count,) and x.is_contiguous() and not x.any())
            x.copy_(inputs[me])
            dist.all_reduce(x)
            check.equal(f"all_reduce of {case}", x, reduced("SUM", inputs))
            x.copy_(inputs[me])
            output = tutti.torch.empty((n, count), dtype=dtype)
            dist.all_gather_into_tensor(output, x)
            check.equal(f"all_gather_into_tensor of {case}", output, torch.stack(inputs))
            part = tutti.torch.empty(count, dtype=dtype)
            dist.reduce_scatter_tensor(part, output)
            check.equal(f"reduce_scatter_tensor of {case}", part, reduced("SUM", [inputs[me]] * n))
            if me == 0:  # on one rank only
                y = tutti.torch.empty(count, dtype=dtype).copy_(inputs[me])
            else:
                y = inputs[me].clone()
            dist.all_reduce(y)
            check.equal(f"all_reduce beside plain tensors of {case}", y, reduced("SUM", inputs))
    check.raises("another device", lambda: tutti.torch.empty(2, device="meta"), (ValueError,), "CPU meta")
    check.raises("too many", lambda: tutti.torch.empty(2**62 + 1), (ValueError,), "memory")
    x = tutti.torch.empty(2, 3, dtype=torch.int32, device="cpu")
    check.that("a shape in numbers", x.shape == (2, 3))
    check.that("the type that is usual", tutti.torch.empty(3).dtype == torch.get_default_dtype())
    check.that("nothing", tutti.torch.empty(0, 5).shape == (0, 5))
    check.raises("another backend", lambda: tutti.torch.empty(3, group=ranks.gloo), match="gloo symmetric")
    return check.finish()


def test_collectives_of_symmetric_tensors(group):
    group(_collectives)


def _outlives(ranks):
    """A tensor outlives the group of its memory, and memory is used again once nobody has the tensor."""
    import tutti.torch

    check = Check()
    for _ in range(50):
        x = tutti.torch.empty(1 << 20)
        x.fill_(1)
        dist.all_reduce(x)
        check.that("all_reduce", float(x[-1]) == ranks.size)
        del x
    group = dist.new_group()
    x = tutti.torch.empty(1000, group=group)
    view = x[10:20]
    dist.all_reduce(view.fill_(2), group=group)
    dist.destroy_process_group(group)
    del group, x
    gc.collect()
    check.equal("a view", view, torch.full((10,), 2.0 * ranks.size))
    y = tutti.torch.empty(10).fill_(3)
    dist.destroy_process_group()
    gc.collect()
    check.equal("what outlives all groups", y + 1, torch.full((10,), 4.0))
    return check.finish()


def test_symmetric_tensors_outlive_their_groups(fresh):
    fresh(2)(_outlives)

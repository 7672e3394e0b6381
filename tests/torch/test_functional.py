"""What frameworks build on the collectives: functional collectives, autograd through them, DTensor, device meshes."""

import pytest
import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
import torch.distributed.nn.functional as differentiable
from cases import BACKEND, Check, numbers, reduced
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Partial, Replicate, Shard, distribute_tensor


def _functional(ranks):
    check = Check()
    for where in [list(range(ranks.size)), sorted({0, ranks.size - 1})]:
        group, _ = ranks.groups(where)
        if ranks.rank not in where:
            continue
        n, me = len(where), where.index(ranks.rank)
        for dtype in (torch.float32, torch.bfloat16, torch.int64):
            case = f"{dtype} in {where}"
            inputs = [numbers(rank, (2 * n, 3), dtype) for rank in range(n)]
            x, total = inputs[me], reduced("SUM", inputs)
            columns = torch.cat([y.chunk(n, 0)[me] for y in inputs])
            results = {
                "all_reduce": (functional.all_reduce(x, "sum", group), total),
                "all_reduce max": (functional.all_reduce(x, "max", group), reduced("MAX", inputs)),
                "all_gather_tensor 0": (functional.all_gather_tensor(x, 0, group), torch.cat(inputs)),
                "all_gather_tensor 1": (functional.all_gather_tensor(x, 1, group), torch.cat(inputs, 1)),
                "reduce_scatter_tensor": (functional.reduce_scatter_tensor(x, "sum", 0, group), total.chunk(n)[me]),
                "broadcast": (functional.broadcast(x, n - 1, group), inputs[-1]),
                "all_to_all_single": (functional.all_to_all_single(x, None, None, group), columns),
                "all_reduce of what is not contiguous": (functional.all_reduce(x.t(), "sum", group), total.t()),
            }
            if dtype != torch.int64:
                results["all_reduce avg"] = (functional.all_reduce(x, "avg", group), reduced("AVG", inputs))
            for name, (got, expected) in results.items():
                check.equal(f"{name} {case}", got + 0, expected)
            check.equal(f"the input {case}", x, numbers(me, (2 * n, 3), dtype))
            lists = {
                "all_reduce_coalesced": (
                    functional.all_reduce_coalesced([x, 2 * x], "sum", group),
                    [total, 2 * total],
                ),
                "all_gather_into_tensor_coalesced": (
                    functional.all_gather_into_tensor_coalesced([x, 2 * x], group),
                    [torch.cat(inputs), 2 * torch.cat(inputs)],
                ),
                "reduce_scatter_tensor_coalesced": (
                    functional.reduce_scatter_tensor_coalesced([x, 2 * x], "sum", [0, 0], group),
                    [total.chunk(n)[me], 2 * total.chunk(n)[me]],
                ),
            }
            for name, (got, expected) in lists.items():
                for one, wanted in zip(got, expected):
                    check.equal(f"{name} {case}", one + 0, wanted)
            splits = [rank + 1 for rank in range(n)]  # rank r receives r + 1 rows from each
            sent = torch.cat([torch.full((count, 2), me).to(dtype) for count in splits])
            got = functional.all_to_all_single(sent, [me + 1] * n, splits, group)
            expected = torch.cat([torch.full((me + 1, 2), source).to(dtype) for source in range(n)])
            check.equal(f"all_to_all_single uneven {case}", got + 0, expected)
    return check.finish()


def test_functional_collectives(group):
    group(_functional)


def _gradient(check, case, x, y, got, expected, slope):
    """``got`` is what came of leaf x; the gradient of (y * got).sum() at x is ``slope``."""
    check.equal(case, got.detach(), expected)
    (got * y).sum().backward()
    check.equal(f"the gradient of {case}", x.grad, slope)


def _autograd(ranks):
    check = Check()
    n, me = ranks.size, ranks.rank

    def leaf(*shape, seed=0):
        return numbers(me, shape, torch.float32, seed).requires_grad_()

    def of(rank, *shape, seed=0):
        return numbers(rank, shape, torch.float32, seed)

    def weights(rank, *shape):
        return of(rank, *shape, seed=9)

    inputs = [of(rank, 3) for rank in range(n)]
    every_weight = [weights(rank, 3) for rank in range(n)]
    x = leaf(3)
    got = differentiable.all_reduce(x)
    _gradient(check, "all_reduce", x, every_weight[me], got, reduced("SUM", inputs), reduced("SUM", every_weight))

    x = leaf(3)
    got = differentiable.broadcast(x, 0)
    slope = reduced("SUM", every_weight) if me == 0 else torch.zeros(3)
    _gradient(check, "broadcast", x, every_weight[me], got, inputs[0], slope)

    x = leaf(3)
    got = torch.stack(differentiable.all_gather(x))
    rows = [weights(rank, n, 3) for rank in range(n)]
    slope = reduced("SUM", [row[me] for row in rows])
    _gradient(check, "all_gather", x, rows[me], got, torch.stack(inputs), slope)

    whole = [of(rank, 3 * n) for rank in range(n)]
    x = leaf(3 * n)
    got = differentiable.all_to_all_single(torch.zeros(3 * n), x)
    columns = torch.cat([y.chunk(n)[me] for y in whole])
    wide = [weights(rank, 3 * n) for rank in range(n)]
    slope = torch.cat([y.chunk(n)[me] for y in wide])
    _gradient(check, "all_to_all_single", x, wide[me], got, columns, slope)

    x = leaf(3 * n)
    got = functional.reduce_scatter_tensor_autograd(x, "sum", 0, dist.group.WORLD)
    slope = torch.cat(every_weight)
    _gradient(check, "reduce_scatter", x, every_weight[me], got, reduced("SUM", whole).chunk(n)[me], slope)

    x = leaf(3)
    got = functional.all_gather_tensor_autograd(x, 0, dist.group.WORLD)
    slope = reduced("SUM", wide).chunk(n)[me]
    _gradient(check, "all_gather_tensor", x, wide[me], got, torch.cat(inputs), slope)
    return check.finish()


def test_gradients_flow_through_collectives(group):
    group(_autograd)


def _dtensor(ranks):
    check = Check()
    n = ranks.size
    mesh = init_device_mesh("cpu", (n,))
    whole = numbers(0, (13, 6), torch.float32)  # neither is a multiple of 4: uneven shards
    placements = {"rows": Shard(0), "columns": Shard(1), "replica": Replicate()}
    for first, before in placements.items():
        laid = distribute_tensor(whole, mesh, [before])
        check.equal(f"distributed by {first}", laid.full_tensor(), whole)
        for second, after in placements.items():
            moved = laid.redistribute(mesh, [after])
            case = f"{first} to {second}"
            check.that(case, moved.placements == (after,), f"is placed {moved.placements}")
            check.equal(case, moved.full_tensor(), whole)
    partial = distribute_tensor(whole, mesh, [Replicate()], src_data_rank=None).to_local() * (ranks.rank + 1)
    partial = torch.distributed.tensor.DTensor.from_local(partial, mesh, [Partial()])
    total = whole * sum(range(1, n + 1))
    check.equal("partial to replica", partial.redistribute(mesh, [Replicate()]).to_local(), total)
    check.equal("partial to rows", partial.redistribute(mesh, [Shard(0)]).full_tensor(), total)
    check.equal("partial to columns", partial.redistribute(mesh, [Shard(1)]).full_tensor(), total)

    a, b = numbers(1, (8, 12), torch.float32), numbers(2, (12, 5), torch.float32)
    for first, second in ((Shard(0), Replicate()), (Shard(1), Shard(0)), (Replicate(), Shard(1))):
        x = distribute_tensor(a.clone().requires_grad_(), mesh, [first])
        y = distribute_tensor(b.clone().requires_grad_(), mesh, [second])
        product = torch.mm(x, y)
        check.equal(f"matmul {first} {second}", product.full_tensor(), a @ b)
        product.sum().backward()
        ones = torch.ones(8, 5)
        check.equal(f"its gradient {first} {second}", x.grad.full_tensor(), ones @ b.t())
        check.equal(f"its other gradient {first} {second}", y.grad.full_tensor(), a.t() @ ones)
    check.equal("sum of rows", distribute_tensor(whole, mesh, [Shard(0)]).sum(0).full_tensor(), whole.sum(0))
    return check.finish()


def test_dtensor_redistributes_and_multiplies(group):
    group(_dtensor)


def _mesh(ranks):
    check = Check()
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "model"))
    row, column = divmod(ranks.rank, 2)
    for name, members in (("data", [column, 2 + column]), ("model", [2 * row, 2 * row + 1])):
        x = torch.tensor([float(ranks.rank)])
        dist.all_reduce(x, group=mesh.get_group(name))
        check.equal(f"all_reduce along {name}", x, torch.tensor([float(sum(members))]))
        check.that(f"the backend along {name}", dist.get_backend(mesh.get_group(name)) == BACKEND)
    whole = numbers(0, (8, 8), torch.float32)
    for placements in ([Shard(0), Shard(1)], [Shard(1), Shard(0)], [Shard(0), Shard(0)], [Replicate(), Shard(1)]):
        laid = distribute_tensor(whole, mesh, placements)
        check.equal(f"{placements}", laid.full_tensor(), whole)
        moved = laid.redistribute(mesh, [Shard(1), Replicate()])
        check.equal(f"{placements} moved", moved.full_tensor(), whole)
    other = DeviceMesh("cpu", [[3, 1], [2, 0]])
    check.equal("a mesh in another order", distribute_tensor(whole, other, [Shard(0), Shard(1)]).full_tensor(), whole)
    flat = mesh["data", "model"]._flatten("all")
    check.that("a flattened mesh", flat.size() == 4 and flat.get_local_rank() == ranks.rank)
    x = torch.ones(1)
    dist.all_reduce(x, group=flat.get_group())
    check.equal("all_reduce along the flattened mesh", x, torch.full((1,), 4.0))
    return check.finish()


def test_a_mesh_of_two_dimensions(four):
    four(_mesh)


def _tensor_parallel(ranks):
    """The columns of one layer and the rows of the next are on different ranks: one all_reduce each way."""
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    check = Check()

    def model():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(12, 24), torch.nn.ReLU(), torch.nn.Linear(24, 5))

    plain = model()
    mesh = init_device_mesh("cpu", (ranks.size,))
    shared = parallelize_module(model(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    x = numbers(0, (7, 12), torch.float32)
    expected, got = plain(x), shared(x)
    torch.testing.assert_close(got, expected)
    expected.square().sum().backward()
    got.square().sum().backward()
    for (name, wanted), (_, gotten) in zip(plain.named_parameters(), shared.named_parameters()):
        torch.testing.assert_close(gotten.grad.full_tensor(), wanted.grad, msg=f"the gradient of {name}")
        check.that(name, True)
    return check.finish()


def test_layers_are_shared_by_ranks(small_group):
    small_group(_tensor_parallel)


def _profile(ranks):
    check = Check()
    x = torch.ones(1000)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        dist.all_reduce(x)
        dist.broadcast(x, 0)
        output = torch.empty(1000 * ranks.size)
        dist.all_gather_into_tensor(output, x)
        dist.all_reduce(x, async_op=True).wait()
        dist.barrier()
    names = {event.key for event in profiler.key_averages()}
    for name in ("all_reduce", "broadcast", "all_gather", "barrier"):
        check.that(name, any(key.startswith(f"{BACKEND}:") and name in key for key in names), f"is not in {names}")
    return check.finish()


def test_the_profiler_shows_each_operation(pair):
    pair(_profile)


def _checkpoint(ranks, path):
    import torch.distributed.checkpoint as checkpoint

    check = Check()
    mesh = init_device_mesh("cpu", (ranks.size,))
    whole = numbers(0, (10, 4), torch.float32)
    state = {"weights": distribute_tensor(whole, mesh, [Shard(0)]), "step": 7}
    checkpoint.save(state, checkpoint_id=path)
    loaded = {"weights": distribute_tensor(torch.zeros(10, 4), mesh, [Shard(1)]), "step": 0}
    checkpoint.load(loaded, checkpoint_id=path)
    check.equal("the weights", loaded["weights"].full_tensor(), whole)
    check.that("the step", loaded["step"] == 7, f"is {loaded['step']}")
    return check.finish()


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_is_saved_and_loaded_in_other_shards(pair, tmp_path):
    pair(_checkpoint, str(tmp_path / "checkpoint"))

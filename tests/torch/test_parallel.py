"""Models on several ranks: DistributedDataParallel and fully_shard, beside the same model on one rank."""

import contextlib

import torch
import torch.distributed as dist
from cases import Check, numbers
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel


def _model(unused=False):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(10, 40), torch.nn.ReLU(), torch.nn.Linear(40, 40), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(40, 3))
    if unused:
        model.register_parameter("unused", torch.nn.Parameter(torch.ones(5)))
    return model


def _batch(step, rank, rows=6):
    return numbers(rank, (rows, 10), torch.float32, seed=step), numbers(rank, (rows, 3), torch.float32, seed=100 + step)


def _train_alone(n, steps, rank_rows=None):
    """The losses by (step, rank) and the parameters of a model that sees the batches of all ranks."""
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        batches = [_batch(step, rank) for rank in range(n)]
        each = [torch.nn.functional.mse_loss(model(x), y) for x, y in batches]
        sum(each).div(n).backward()
        optimizer.step()
        losses.append([loss.item() for loss in each])
    return losses, list(model.parameters())


def _compare(check, case, losses, parameters, expected_losses, expected_parameters, rank):
    """Sums in another order differ in the last places: of a few steps no more than torch's own bounds."""
    for step, (got, expected) in enumerate(zip(losses, expected_losses)):
        close = torch.isclose(torch.tensor(got), torch.tensor(expected[rank]), rtol=1e-5)
        check.that(case, bool(close), f"the loss of step {step} is {got} instead of {expected[rank]}")
    for i, (got, expected) in enumerate(zip(parameters, expected_parameters)):
        close = torch.allclose(got, expected, rtol=1e-5, atol=1e-6)
        check.that(case, close, f"parameter {i} is off by {(got - expected).abs().max()}")


def _ddp(ranks):
    check = Check()
    n, steps = ranks.size, 4
    expected = _train_alone(n, steps)
    variants = {
        "plain": {},
        "static graph": {"static_graph": True},
        "views of buckets": {"gradient_as_bucket_view": True},
        "many buckets": {"bucket_cap_mb": 0.001},
        "many buckets as views": {"bucket_cap_mb": 0.001, "gradient_as_bucket_view": True},
        "unused parameters": {"find_unused_parameters": True},
    }
    for name, options in variants.items():
        model = _model(unused=name == "unused parameters")
        parallel = DistributedDataParallel(model, **options)
        optimizer = torch.optim.SGD(parallel.parameters(), lr=0.02)
        losses = []
        for step in range(steps):
            optimizer.zero_grad()
            x, y = _batch(step, ranks.rank)
            loss = torch.nn.functional.mse_loss(parallel(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        parameters = [p.detach() for key, p in model.named_parameters() if "unused" not in key]
        _compare(check, name, losses, parameters, *expected, ranks.rank)
    return check.finish()


def test_ddp_learns_what_one_rank_learns(group):
    group(_ddp)


def _no_sync(ranks):
    """Gradients of two batches are summed up locally, and reduced once."""
    check = Check()
    parallel = DistributedDataParallel(_model())
    plain = _model()
    for step in range(2):
        with parallel.no_sync() if step == 0 else contextlib.nullcontext():
            x, y = _batch(step, ranks.rank)
            torch.nn.functional.mse_loss(parallel(x), y).backward()
        for rank in range(ranks.size):
            x, y = _batch(step, rank)
            torch.nn.functional.mse_loss(plain(x), y).div(ranks.size).backward()
    for i, (got, expected) in enumerate(zip(parallel.parameters(), plain.parameters())):
        check.that(f"gradient {i}", torch.allclose(got.grad, expected.grad, rtol=1e-5, atol=1e-6))
    return check.finish()


def test_ddp_accumulates_without_communication(small_group):
    small_group(_no_sync)


def _join(ranks):
    """Rank r has r + 2 batches; who has run out shadows the others' collectives."""
    check = Check()
    parallel = DistributedDataParallel(_model())
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.02)
    with parallel.join():
        for step in range(ranks.rank + 2):
            optimizer.zero_grad()
            x, y = _batch(step, ranks.rank)
            torch.nn.functional.mse_loss(parallel(x), y).backward()
            optimizer.step()
    # The last rank to run out hands its parameters to all.
    mine = torch.cat([p.detach().flatten() for p in parallel.parameters()])
    all_of_them = [torch.empty_like(mine) for _ in range(ranks.size)]
    dist.all_gather(all_of_them, mine)
    for rank, other in enumerate(all_of_them):
        check.equal(f"the parameters of rank {rank}", other, mine)
    return check.finish()


def test_ddp_joins_ranks_with_fewer_batches(small_group):
    small_group(_join)


def _hooks(ranks):
    check = Check()
    steps = 4
    expected = _train_alone(ranks.size, steps)

    def own_hook(group, bucket):
        work = dist.all_reduce(bucket.buffer().div_(ranks.size), group=group, async_op=True)
        return work.get_future().then(lambda future: future.value()[0])

    def bf16_compress(group, bucket):
        # Under its own name torch refuses it where there is no CUDA, although it needs none.
        return default_hooks.bf16_compress_hook(group, bucket)

    hooks = {
        "bf16_compress": bf16_compress,
        "fp16_compress_hook": default_hooks.fp16_compress_hook,
        "allreduce_hook": default_hooks.allreduce_hook,
        "a hook of one's own": own_hook,
    }
    for name, hook in hooks.items():
        parallel = DistributedDataParallel(_model(), bucket_cap_mb=0.002)
        parallel.register_comm_hook(None if name != "allreduce_hook" else dist.group.WORLD, hook)
        optimizer = torch.optim.SGD(parallel.parameters(), lr=0.02)
        for step in range(steps):
            optimizer.zero_grad()
            x, y = _batch(step, ranks.rank)
            torch.nn.functional.mse_loss(parallel(x), y).backward()
            optimizer.step()
        bound = 0.01 if "compress" in name else 1e-5  # 8 bits of the gradient, which moves parameters by 2 % of it
        for i, (got, wanted) in enumerate(zip(parallel.parameters(), expected[1])):
            off = float((got - wanted).abs().max())
            check.that(name, off < bound, f"parameter {i} is off by {off}")
    return check.finish()


def test_ddp_runs_communication_hooks(small_group):
    small_group(_hooks)


def _sync_batch_norm_buffers(ranks):
    """Buffers are broadcast from rank 0 before each forward pass."""
    check = Check()
    torch.manual_seed(ranks.rank)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    parallel = DistributedDataParallel(model)
    for step in range(2):
        parallel(numbers(ranks.rank, (8, 4), torch.float32, seed=step)).sum().backward()
    parallel(numbers(0, (8, 4), torch.float32))
    tensors = torch.cat([t.detach().flatten() for t in (*model.parameters(), model[1].running_mean)])
    others = [torch.empty_like(tensors) for _ in range(ranks.size)]
    dist.all_gather(others, tensors)
    for rank, other in enumerate(others):
        check.equal(f"parameters and buffers of rank {rank}", other, tensors)
    return check.finish()


def test_ddp_broadcasts_parameters_and_buffers(small_group):
    small_group(_sync_batch_norm_buffers)


def _shard(model, **options):
    for layer in model:
        if any(True for _ in layer.parameters()):
            fully_shard(layer, **options)
    return fully_shard(model, **options)


def _fsdp(ranks):
    check = Check()
    n, steps = ranks.size, 4
    expected = _train_alone(n, steps)
    for name, options in {"plain": {}, "kept after the forward pass": {"reshard_after_forward": False}}.items():
        model = _shard(_model(), **options)
        check.that(name, isinstance(model, FSDPModule))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
        losses = []
        for step in range(steps):
            optimizer.zero_grad()
            x, y = _batch(step, ranks.rank)
            loss = torch.nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        parameters = [p.full_tensor().detach() for p in model.parameters()]
        _compare(check, name, losses, parameters, *expected, ranks.rank)
    return check.finish()


def test_fully_shard_learns_what_one_rank_learns(group):
    group(_fsdp)


def _mixed_precision(ranks):
    """bfloat16 on the way, float32 in the optimizer: close to the model of one rank, and the same on all."""
    check = Check()
    steps = 4
    expected = _train_alone(ranks.size, steps)
    for reduce_dtype in (torch.float32, torch.bfloat16):
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=reduce_dtype)
        model = _shard(_model(), mp_policy=policy)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
        for step in range(steps):
            optimizer.zero_grad()
            x, y = _batch(step, ranks.rank)
            torch.nn.functional.mse_loss(model(x).float(), y).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
            optimizer.step()
        for i, (p, wanted) in enumerate(zip(model.parameters(), expected[1])):
            off = float((p.full_tensor() - wanted).abs().max())
            check.that(f"reduced in {reduce_dtype}", off < 0.02, f"parameter {i} is off by {off}")
            check.that("the type", p.dtype == torch.float32 and p.grad.dtype == torch.float32)
    return check.finish()


def test_fully_shard_with_mixed_precision(small_group):
    small_group(_mixed_precision)


def _hybrid(ranks):
    """Shards within a pair of ranks, copies in the other pair: the mesh has two dimensions."""
    from torch.distributed.device_mesh import init_device_mesh

    check = Check()
    expected = _train_alone(4, 3)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("copies", "shards"))
    model = _shard(_model(), mesh=mesh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    losses = []
    for step in range(3):
        optimizer.zero_grad()
        x, y = _batch(step, ranks.rank)
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    parameters = [p.full_tensor().detach() for p in model.parameters()]
    _compare(check, "hybrid", losses, parameters, *expected, ranks.rank)
    return check.finish()


def test_fully_shard_over_a_mesh_of_two_dimensions(four):
    four(_hybrid)


def _power_sgd(ranks):
    """torch's own hook, whose callbacks wait for further all_reduces."""
    from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook

    parallel = DistributedDataParallel(_model())
    parallel.register_comm_hook(powerSGD_hook.PowerSGDState(None, start_powerSGD_iter=2), powerSGD_hook.powerSGD_hook)
    for step in range(4):
        x, y = _batch(step, ranks.rank)
        torch.nn.functional.mse_loss(parallel(x), y).backward()
    mine = torch.cat([p.grad.flatten() for p in parallel.parameters()])
    others = [torch.empty_like(mine) for _ in range(ranks.size)]
    dist.all_gather(others, mine)
    return all(torch.equal(other, mine) for other in others)


def test_ddp_runs_power_sgd(pair):
    assert all(pair(_power_sgd))

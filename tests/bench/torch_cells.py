"""What torch_bench.py measures, as one rank sees it.

Each operation takes a group and a number of bytes, and returns two functions: the call that is timed, and one that
tells, after the first call and before any other, whether its result is right.  The second is called by all ranks at
once too, since it may need the group."""

import contextlib
import time

import torch
import torch.distributed as dist

# torch 2.13 warns of the old names, on every call.
reduce_scatter_single = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
all_gather_single = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


# ---- Collectives and messages ----------------------------------------------------------------------------------

def pattern(rank, count):
    """Whole numbers so small that sums of them are exact."""
    return torch.arange(count, dtype=torch.float32) % 251 + rank


def summed(size, count):
    return size * pattern(0, count) + size * (size - 1) // 2


def share(tensor, rank, size):
    return tensor.chunk(size)[rank]


def reduced(group, data, call):
    """Zeros from then on, since sums of sums would leave the range of numbers."""
    def is_right():
        is_equal = torch.equal(data, summed(group.size(), data.numel()))
        data.zero_()
        return is_equal

    return call, is_right


def all_reduce(group, size_bytes):
    data = pattern(group.rank(), size_bytes // 4)
    return reduced(group, data, lambda: dist.all_reduce(data, group=group))


def all_reduce_wait(group, size_bytes):
    data = pattern(group.rank(), size_bytes // 4)
    return reduced(group, data, lambda: dist.all_reduce(data, group=group, async_op=True).wait())


def all_reduce_future(group, size_bytes):
    data = pattern(group.rank(), size_bytes // 4)
    return reduced(group, data, lambda: dist.all_reduce(data, group=group, async_op=True).get_future().wait())


def reduce_scatter_tensor(group, size_bytes):
    rank, size, count = group.rank(), group.size(), size_bytes // 4
    data, result = pattern(rank, count), torch.empty(count // size)
    return (lambda: reduce_scatter_single(result, data, group=group),
            lambda: torch.equal(result, share(summed(size, count), rank, size)))


def all_gather_into_tensor(group, size_bytes):
    size, count = group.size(), size_bytes // 4
    data, result = pattern(group.rank(), count // size), torch.empty(count)
    return (lambda: all_gather_single(result, data, group=group),
            lambda: torch.equal(result, torch.cat([pattern(rank, count // size) for rank in range(size)])))


def broadcast(group, size_bytes):
    data = pattern(group.rank(), size_bytes // 4)
    return (lambda: dist.broadcast(data, group_src=0, group=group),
            lambda: torch.equal(data, pattern(0, data.numel())))


def all_to_all_single(group, size_bytes):
    rank, size, count = group.rank(), group.size(), size_bytes // 4
    data, result = pattern(rank, count), torch.empty(count)
    return (lambda: dist.all_to_all_single(result, data, group=group),
            lambda: torch.equal(result, torch.cat([share(pattern(r, count), rank, size) for r in range(size)])))


def barrier(group, _):
    def is_right():
        """No rank leaves a barrier before the last has entered it."""
        entered = torch.tensor([time.monotonic_ns()])
        dist.barrier(group=group)
        left = torch.tensor([-time.monotonic_ns()])
        for times in entered, left:
            dist.all_reduce(times, dist.ReduceOp.MAX, group=group)
        return int(entered) <= -int(left)

    return lambda: dist.barrier(group=group), is_right


def ping_pong(group, size_bytes):
    """Between ranks 0 and 1, between 2 and 3, and so on: there and back."""
    rank, count = group.rank(), size_bytes // 4
    peer, data, result = rank ^ 1, pattern(rank, count), torch.empty(count)

    def send():
        dist.send(data, group_dst=peer, group=group)

    def receive():
        dist.recv(result, group_src=peer, group=group)

    first, second = (receive, send) if rank & 1 else (send, receive)
    return lambda: (first(), second()), lambda: torch.equal(result, pattern(peer, count))


def all_gather_object(group, _):
    results = [None] * group.size()
    return (lambda: dist.all_gather_object(results, {"rank": group.rank(), "loss": 0.5}, group=group),
            lambda: results == [{"rank": rank, "loss": 0.5} for rank in range(group.size())])


# ---- Training steps ---------------------------------------------------------------------------------------------

WIDTH, TOKENS = 512, 64
LAYER_BYTES = 4 * (12 * WIDTH * WIDTH + 13 * WIDTH)


def transformer(size_bytes):
    torch.manual_seed(0)
    layers = [torch.nn.TransformerEncoderLayer(WIDTH, nhead=8, dim_feedforward=4 * WIDTH, dropout=0.0,
                                               batch_first=True, norm_first=True)
              for _ in range(size_bytes // LAYER_BYTES)]
    return torch.nn.Sequential(*layers)


def examples(rank):
    torch.manual_seed(1 + rank)
    return torch.randn(2, TOKENS // 2, WIDTH), torch.randn(2, TOKENS // 2, WIDTH)


def loss_of(model, rank):
    inputs, targets = examples(rank)
    return torch.nn.functional.mse_loss(model(inputs), targets)


def mean_gradient(size_bytes, ranks):
    """Of the first step on these ranks' examples, without any group."""
    model = transformer(size_bytes)
    for rank in ranks:
        (loss_of(model, rank) / len(ranks)).backward()
    return flat_gradient(model)


def flat_gradient(model):
    gradients = [parameter.grad for parameter in model.parameters()]
    return torch.cat([(g.full_tensor() if hasattr(g, "full_tensor") else g).flatten() for g in gradients])


def step_of(model, size_bytes, rank, ranks, context=contextlib.nullcontext):
    """Forward, backward and optimizer of `model`, whose gradient is to be the mean of those of `ranks`.  Keeps its own
    examples, so that making them takes no part in the time."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs, targets = examples(rank)

    def call():
        optimizer.zero_grad()
        with context():
            torch.nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()

    def is_right():
        expected = mean_gradient(size_bytes, ranks)
        return bool((flat_gradient(model) - expected).norm() <= 1e-5 * expected.norm())

    return call, is_right


def ddp(group, size_bytes):
    model = torch.nn.parallel.DistributedDataParallel(transformer(size_bytes), process_group=group)
    return step_of(model, size_bytes, group.rank(), range(group.size()))


def ddp_no_sync(group, size_bytes):
    model = torch.nn.parallel.DistributedDataParallel(transformer(size_bytes), process_group=group)
    return step_of(model, size_bytes, group.rank(), [group.rank()], model.no_sync)


def fsdp(group, size_bytes):
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    model, mesh = transformer(size_bytes), DeviceMesh.from_group(group, "cpu")
    for layer in model:
        fully_shard(layer, mesh=mesh)
    return step_of(fully_shard(model, mesh=mesh), size_bytes, group.rank(), range(group.size()))


def no_group(group, size_bytes):
    return step_of(transformer(size_bytes), size_bytes, group.rank(), [group.rank()])

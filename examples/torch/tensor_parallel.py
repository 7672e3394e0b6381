"""Tensor-parallel training (DTensor, parallelize_module) of a character-level transformer.

    torchrun --nproc-per-node 4 examples/torch/tensor_parallel.py

The ranks share the heads of attention and the inner features of the MLP: each computes its part for the whole batch,
and one all_reduce after either adds the parts up.  With --replicas 2 the four ranks are two groups of two: within a
group they share the layers, and between the groups the batch, with sharded parameters (FSDP2).  The ranks that share
the layers must divide the number of heads.
"""

import argparse

import torch
import torch.distributed as dist
from char_transformer import Block, Text, loss_of, make_model
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

HEADS = 4

PLAN = {
    "attention.query": ColwiseParallel(),
    "attention.key": ColwiseParallel(),
    "attention.value": ColwiseParallel(),
    "attention.out": RowwiseParallel(),
    "up": ColwiseParallel(),
    "down": RowwiseParallel(),
}


def parallelize(model, mesh):
    for part in model:
        if isinstance(part, Block):
            parallelize_module(part, mesh["layers"], PLAN)
    if mesh["batch"].size() > 1:
        for part in model:
            fully_shard(part, mesh=mesh["batch"])
        fully_shard(model, mesh=mesh["batch"])


def train(model, text, mesh, arguments):
    batch = mesh["batch"]
    # One by one and not fused: the blocks' parameters are DTensors, the others may be plain tensors.
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.rate, foreach=False)
    for step in range(arguments.steps):
        inputs, targets = (
            whole.chunk(batch.size())[batch.get_local_rank()]
            for whole in text.batch(step, arguments.batch, arguments.length)
        )
        loss = loss_of(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.detach().double()
        dist.all_reduce(mean, group=batch.get_group())
        if dist.get_rank() == 0:
            print(f"step {step} loss {mean.item() / batch.size()!r}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=("tutti", "gloo"), default="tutti")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16, help="pieces of text in a step, over all ranks")
    parser.add_argument("--length", type=int, default=64, help="characters in a piece")
    parser.add_argument("--rate", type=float, default=0.001)
    parser.add_argument("--replicas", type=int, default=1, help="groups of ranks, each with a whole model")
    arguments = parser.parse_args()

    dist.init_process_group(arguments.backend)
    size, replicas = dist.get_world_size(), arguments.replicas
    if size % replicas != 0 or HEADS % (size // replicas) != 0:
        parser.error(f"{size} ranks in {replicas} replicas cannot share {HEADS} heads of attention evenly")
    mesh = init_device_mesh("cpu", (replicas, size // replicas), mesh_dim_names=("batch", "layers"))
    torch.manual_seed(1)  # the same parameters on every rank, of which each then keeps its part
    text = Text()
    model = make_model(text.vocabulary, arguments.length, heads=HEADS)
    parallelize(model, mesh)
    train(model, text, mesh, arguments)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

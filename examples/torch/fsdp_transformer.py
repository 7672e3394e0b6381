"""Training with sharded parameters (FSDP2, fully_shard) of a character-level transformer.

    torchrun --nproc-per-node 4 examples/torch/fsdp_transformer.py

Each rank keeps its part of every parameter, gradient and state of the optimizer.  The parameters of a block are
gathered just before it computes (all_gather_into_tensor), its gradients are averaged right after
(reduce_scatter_tensor).  With --mixed blocks compute and gather in bfloat16, and average in float32.
"""

import argparse

import torch
import torch.distributed as dist
from char_transformer import Text, loss_of, make_model
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard


def shard(model, mixed):
    policy = MixedPrecisionPolicy()
    if mixed:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for part in model:
        fully_shard(part, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def train(model, text, arguments):
    rank, size = dist.get_rank(), dist.get_world_size()
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.rate)
    for step in range(arguments.steps):
        inputs, targets = (whole.chunk(size)[rank] for whole in text.batch(step, arguments.batch, arguments.length))
        loss = loss_of(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.detach().double()
        dist.all_reduce(mean)
        if rank == 0:
            print(f"step {step} loss {mean.item() / size!r}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=("tutti", "gloo"), default="tutti")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16, help="pieces of text in a step, over all ranks")
    parser.add_argument("--length", type=int, default=64, help="characters in a piece")
    parser.add_argument("--rate", type=float, default=0.001)
    parser.add_argument("--mixed", action="store_true", help="compute and gather in bfloat16, average in float32")
    arguments = parser.parse_args()

    dist.init_process_group(arguments.backend)
    torch.manual_seed(1)  # the same parameters on every rank, of which each then keeps its part
    text = Text()
    model = make_model(text.vocabulary, arguments.length)
    shard(model, arguments.mixed)
    train(model, text, arguments)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

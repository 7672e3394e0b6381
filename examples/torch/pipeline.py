"""Pipeline-parallel training by isend and irecv of a character-level transformer.

    torchrun --nproc-per-node 4 examples/torch/pipeline.py

Each rank holds some of the layers (a stage).  A batch goes through as micro-batches, all forward and then all backward
(GPipe; Huang et al. 2019): while a stage computes one, the next one computes the one before.
"""

import argparse

import torch
import torch.distributed as dist
from char_transformer import Text, loss_of, make_model


def make_stage(model, rank, size):
    """The part of the layers that is this rank's, in order and as equal as they can be divided."""
    bounds = [len(model) * i // size for i in range(size + 1)]
    return model[bounds[rank] : bounds[rank + 1]]


def run_step(stage, inputs, targets, shape):
    """The gradients of one batch, in the parameters.

    inputs, targets: lists of micro-batches; shape: of what goes between two stages, for one micro-batch.
    The mean loss on the last rank, None on the others.
    """
    rank, last = dist.get_rank(), dist.get_world_size() - 1
    count = len(inputs)
    if rank > 0:
        inputs = [torch.empty(shape) for _ in range(count)]
        arriving = [dist.irecv(x, rank - 1) for x in inputs]
    if rank < last:
        gradients = [torch.empty(shape) for _ in range(count)]
        returning = [dist.irecv(g, rank + 1) for g in gradients]
    sends, outputs = [], []

    for i in range(count):
        if rank > 0:
            arriving[i].wait()
            inputs[i].requires_grad_()
        output = stage(inputs[i])
        if rank < last:
            sends.append(dist.isend(output.detach(), rank + 1))
        else:
            output = loss_of(output, targets[i]) / count
        outputs.append(output)

    for i in range(count):
        if rank < last:
            returning[i].wait()
            outputs[i].backward(gradients[i])
        else:
            outputs[i].backward()
        if rank > 0:
            sends.append(dist.isend(inputs[i].grad, rank - 1))

    for send in sends:
        send.wait()
    return sum(outputs).detach() if rank == last else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=("tutti", "gloo"), default="tutti")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16, help="pieces of text in a step")
    parser.add_argument("--micro-batches", type=int, default=4, help="parts of the batch that are under way at once")
    parser.add_argument("--length", type=int, default=64, help="characters in a piece")
    parser.add_argument("--width", type=int, default=64, help="features of a character between two layers")
    parser.add_argument("--rate", type=float, default=0.001)
    arguments = parser.parse_args()

    dist.init_process_group(arguments.backend)
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(1)
    text = Text()
    stage = make_stage(make_model(text.vocabulary, arguments.length, arguments.width), rank, size)
    optimizer = torch.optim.AdamW(stage.parameters(), lr=arguments.rate)
    shape = arguments.batch // arguments.micro_batches, arguments.length, arguments.width
    for step in range(arguments.steps):
        inputs, targets = (
            list(whole.chunk(arguments.micro_batches)) for whole in text.batch(step, arguments.batch, arguments.length)
        )
        loss = run_step(stage, inputs, targets, shape)
        optimizer.step()
        optimizer.zero_grad()
        if rank == size - 1:
            print(f"step {step} loss {loss.item()!r}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

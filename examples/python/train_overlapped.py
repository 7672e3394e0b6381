"""Data-parallel training in which gradients travel while the backward pass goes on.

    tutti run -n 4 python examples/python/train_overlapped.py

The network and the data are those of train_digits.py, which adds up all gradients after the backward pass.  Here each
goes into a bucket as soon as it is known, from the last layer to the first, and a full bucket is reduced while the
layers before it are still computed.  A sum does not depend on when it is made, nor, where it is deterministic, on what
is added up beside it: with --check, a second training without overlap must reach the same parameters, bit by bit.
"""

import argparse
import sys

import train_digits  # first, since it sets OMP_NUM_THREADS before NumPy is loaded

import numpy as np

import tutti


def backward(params, x, y):
    """Yields the index and the gradient of each parameter, the last layer first: sums over the samples of ``x``."""
    activations = train_digits.forward(params, x)
    logits = activations[-1] - activations[-1].max(axis=1, keepdims=True, initial=0)
    delta = np.exp(logits)
    delta /= delta.sum(axis=1, keepdims=True)
    delta[np.arange(len(y)), y] -= 1
    for i in reversed(range(0, len(params), 2)):
        yield i + 1, delta.sum(axis=0)
        yield i, activations[i // 2].T @ delta
        if i > 0:
            delta = (delta @ params[i].T) * (activations[i // 2] > 0)


class Overlapped:
    """Sums the gradients of a step over the ranks, while they are computed."""

    def __init__(self, comm, params, bucket_bytes):
        self.buckets = tutti.Buckets(comm, params, bucket_bytes, op="sum")

    def gradients(self, params, x, y):
        for i, gradient in backward(params, x, y):
            self.buckets.add(i, gradient)
        return self.buckets.wait()


class Afterwards:
    """The same without overlap."""

    def __init__(self, comm):
        self.comm = comm

    def gradients(self, params, x, y):
        found = dict(backward(params, x, y))
        return self.comm.all_reduce([found[i] for i in range(len(params))])


def train(comm, reducer, params, arguments):
    (images, labels), _ = train_digits.load()
    optimizer = train_digits.Adam(params, rate=0.002)
    shuffle = np.random.default_rng(arguments.seed)  # the same order on every rank
    for epoch in range(1, arguments.epochs + 1):
        order = shuffle.permutation(len(labels))
        for first in range(0, len(order), arguments.batch):
            batch = order[first : first + arguments.batch]
            mine = batch[comm.rank :: comm.size]
            gradients = reducer.gradients(params, images[mine], labels[mine])
            optimizer.update(params, [gradient / len(batch) for gradient in gradients])
        train_digits.check_equal(comm, params, epoch)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64, help="samples in a global batch, over all ranks")
    parser.add_argument("--bucket-bytes", type=int, default=1 << 14, help="small, as the network is")
    parser.add_argument("--seed", type=int, default=1, help="of the first parameters and of the shuffling")
    parser.add_argument("--check", action="store_true", help="also train without overlap, and compare")
    arguments = parser.parse_args()
    with tutti.init(deterministic=int(arguments.check)) as comm:
        params = comm.broadcast(train_digits.make_params(arguments.seed + comm.rank), root=0)
        others = [p.copy() for p in params]
        overlapped = Overlapped(comm, params, arguments.bucket_bytes)
        train(comm, overlapped, params, arguments)
        if arguments.check:
            train(comm, Afterwards(comm), others, arguments)
            if not all(np.array_equal(p, q) for p, q in zip(params, others)):
                raise SystemExit("without overlap, training reaches other parameters")
        if comm.rank == 0:
            _, test = train_digits.load()
            print(f"{comm.size} ranks, {len(overlapped.buckets)} buckets")
            print(f"accuracy {train_digits.accuracy(params, test):.4f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

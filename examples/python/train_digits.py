"""Data-parallel training of a small neural network on the handwritten digits of scikit-learn.

    tutti run -n 4 python examples/python/train_digits.py

It also runs under torchrun and mpirun, and alone.  Every rank holds all parameters and computes the gradients
of its part of each global batch; one fused all_reduce per step adds them up.  The sum of all samples' gradients
is divided by the size of the global batch, so that the result is that of one process with the same batch,
whether or not the batch can be divided by the number of ranks: only the rounding differs, by the order of the
additions, which the accuracy hardly shows (NOISE below).
"""

import argparse
import hashlib
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: the ranks share the cores, the matrices are small

import numpy as np
from sklearn.datasets import load_digits

import tutti

LAYERS = (64, 128, 64, 10)
NOISE = 0.01  # of accuracy, between one process and several: 3 of the 360 test samples


def load():
    """Training and test data: 1437 and 360 images of 64 pixels in [0, 1], the same on every rank."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.data[order] / 16).astype(np.float32)
    labels = digits.target[order]
    return (images[360:], labels[360:]), (images[:360], labels[:360])


def make_params(seed):
    """A weight matrix and a bias vector for each layer."""
    random = np.random.default_rng(seed)
    params = []
    for inputs, outputs in zip(LAYERS, LAYERS[1:]):
        params.append((random.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)).astype(np.float32))
        params.append(np.zeros(outputs, np.float32))
    return params


def forward(params, x):
    """The activations of every layer; the last are the logits."""
    activations = [x]
    for i in range(0, len(params), 2):
        x = x @ params[i] + params[i + 1]
        if i + 2 < len(params):
            x = np.maximum(x, 0)
        activations.append(x)
    return activations


def loss_and_gradients(params, x, y):
    """Sums, not means, over the samples of ``x``, of which there may be none."""
    activations = forward(params, x)
    logits = activations[-1]
    logits = logits - logits.max(axis=1, keepdims=True, initial=0)
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = -np.log(probabilities[rows, y] + 1e-12).sum(dtype=np.float64)
    delta = probabilities
    delta[rows, y] -= 1
    gradients = [None] * len(params)
    for i in reversed(range(0, len(params), 2)):
        gradients[i] = activations[i // 2].T @ delta
        gradients[i + 1] = delta.sum(axis=0)
        if i > 0:
            delta = (delta @ params[i].T) * (activations[i // 2] > 0)
    return loss, gradients


class Adam:
    """Kingma and Ba 2015."""

    def __init__(self, params, rate):
        self.rate = rate
        self.step = 0
        self.means = [np.zeros_like(p) for p in params]
        self.squares = [np.zeros_like(p) for p in params]

    def update(self, params, gradients):
        self.step += 1
        rate = self.rate * np.sqrt(1 - 0.999**self.step) / (1 - 0.9**self.step)
        for p, g, m, v in zip(params, gradients, self.means, self.squares):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            p -= np.float32(rate) * m / (np.sqrt(v) + 1e-8)


def accuracy(params, data):
    x, y = data
    return float((forward(params, x)[-1].argmax(axis=1) == y).mean())


def check_equal(comm, params, epoch):
    """Fails on every rank unless all hold the same parameters, bit by bit."""
    digest = hashlib.sha256(b"".join(p.tobytes() for p in params)).digest()
    digests = comm.all_gather(np.frombuffer(digest, np.uint8))
    differing = [rank for rank in range(comm.size) if (digests[rank] != digests[0]).any()]
    if differing:
        raise SystemExit(f"epoch {epoch}: the parameters of ranks {differing} differ from those of rank 0")


def train(comm, arguments, report):
    """Returns the accuracy on the test data."""
    (images, labels), test = load()
    params = make_params(arguments.seed + comm.rank)  # those of rank 0 count
    comm.broadcast(params, root=0)
    optimizer = Adam(params, rate=0.002)
    shuffle = np.random.default_rng(arguments.seed)  # the same order on every rank
    for epoch in range(1, arguments.epochs + 1):
        began = time.perf_counter()
        total_loss = 0.0
        order = shuffle.permutation(len(labels))
        for first in range(0, len(order), arguments.batch):
            batch = order[first : first + arguments.batch]
            mine = batch[comm.rank :: comm.size]
            loss, gradients = loss_and_gradients(params, images[mine], labels[mine])
            loss = np.array(loss)
            comm.all_reduce([*gradients, loss], op="sum")
            for gradient in gradients:
                gradient /= len(batch)
            optimizer.update(params, gradients)
            total_loss += float(loss)
        seconds = time.perf_counter() - began
        check_equal(comm, params, epoch)
        if report:
            print(
                f"epoch {epoch:2d}  loss {total_loss / len(order):.4f}  accuracy {accuracy(params, test):.4f}  "
                f"{len(order) / seconds:7.0f} samples/s",
                flush=True,
            )
    return accuracy(params, test)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64, help="samples in a global batch, over all ranks")
    parser.add_argument("--seed", type=int, default=1, help="of the first parameters and of the shuffling")
    parser.add_argument(
        "--check-single",
        action="store_true",
        help=f"also train in one process, and fail when the accuracies differ by more than {NOISE}",
    )
    arguments = parser.parse_args()
    with tutti.init() as comm:
        reached = train(comm, arguments, report=comm.rank == 0)
        if arguments.check_single and comm.rank == 0:
            with tutti.init(rank=0, size=1) as alone:
                single = train(alone, arguments, report=False)
            print(f"{comm.size} ranks {reached:.4f}, one process {single:.4f}, noise allowed {NOISE}", flush=True)
            if abs(reached - single) > NOISE:
                raise SystemExit("the accuracies differ by more than that")
        if comm.rank == 0:
            print(f"accuracy {reached:.4f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

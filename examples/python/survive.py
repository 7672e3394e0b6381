"""Data-parallel training that goes on when ranks die.

    tutti run -n 4 --keep-going python examples/python/survive.py --kill 2 --at 40

Rank 2 kills itself at step 40; the other three re-form the group and go on from the newest state that one of them
has.  Every sample of the global batch still counts, so the result is that of a run in which nobody dies.

The rendezvous lives in `tutti run` and not in a rank, so any rank may die, rank 0 as well; without --keep-going
`tutti run` would end the job 10 s after the first that does.
"""

import argparse
import os
import signal
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: the ranks share the cores, the matrices are small

import numpy as np

import tutti

FEATURES = 20


class State:
    """All that a step changes: what a checkpoint would hold."""

    def __init__(self, seed):
        self.step = 0
        self.params = [np.random.default_rng(seed).standard_normal(FEATURES), np.zeros(1)]


def make_samples(count, seed):
    """Points on two sides of a plane, one in fifty on the wrong side; the same on every rank."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((count, FEATURES))
    y = x.sum(axis=1) > 1
    return x, y ^ (random.random(count) < 0.02)


def gradients(params, x, y):
    """Sums over the samples, not means: how many a rank has depends on how many ranks there are."""
    weights, bias = params
    error = 1 / (1 + np.exp(-(x @ weights + bias))) - y
    return [x.T @ error, error.sum(keepdims=True)]


def share(comm, state):
    """Gives every rank the newest state that one of them has: some may have failed a step before the others."""
    steps = comm.all_gather(state.step)
    newest = int(steps.argmax())
    # Into a copy, because a call that fails may leave anything in its buffers.
    params = comm.broadcast([p.copy() for p in state.params], root=newest)
    state.step, state.params = int(steps[newest]), params


def train(comm, state, samples, arguments):
    x, y = samples
    while state.step < arguments.steps:
        if state.step == arguments.at and comm.rank == arguments.kill and comm.generation == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        mine = slice(comm.rank, None, comm.size)
        grads = comm.all_reduce(gradients(state.params, x[mine], y[mine]))
        for p, g in zip(state.params, grads):
            p -= g / len(y)
        state.step += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--kill", type=int, metavar="RANK", help="this rank kills itself")
    parser.add_argument("--at", type=int, metavar="STEP", default=40, help="when it does")
    arguments = parser.parse_args()
    samples = make_samples(4000, seed=1)
    state = State(seed=2)
    with tutti.init() as comm:
        while True:
            try:
                share(comm, state)
                train(comm, state, samples, arguments)
                break
            except tutti.Error as error:
                print(f"rank {comm.rank} at step {state.step}: {error}", file=sys.stderr, flush=True)
                comm = comm.reform()  # which the with block ends as well
                print(f"now rank {comm.rank} of {comm.size}, without {comm.reformed.lost or 'loss'}", flush=True)
        if comm.rank == 0:
            x, y = make_samples(1000, seed=3)
            weights, bias = state.params
            accuracy = ((x @ weights + bias > 0) == y).mean()
            print(f"{comm.size} ranks, {state.step} steps, accuracy {accuracy:.4f}", flush=True)


if __name__ == "__main__":
    main()

"""Random sequences of mixed operations, blocking and asynchronous, over several communicators and threads.

TUTTI_TEST_EXAMPLES=1000 runs as many for each number of ranks, and a third of them between hosts.
"""

import os
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ranks import TYPES, keywords, numbers, reduced, reductions

import tutti

EXAMPLES = int(os.environ.get("TUTTI_TEST_EXAMPLES", "30"))
#: Seconds for one number of ranks.
LIMIT = 120 + EXAMPLES

#: By how much the first axis of some arrays is longer: then they do not fit a cache line.
LONG = 300

_REDUCE = ["all_reduce", "reduce", "reduce_scatter", "reduce_scatter_v"]
_COLLECTIVES = [*_REDUCE, "broadcast", "all_gather", "gather", "scatter", "all_to_all", "all_gather_v", "gather_v",
                "scatter_v", "all_to_all_v"]  # fmt: skip
_ROOTED = ["reduce", "broadcast", "gather", "scatter", "gather_v", "scatter_v"]
_SINGLE = [name for name in _COLLECTIVES if name.endswith("_v")]

_shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)
_steps = st.fixed_dictionaries(
    {
        "name": st.sampled_from([*_COLLECTIVES, "barrier", "messages"]),
        "on": st.integers(0, 3),
        "shapes": st.lists(_shapes, min_size=1, max_size=3),
        "dtype": st.sampled_from(TYPES),
        "op": st.integers(0, 99),
        "root": st.integers(0, 99),
        "out": st.booleans(),
        "symmetric": st.sampled_from([0, 0, 0b11111, 0b01101]),  # ranks whose arrays are in symmetric memory
        "long": st.booleans(),
        "is_list": st.booleans(),
        "how": st.sampled_from(["blocking", "asynchronous", "planned"]),
        "seed": st.integers(0, 2**32 - 1),
    }
)


class Step:
    """One operation on one communicator: its arguments, and what it must return."""

    def __init__(self, comm, step):
        self.comm, self.step = comm, step
        self.name, self.dtype, self.how = step["name"], step["dtype"], step["how"]
        self.root = step["root"] % comm.size
        names = reductions(self.dtype)
        self.op = names[step["op"] % len(names)]
        self.is_list = step["is_list"] and self.name not in _SINGLE
        self.arguments = []  # of the operation, for each array of the list
        self.outs, self.expected = [], []
        self.symmetric = step["symmetric"] >> comm.rank & 1
        for i, shape in enumerate(step["shapes"] if self.is_list else step["shapes"][:1]):
            if step["long"] and shape:
                shape = (LONG * shape[0], *shape[1:])
            getattr(self, f"_prepare_{self.name}", self._prepare_reduction)(shape, step["seed"] + i)

    def _every(self, shape, seed):
        return [numbers(r, shape, self.dtype, seed) for r in range(self.comm.size)]

    def _place(self, array):
        """The same in the memory that the step asks for."""
        if not self.symmetric or array is None:
            return array
        place = self.comm.empty(array.shape, array.dtype)
        place[...] = array
        return place

    def _add(self, argument, expected):
        self.arguments.append(self._place(argument))
        self.expected.append(expected)
        self.outs.append(None if expected is None else self._place(np.zeros(expected.shape, self.dtype)))

    def _counts(self, seed):
        """Rows of each rank, the same on every rank."""
        return [int(n) for n in np.random.default_rng(seed).integers(0, 5, self.comm.size)]

    def _if_root(self, value):
        return value if self.comm.rank == self.root else None

    def _prepare_reduction(self, shape, seed):
        n, rank = self.comm.size, self.comm.rank
        if self.name == "reduce_scatter":
            shape = (n * (shape[0] if shape else 1), *shape[1:])
        if self.name == "reduce_scatter_v":
            self.counts = self._counts(seed)
            shape = (sum(self.counts), *shape[1:])
        every = self._every(shape, seed)
        total = reduced(every, self.op)
        if self.name == "reduce_scatter":
            total = np.split(total, n)[rank]
        if self.name == "reduce_scatter_v":
            total = np.split(total, np.cumsum(self.counts)[:-1])[rank]
        self._add(every[rank].copy(), self._if_root(total) if self.name == "reduce" else total)

    def _prepare_broadcast(self, shape, seed):
        every = self._every(shape, seed)
        self._add(every[self.comm.rank].copy(), every[self.root])

    def _prepare_all_gather(self, shape, seed):
        every = self._every(shape, seed)
        self._add(every[self.comm.rank], np.stack(every))

    def _prepare_gather(self, shape, seed):
        every = self._every(shape, seed)
        self._add(every[self.comm.rank], self._if_root(np.stack(every)))

    def _prepare_scatter(self, shape, seed):
        whole = numbers(self.root, (self.comm.size, *shape), self.dtype, seed)
        self._add(self._if_root(whole), whole[self.comm.rank])

    def _prepare_all_to_all(self, shape, seed):
        n, rank = self.comm.size, self.comm.rank
        every = self._every((n * (shape[0] if shape else 1), *shape[1:]), seed)
        self._add(every[rank].copy(), np.concatenate([np.split(x, n)[rank] for x in every]))

    def _prepare_all_gather_v(self, shape, seed):
        self.counts = self._counts(seed)
        every = [numbers(r, (count, *shape[1:]), self.dtype, seed) for r, count in enumerate(self.counts)]
        self._add(every[self.comm.rank], np.concatenate(every))

    def _prepare_gather_v(self, shape, seed):
        self._prepare_all_gather_v(shape, seed)
        self.expected[-1] = self._if_root(self.expected[-1])

    def _prepare_scatter_v(self, shape, seed):
        self.counts = self._counts(seed)
        whole = numbers(self.root, (sum(self.counts), *shape[1:]), self.dtype, seed)
        self._add(self._if_root(whole), np.split(whole, np.cumsum(self.counts)[:-1])[self.comm.rank])

    def _prepare_all_to_all_v(self, shape, seed):
        n, rank = self.comm.size, self.comm.rank
        table = np.random.default_rng(seed).integers(0, 4, (n, n))
        every = [numbers(r, (int(table[r].sum()), *shape[1:]), self.dtype, seed) for r in range(n)]
        self.counts = table[rank], table[:, rank]
        parts = [np.split(x, np.cumsum(table[r])[:-1]) for r, x in enumerate(every)]
        self._add(every[rank], np.concatenate([part[rank] for part in parts]))

    def _prepare_barrier(self, shape, seed):
        pass

    def _prepare_messages(self, shape, seed):
        n, rank = self.comm.size, self.comm.rank
        self.tag = seed % 1000
        self._add(numbers(rank, shape, self.dtype, seed), numbers((rank - 1) % n, shape, self.dtype, seed))

    # ---- Making it ---------------------------------------------------------------------------------------

    def start(self):
        self.result = getattr(self, f"_start_{self.name}", self._start_collective)()

    def _start_barrier(self):
        return self.comm.barrier(async_op=self.how == "asynchronous")

    def _start_messages(self):
        n, rank = self.comm.size, self.comm.rank
        messages = [tutti.Send(x, (rank + 1) % n, self.tag) for x in self.arguments]
        messages += [tutti.Recv(out, (rank - 1) % n, self.tag) for out in self.outs]
        return self.comm.batch(messages, async_op=self.how == "asynchronous")

    def _start_collective(self):
        options = {}
        if self.name in _REDUCE:
            options = keywords(self.op, self.comm.rank)
        if self.name in _ROOTED:
            options["root"] = self.root
        if self.name == "all_to_all_v":
            options["send_counts"], options["recv_counts"] = self.counts
        elif self.name in _SINGLE and not (self.name == "gather_v" and self._if_root(1) is None):
            options["counts"] = self.counts
        x = self.arguments if self.is_list else self.arguments[0]
        has_outs = self.name != "broadcast" and self.expected[0] is not None
        if self.name in ("scatter", "scatter_v") and self._if_root(1) is None:
            x = None
        elif not self.step["out"]:
            has_outs = False
        if has_outs:
            options["out"] = self.outs if self.is_list else self.outs[0]
        if self.how == "planned":
            return getattr(self.comm, f"plan_{self.name}")(x, **options)()
        return getattr(self.comm, self.name)(x, async_op=self.how == "asynchronous", **options)

    def check(self):
        result = self.result.wait() if self.how == "asynchronous" else self.result
        if self.name == "messages":
            n, rank = self.comm.size, self.comm.rank
            assert result[: len(self.outs)] == [None] * len(self.outs), self.step
            for got, out in zip(result[len(self.outs) :], self.outs):
                assert got == ((rank - 1) % n, self.tag, out.size), self.step
            result = self.outs if self.is_list else self.outs[0]
        if not self.expected or self.expected[0] is None:
            assert result is None, self.step
            return
        for a, b in zip(result if self.is_list else [result], self.expected):
            np.testing.assert_array_equal(a, b, str(self.step))
            assert a.dtype == b.dtype and a.shape == b.shape, self.step


_families = {}


def _family(comm):
    """The group itself and three of its members' making, the same on every rank; made once."""
    if comm not in _families:
        _families.clear()
        backwards = comm.subgroup(list(reversed(range(comm.size))))
        _families[comm] = [comm, comm.split(comm.rank % 2), backwards, backwards.split(0 if comm.rank else None)]
    return _families[comm]


def _run_steps(comm, steps):
    done = [Step(comm, step) for step in steps]
    for step in done:
        step.start()
    for step in reversed(done):
        step.check()


def _run(comm, steps, threaded):
    family = _family(comm)
    assert [member and member.size for member in family][::2] == [comm.size] * 2
    chosen = [(family[step["on"]], step) for step in steps if family[step["on"]] is not None]
    if not threaded:
        done = [Step(member, step) for member, step in chosen]
        for step in done:
            step.start()
        for step in reversed(done):
            step.check()
        return
    errors = []

    def run(member):
        try:
            _run_steps(member, [step for on, step in chosen if on is member])
        except BaseException as error:
            comm.abort(f"rank {comm.rank}: {error}")
            errors.append(error)

    threads = [threading.Thread(target=run, args=(member,)) for member in family if member is not None]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _given_sequences(examples):
    """Runs a test with random sequences."""

    # Not shrunk: after a failure the group must be made anew, which takes long; and the sequences are short anyway.
    configured = settings(
        max_examples=examples,
        deadline=None,
        print_blob=True,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    sequences = given(steps=st.lists(_steps, min_size=1, max_size=10), threaded=st.booleans())
    return lambda test: pytest.mark.timeout(LIMIT)(configured(sequences(test)))


@_given_sequences(EXAMPLES)
def test_any_sequence_of_operations_gives_what_numpy_gives(any_group, steps, threaded):
    any_group(_run, steps, threaded)


@_given_sequences(EXAMPLES // 3 + 1)
def test_any_sequence_of_operations_gives_the_same_between_hosts(two_hosts, steps, threaded):
    two_hosts(_run, steps, threaded)

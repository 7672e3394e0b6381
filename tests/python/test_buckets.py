"""Gradient buckets: what they sum, when they send, and what they say of mistakes."""

import re
import threading
from pathlib import Path

import numpy as np
import pytest
from ranks import signal_peers, wait_for_peers

import tutti

EXAMPLE = Path(__file__).parents[2] / "examples" / "python" / "train_overlapped.py"


def _params():
    return [np.zeros((4, 3), np.float32), np.zeros(3, np.float32), np.zeros((2, 2)), np.zeros((), np.float32),
            np.zeros((0, 5), np.float32)]  # fmt: skip


def _gradient(rank, step, i, like):
    return np.full(like.shape, rank + 10 * step + i, like.dtype)


def _sums(comm, bucket_bytes):
    params = _params()
    buckets = tutti.Buckets(comm, params, bucket_bytes, op="sum")
    ranks = sum(range(comm.size))
    for step in range(3):
        # Not in the same order on every rank: a bucket goes when all before it have gone.
        order = list(range(len(params)))
        np.random.default_rng([step, comm.rank]).shuffle(order)
        for i in order:
            buckets.add(i, _gradient(comm.rank, step, i, params[i]))
        sums = buckets.wait()
        assert [s.shape for s in sums] == [p.shape for p in params]
        for i, (s, p) in enumerate(zip(sums, params)):
            assert s.dtype == p.dtype and (s == ranks + comm.size * (10 * step + i)).all()
    return len(buckets)


@pytest.mark.parametrize("bucket_bytes, count", [(1, 5), (17, 3), (1 << 20, 2)])
def test_buckets_reduce_gradients_in_whatever_order_they_come(any_group, bucket_bytes, count):
    assert any_group(_sums, bucket_bytes) == [count] * any_group.size


def _averages_by_name(comm):
    params = {"w": np.zeros((2, 2), np.float32), "b": np.zeros(2, np.float32)}
    buckets = tutti.Buckets(comm, params)
    got = buckets.all_reduce({"b": [np.float32(comm.rank)] * 2, "w": np.ones((2, 2), np.float32)})
    assert list(got) == ["w", "b"]
    return got["b"].tolist(), got["w"].tolist()


def test_a_dict_of_parameters_gives_a_dict_of_averages(group):
    mean = float(np.float32(sum(range(group.size))) / np.float32(group.size))
    assert group(_averages_by_name) == [([mean] * 2, [[1.0, 1.0], [1.0, 1.0]])] * group.size


def _starts_early(comm, path):
    """Rank 1 adds its first gradient only when the bucket of rank 0 is under way: which it was not asked to be."""
    params = [np.zeros(4, np.float32)] * 3
    buckets = tutti.Buckets(comm, params, bucket_bytes=16)
    assert len(buckets) == 3
    if comm.rank == 0:
        buckets.add(2, np.ones(4, np.float32))
        assert len(comm._works) == 1
        buckets.add(0, np.ones(4, np.float32))  # full, but its turn comes after that of 1
        assert len(comm._works) == 1
        signal_peers(path)
        buckets.add(1, np.ones(4, np.float32))
    else:
        wait_for_peers(path)
        for i in (2, 1, 0):
            buckets.add(i, np.zeros(4, np.float32))
    return [g.tolist() for g in buckets.wait()]


def test_a_full_bucket_is_sent_while_others_are_filled(pair, tmp_path):
    assert pair(_starts_early, str(tmp_path / "early")) == [[[0.5] * 4] * 3] * 2


def _like(comm):
    class Foreign:
        """An array of another framework, which NumPy can read."""

        def __init__(self, array):
            self.array = array
            self.shape, self.dtype = array.shape, array.dtype

        def __array__(self, dtype=None, copy=None):
            return self.array

    params = [Foreign(np.zeros(3, np.float32)), Foreign(np.zeros(2))]
    buckets = tutti.Buckets(comm, params, op="max", like=Foreign)
    first = buckets.all_reduce([Foreign(np.full(3, comm.rank, np.float32)), Foreign(np.zeros(2))])
    buckets.all_reduce([Foreign(np.full(3, 7, np.float32)), Foreign(np.ones(2))])
    assert isinstance(first[0], Foreign)
    return first[0].array.tolist()  # a copy: the next step has not changed it


def test_results_are_made_by_the_function_like(group):
    assert group(_like) == [[group.size - 1] * 3] * group.size


def _bfloat16(comm):
    import ml_dtypes

    buckets = tutti.Buckets(comm, [np.zeros(3, ml_dtypes.bfloat16)], op="sum")
    (result,) = buckets.all_reduce([np.ones(3, ml_dtypes.bfloat16)])
    return result.dtype == ml_dtypes.bfloat16 and result.astype(float).tolist()


def test_bfloat16_gradients_have_buckets_too(group):
    pytest.importorskip("ml_dtypes")
    assert group(_bfloat16) == [[group.size] * 3] * group.size


def _threads(comm):
    params = [np.zeros(100, np.float32) for _ in range(20)]
    buckets = tutti.Buckets(comm, params, bucket_bytes=1000, op="sum")

    def add(part):
        for i in part:
            buckets.add(i, np.full(100, i, np.float32))

    threads = [threading.Thread(target=add, args=(range(first, 20, 4),)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [float(g[0]) for g in buckets.wait()] == [i * comm.size for i in range(20)]


def test_gradients_are_added_by_any_thread(group):
    group(_threads)


def test_mistakes_are_named_and_can_be_mended(alone):
    params = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float32)}
    buckets = tutti.Buckets(alone, params)
    assert repr(buckets) == "<tutti.Buckets 1 of 36 bytes for 2 parameters>"
    with pytest.raises(KeyError, match="'c' is none of the parameters"):
        buckets.add("c", np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"the gradient of 'b' has shape \(2,\), but its parameter has \(3,\)"):
        buckets.add("b", np.zeros(2, np.float32))
    with pytest.raises(TypeError, match=r"dtype float64, but its parameter has float32: pass gradient\.astype"):
        buckets.add("b", np.zeros(3))
    buckets.add("b", np.ones(3, np.float32))
    with pytest.raises(ValueError, match="the gradient of 'b' has been added before in this step"):
        buckets.add("b", np.ones(3, np.float32))
    with pytest.raises(ValueError, match=r"1 of 2 gradients were not added in this step, those of 'w': .*add\(key, N"):
        buckets.wait()
    buckets.add("w", None)
    result = buckets.wait()
    assert (result["w"] == 0).all() and (result["b"] == 1).all()
    with pytest.raises(ValueError, match="gradients differ from the parameters in .*'b'"):
        buckets.all_reduce({"w": None})
    with pytest.raises(ValueError, match="op is 'mean'"):
        tutti.Buckets(alone, params, op="mean")
    with pytest.raises(ValueError, match="bucket_bytes is 0"):
        tutti.Buckets(alone, params, bucket_bytes=0)
    with pytest.raises(TypeError, match=r"params\[0\] has dtype complex128"):
        tutti.Buckets(alone, [np.zeros(3, complex)])
    assert tutti.Buckets(alone, []).wait() == []


def _fails(comm):
    buckets = tutti.Buckets(comm, [np.zeros(3)])
    if comm.rank == 1:
        comm.abort("no more data")
    with pytest.raises(tutti.AbortedError, match="no more data"):
        buckets.all_reduce([np.ones(3)])
    return True


def test_a_failure_of_the_group_is_raised():
    assert tutti.spawn(_fails, 2, timeout=60) == [True, True]


# ---- The training example ----------------------------------------------------------------------------------


def _accuracy(text):
    return float(re.fullmatch(r"accuracy (0\.\d{4})", text.splitlines()[-1]).group(1))


@pytest.mark.parametrize("size", [1, 3])
def test_overlapped_training_gives_the_same_bits_as_training_without_overlap(run_ranks, size):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: the example is not tested")
    ranks = run_ranks(size, EXAMPLE, "--check", "--epochs", "12")
    assert [rank.code for rank in ranks] == [0] * size, ranks
    assert _accuracy(ranks[0].out) > 0.9 and "4 buckets" in ranks[0].out
    assert [rank.out for rank in ranks[1:]] == [""] * (size - 1)


def test_jax_arrays_go_in_and_come_back(alone):
    jax = pytest.importorskip("jax", reason="jax is not installed: its arrays are not tested")
    params = {"w": jax.numpy.ones((3, 2)), "b": jax.numpy.zeros(2)}
    leaves, tree = jax.tree.flatten(params)
    buckets = tutti.Buckets(alone, leaves, like=jax.numpy.asarray)
    gradients = jax.grad(lambda p: (p["w"].sum() + 2 * p["b"].sum()))(params)
    reduced = jax.tree.unflatten(tree, buckets.all_reduce(jax.tree.leaves(gradients)))
    assert isinstance(reduced["w"], jax.Array) and reduced["b"].tolist() == [2, 2]

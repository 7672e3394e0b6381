"""Collectives whose parts have different lengths, compared with NumPy."""

import numpy as np
from ranks import keywords, numbers, reduced, reductions


def _rows(rank, count, dtype="float32"):
    return numbers(rank, (count, 3), dtype, seed=count)


def _counts(size):
    """Some of zero, none alike."""
    return [(3 * rank + 2) % 7 for rank in range(size)]


def _all_gathers(comm):
    counts = _counts(comm.size)
    x = _rows(comm.rank, counts[comm.rank])
    expected = np.concatenate([_rows(r, count) for r, count in enumerate(counts)])
    np.testing.assert_array_equal(comm.all_gather_v(x, comm.all_gather(len(x))), expected)
    out = np.zeros_like(expected)
    assert comm.all_gather_v(x, counts, out=out, async_op=True).wait() is out
    np.testing.assert_array_equal(out, expected)
    # Parts in the opposite order, with a row between them, this rank's already in its place.
    offsets = [sum(counts[r + 1 :]) + comm.size - r for r in range(comm.size)]
    out = np.full((sum(counts) + comm.size + 1, 3), -9, np.float32)
    own = out[offsets[comm.rank] : offsets[comm.rank] + counts[comm.rank]]
    own[:] = x
    comm.all_gather_v(own, counts, out=out, offsets=offsets)
    for r, count in enumerate(counts):
        np.testing.assert_array_equal(out[offsets[r] : offsets[r] + count], _rows(r, count))
        assert (out[offsets[r] - 1] == -9).all()


def test_all_gather_v_joins_parts_along_the_first_axis(any_group):
    any_group(_all_gathers)


def _gathers_and_scatters(comm):
    counts = _counts(comm.size)
    for root in range(comm.size):
        receives = comm.rank == root
        x = _rows(comm.rank, counts[comm.rank], "int16")
        expected = np.concatenate([_rows(r, count, "int16") for r, count in enumerate(counts)])
        whole = comm.gather_v(x, counts if receives else None, root=root)
        if not receives:
            assert whole is None
            out = np.zeros_like(x)
            assert comm.scatter_v(root=root, out=out) is out
            np.testing.assert_array_equal(out, x)
            continue
        np.testing.assert_array_equal(whole, expected)
        part = comm.scatter_v(whole, counts, root=root)
        np.testing.assert_array_equal(part, x)


def test_gather_v_and_scatter_v_are_opposites(any_group):
    any_group(_gathers_and_scatters)


def _offsets_on_the_root(comm):
    n, root = comm.size, comm.size - 1
    counts, offsets = [2] * n, [3 * (n - 1 - r) for r in range(n)]
    x = np.full(2, comm.rank)
    if comm.rank != root:
        comm.gather_v(x, root=root)
        return comm.scatter_v(root=root, out=np.zeros(2, np.int64)).tolist()
    out = np.full(3 * n, -1)
    comm.gather_v(x, counts, root=root, out=out, offsets=offsets)
    assert out.reshape(n, 3).tolist() == [[r, r, -1] for r in reversed(range(n))]
    return comm.scatter_v(out, counts, root=root, offsets=offsets).tolist()


def test_parts_lie_where_offsets_say(group):
    assert group(_offsets_on_the_root) == [[r, r] for r in range(group.size)]


def _reduce_scatters(comm):
    counts = _counts(comm.size)
    begin = sum(counts[: comm.rank])
    for dtype in ("float32", "float16", "int64", "bool", "complex64"):
        for op in reductions(dtype):
            every = [numbers(r, (sum(counts), 3), dtype, seed=1) for r in range(comm.size)]
            expected = reduced(every, op)[begin : begin + counts[comm.rank]]
            x = every[comm.rank].copy()
            np.testing.assert_array_equal(
                comm.reduce_scatter_v(x, counts, **keywords(op, comm.rank)), expected, f"{op} of {dtype}"
            )
            np.testing.assert_array_equal(x, every[comm.rank])
            own = x[begin : begin + counts[comm.rank]]
            assert comm.reduce_scatter_v(x, counts, out=own, **keywords(op, comm.rank)) is own
            np.testing.assert_array_equal(own, expected)


def test_reduce_scatter_v_leaves_each_rank_its_rows(any_group):
    any_group(_reduce_scatters)


def _all_to_alls(comm):
    n, rank = comm.size, comm.rank
    table = np.array([[(2 * a + 3 * b) % 5 for b in range(n)] for a in range(n)])  # rows from a to b
    every = [numbers(r, (table[r].sum(), 2), np.int32, seed=3) for r in range(n)]
    parts = [np.split(x, np.cumsum(table[r])[:-1]) for r, x in enumerate(every)]
    expected = np.concatenate([parts[r][rank] for r in range(n)])
    recv_counts = comm.all_to_all(table[rank])
    assert recv_counts.tolist() == table[:, rank].tolist()
    np.testing.assert_array_equal(comm.all_to_all_v(every[rank], table[rank], recv_counts), expected)
    # The parts for the ranks in the opposite order in x, a row apart in out.
    order = list(reversed(range(n)))
    x = np.concatenate([parts[rank][r] for r in order])
    send_offsets = [int(table[rank][r + 1 :].sum()) for r in range(n)]
    recv_offsets = [int(table[:r, rank].sum()) + r for r in range(n)]
    out = np.full((expected.shape[0] + n, 2), -9, np.int32)
    comm.all_to_all_v(x, table[rank], recv_counts, out, send_offsets, recv_offsets)
    for r in range(n):
        np.testing.assert_array_equal(out[recv_offsets[r] : recv_offsets[r] + recv_counts[r]], parts[r][rank])
    assert (out == -9).all(axis=1).sum() >= n


def test_all_to_all_v_exchanges_parts_of_any_length(any_group):
    any_group(_all_to_alls)


def test_memory_of_other_kinds_has_rows_too(alone):
    x = bytearray(b"abc")
    assert alone.all_gather_v(x, [3]).tolist() == list(b"abc")
    assert bytes(alone.all_to_all_v(x, [3], [3])) == b"abc"

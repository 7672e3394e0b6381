"""Wrong arguments: each names the fix, uses up nothing, and leaves the group alive."""

import numpy as np
import pytest

import tutti

ones = np.ones(4, np.float32)

BAD = {
    "not contiguous": (ones[::2], ValueError, r"not contiguous in C order: pass np\.ascontiguousarray\(x\)"),
    "transposed": (np.ones((2, 3)).T, ValueError, r"np\.ascontiguousarray\(x\)"),
    "read-only": (np.frombuffer(b"abcd", np.uint8), ValueError, r"read-only.*pass x\.copy\(\), or out="),
    "bytes": (b"abc", ValueError, r"read-only.*pass bytearray\(x\), or out="),
    "memoryview with a step": (memoryview(bytearray(8))[::2], ValueError, "not contiguous"),
    "byte order": (ones.astype(">f4"), TypeError, r"x\.astype\(x\.dtype\.newbyteorder\('='\)\)"),
    "complex": (ones.astype(complex), TypeError, r"pass x\.astype\(np\.complex64\), or x\.view\(np\.float64\)"),
    "uint16": (ones.astype(np.uint16), TypeError, r"uint16.*pass x\.astype\(np\.int64\)"),
    "objects": (np.array([{}]), TypeError, "object.*pass np.asarray"),
    "text": (np.array(["a"]), TypeError, r"<U1.*pass x\.astype\(np\.float64\)"),
    "dates": (np.ones(2, "M8[s]"), TypeError, "datetime64"),
    "a mask": (np.ma.array([1.0]), TypeError, r"pass x\.filled\(value\)"),
    "a string": ("abc", TypeError, r"str.*pass np\.asarray\(x\)"),
    "None": (None, TypeError, "NoneType"),
    "a bool": (True, TypeError, r"the sum of booleans counts nothing: pass int\(x\), or op='logical_or'"),
    "a NumPy bool": (np.bool_(True), TypeError, r"pass int\(x\)"),
    "a huge int": (2**70, ValueError, r"does not fit into an int64: pass float\(x\)"),
    "a complex scalar": (1j, TypeError, "complex128"),
    "a list of scalars": ([ones, 1.0], TypeError, r"x\[1\] is a float.*pass np\.array\(x\[1\]\)"),
    "a nested list": ([[ones]], TypeError, r"x\[0\] is a list: pass an array, or a flat list"),
    "a bad element": ([ones.copy(), ones[::2]], ValueError, r"x\[1\] .*np\.ascontiguousarray\(x\[1\]\)"),
}


@pytest.mark.parametrize("async_op", [False, True])
@pytest.mark.parametrize("case", BAD)
def test_an_argument_that_cannot_be_sent_raises_with_the_fix(alone, case, async_op):
    x, kind, text = BAD[case]
    with pytest.raises(kind, match=text):
        alone.all_reduce(x, async_op=async_op)
    assert alone.all_reduce(2) == 2


@pytest.mark.parametrize(
    "out, kind, text",
    [
        (np.zeros(4, np.float64), TypeError, "out has type float64, but x has float32"),
        (np.zeros(5, np.float32), ValueError, r"out has shape \(5,\), but \(4,\) is needed"),
        (np.zeros((4, 1), np.float32), ValueError, "out has shape"),
        (np.zeros(8, np.float32)[::2], ValueError, "out .*not contiguous"),
        ([np.zeros(4, np.float32)], TypeError, "out is a list"),
        (bytes(16), ValueError, "out .*read-only"),
        (1.0, TypeError, "out is a float"),
    ],
)
def test_a_wrong_out_raises_with_what_is_needed(alone, out, kind, text):
    with pytest.raises(kind, match=text):
        alone.all_reduce(ones, out=out)
    assert alone.all_reduce(2) == 2


def test_a_wrong_out_of_the_other_operations_raises_too(alone):
    with pytest.raises(ValueError, match=r"but \(1, 4\) is needed"):
        alone.all_gather(ones, out=np.zeros(4, np.float32))
    with pytest.raises(TypeError, match="out has type int32"):
        alone.gather(ones, out=np.zeros((1, 4), np.int32))
    with pytest.raises(ValueError, match=r"but \(4,\) is needed"):
        alone.reduce_scatter(ones, out=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="a list of 2 arrays: pass a list of as many as out"):
        alone.all_reduce([ones.copy(), ones.copy()], out=[ones.copy()])


def test_reductions_and_roots_and_timeouts_are_checked(alone):
    with pytest.raises(ValueError, match="op is 'mean': use one of sum, product, min, max, avg, bit_and"):
        alone.all_reduce(ones.copy(), op="mean")
    with pytest.raises(ValueError, match="op is 'add'"):
        alone.reduce_scatter(ones.copy(), op="add")
    with pytest.raises(ValueError, match="op='premultiplied_sum' needs factor="):
        alone.all_reduce(ones.copy(), op="premultiplied_sum")
    with pytest.raises(ValueError, match="factor is given, but op is 'sum'"):
        alone.reduce(ones.copy(), factor=2)
    for call in (alone.broadcast, alone.gather, alone.reduce):
        for root in (-1, 1):
            with pytest.raises(tutti.ArgumentError, match="root") as caught:
                call(ones.copy(), root=root)
            assert caught.value.code == -1 and isinstance(caught.value, ValueError)
        with pytest.raises(TypeError, match="root is a str: pass an integer"):
            call(ones.copy(), root="0")
        with pytest.raises(ValueError, match="root is .*out of range"):
            call(ones.copy(), root=2**31)
    for timeout in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="timeout is .*: pass a number of seconds greater than 0"):
            alone.barrier(timeout=timeout)
    alone.barrier(timeout=1e9)
    assert alone.all_reduce(2) == 2


def test_an_algorithm_that_there_is_not_is_refused_with_the_names(alone):
    with pytest.raises(tutti.ArgumentError, match="xyzzy.*ring"):
        alone.all_reduce(ones.copy(), algorithm="xyzzy")
    with pytest.raises(TypeError, match="algorithm is a int: pass its name"):
        alone.all_reduce(ones.copy(), algorithm=1)
    assert alone.all_reduce(2) == 2


def test_a_reduction_of_a_type_for_which_it_is_not_defined_is_refused(alone):
    for dtype, op in [("bool", "avg"), ("complex64", "max"), ("float32", "bit_or"), ("float64", "logical_and")]:
        with pytest.raises(tutti.ArgumentError):
            alone.all_reduce(np.ones(3, dtype), op=op)
    with pytest.raises(tutti.ArgumentError):
        alone.all_reduce(np.ones(3, np.int32), op="premultiplied_sum", factor=0.5)
    assert alone.all_reduce(2) == 2


def test_scatter_says_who_needs_what(alone):
    with pytest.raises(TypeError, match=r"rank 0 is the root: pass x, an array of shape \(1, \.\.\.\)"):
        alone.scatter(out=ones.copy())
    with pytest.raises(ValueError, match=r"its first axis must have the length 1.*x\[r\] goes to rank r"):
        alone.scatter(ones)
    with pytest.raises(ValueError, match=r"but \(4,\) is needed"):
        alone.scatter(ones.reshape(1, 4), out=np.zeros(5, np.float32))


def _missing_out(comm):
    if comm.rank == 1:
        for call in (comm.scatter, comm.scatter_v):
            with pytest.raises(TypeError, match="rank 1 is not the root, 0: pass out=, the array to receive into"):
                call(ones)
    return comm.all_reduce(1)


def test_a_receiver_of_scatter_needs_out(pair):
    assert pair(_missing_out) == [2, 2]


VARYING = {
    "no counts": (lambda c: c.all_gather_v(ones, None), TypeError, r"counts is missing.*comm\.all_gather\(len\(x\)\)"),
    "counts of other ranks": (lambda c: c.all_gather_v(ones, [4, 4]), ValueError, "for each of the 1 ranks"),
    "negative": (lambda c: c.reduce_scatter_v(ones, [-1]), ValueError, "an integer from 0"),
    "fractions": (lambda c: c.all_gather_v(ones, [4.0]), TypeError, "pass an integer for each rank"),
    "not this rank's": (lambda c: c.gather_v(ones, [3]), ValueError, r"counts\[0\] is 3, but the x of this rank has 4"),
    "not all rows": (lambda c: c.scatter_v(ones, [3]), ValueError, r"with 4 rows, but counts \[3\] add up to 3"),
    "a scalar": (lambda c: c.all_gather_v(1.0, [1]), TypeError, "x is a float: pass an array"),
    "a list": (lambda c: c.all_gather_v([ones], [4]), TypeError, "x is a list: .*one call for each array"),
    "no axis": (lambda c: c.all_gather_v(np.array(1.0), [1]), ValueError, r"shape \(\), which has no rows"),
    "offsets without out": (lambda c: c.all_gather_v(ones, [4], offsets=[2]), TypeError, "pass out="),
    "offsets beyond out": (
        lambda c: c.all_gather_v(ones, [4], out=np.zeros(5, np.float32), offsets=[2]), ValueError,
        r"with 5 rows, but counts \[4\] and the offsets need 6",
    ),
    "send counts": (lambda c: c.all_to_all_v(ones, [5], [5]), ValueError, r"send_counts \[5\] add up to 5"),
    "no recv counts": (lambda c: c.all_to_all_v(ones, [4], None), TypeError, "recv_counts is missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", VARYING)
def test_wrong_counts_raise_with_what_is_right(alone, case):
    call, kind, text = VARYING[case]
    with pytest.raises(kind, match=text):
        call(alone)
    assert alone.all_reduce(2) == 2


def test_overlapping_arguments_are_an_argument_error(alone):
    memory = np.zeros(8, np.float32)
    with pytest.raises(tutti.ArgumentError):
        alone.all_reduce(memory[0:4], out=memory[2:6])
    assert alone.all_reduce(2) == 2


def _uneven(comm):
    with pytest.raises(ValueError, match=r"x has shape \(3,\), whose first axis cannot be cut into 2 equal parts: pad"):
        comm.reduce_scatter(np.ones(3))
    with pytest.raises(ValueError, match=r"shape \(\)"):
        comm.reduce_scatter(np.array(1.0))
    with pytest.raises(TypeError, match="pass an array"):
        comm.reduce_scatter(1.0)
    with pytest.raises(ValueError, match=r"x\[1\] has shape \(5, 2\)"):
        comm.reduce_scatter([np.ones(2), np.ones((5, 2))])
    return comm.all_reduce(1)


def test_reduce_scatter_says_when_the_first_axis_cannot_be_cut(pair):
    assert pair(_uneven) == [2, 2]


def _one_rank_is_wrong(comm):
    if comm.rank == 0:
        with pytest.raises(ValueError):
            comm.all_reduce(np.ones(4)[::2])
        with pytest.raises(tutti.ArgumentError):
            comm.broadcast(np.ones(4), root=2)
        with pytest.raises(tutti.ArgumentError):
            comm.barrier(async_op=True) and comm.broadcast(np.ones(4), root=-3, async_op=True)
    else:
        comm.barrier()
    return comm.all_reduce(comm.rank + 1)


def test_a_wrong_argument_on_one_rank_disturbs_nobody(pair):
    assert pair(_one_rank_is_wrong) == [3, 3]

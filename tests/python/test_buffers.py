"""Memory of every kind, used where it lies."""

import array
import ctypes
import gc
import mmap
import sys

import numpy as np
import pytest
from ranks import signal_peers, wait_for_peers


def _buffers(comm):
    n = comm.size
    data = bytearray([1, 2, 3])
    assert comm.all_reduce(data) is data
    assert data == bytearray([n, 2 * n, 3 * n])
    floats = array.array("f", [1.5, 2.5])
    assert comm.all_reduce(floats, op="max") is floats
    assert floats.tolist() == [1.5, 2.5]
    doubles = array.array("d", [comm.rank] * 4)
    comm.all_reduce(memoryview(doubles)[1:3])
    total = float(sum(range(n)))
    assert doubles.tolist() == [comm.rank, total, total, comm.rank]
    mapped = mmap.mmap(-1, 4096)
    mapped[:3] = b"abc" if comm.rank == 0 else b"   "
    comm.broadcast(mapped)
    assert mapped[:3] == b"abc"
    integers = (ctypes.c_int32 * 3)(1, 2, 3)
    assert comm.all_reduce(integers) is integers
    assert list(integers) == [n, 2 * n, 3 * n]
    gathered = comm.all_gather(b"\x01\x02")
    assert isinstance(gathered, np.ndarray) and gathered.dtype == np.uint8 and gathered.tolist() == [[1, 2]] * n
    out = bytearray(3)
    assert comm.all_reduce(b"\x01\x01\x02", out=out) is out and out[2] == 2 * n


def test_anything_with_the_buffer_protocol_is_used_in_place(group):
    group(_buffers)


class Tensor:
    """A tensor of another framework: it has DLPack and nothing else."""

    def __init__(self, values, versioned=True, device=(1, 0)):
        self.array = np.array(values)
        self.versioned = versioned
        self.device = device
        self.exports = 0

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **keywords):
        if not self.versioned and keywords:
            raise TypeError("no such argument: max_version")
        capsule = self.array.__dlpack__(**keywords)
        self.exports += 1
        return capsule


def _dlpack(comm):
    for versioned in (True, False):
        x = Tensor(np.full((2, 3), comm.rank + 1.0, np.float32), versioned)
        assert comm.all_reduce(x) is x
        assert (x.array == comm.size * (comm.size + 1) / 2).all() and x.exports == 1
        y = Tensor(np.arange(4, dtype=np.int64), versioned)
        assert comm.all_gather(y).tolist() == [[0, 1, 2, 3]] * comm.size
        comm.all_reduce(Tensor(np.zeros((0, 3), np.float32), versioned))


def test_a_tensor_with_dlpack_is_used_in_place(group):
    group(_dlpack)


def test_a_dlpack_tensor_lives_exactly_as_long_as_it_is_used(alone):
    x = Tensor(np.ones(1000, np.float32))
    before = sys.getrefcount(x.array)
    work = alone.all_reduce(x, async_op=True)
    work.wait()
    alone.all_reduce(x)
    gc.collect()
    after = sys.getrefcount(x.array)
    assert (before, after) == (before, before)


def test_a_dlpack_tensor_that_cannot_be_used_says_why(alone):
    with pytest.raises(TypeError, match=r"not in the memory of the CPU: pass x\.cpu\(\)"):
        alone.all_reduce(Tensor([1.0], device=(2, 0)))
    for versioned in (True, False):
        with pytest.raises(ValueError, match=r"not contiguous: pass x\.contiguous\(\)"):
            alone.all_reduce(_transposed(versioned))
        with pytest.raises(TypeError, match="dtype uint16, but tutti knows"):
            _with_dtype(alone, versioned)
    read_only = Tensor([1.0])
    read_only.array.flags.writeable = False
    with pytest.raises((ValueError, TypeError), match="read-?only"):
        alone.all_reduce(read_only)


def _transposed(versioned):
    x = Tensor(np.ones((3, 2), np.float32), versioned)
    x.array = x.array.T
    return x


def _with_dtype(comm, versioned):
    x = Tensor(np.ones(3, np.uint16), versioned)
    x.dtype = x.array.dtype
    comm.all_reduce(x)


def _resize(comm, path):
    data = bytearray(8)
    work = comm.all_reduce(data, async_op=True) if comm.rank == 0 else None
    if comm.rank == 0:
        with pytest.raises(BufferError):
            data.append(1)
        signal_peers(path)
        work.wait()
        data.append(1)
    else:
        wait_for_peers(path)
        comm.all_reduce(data)
    return len(data)


def test_memory_that_is_in_use_cannot_be_resized(pair, tmp_path):
    assert pair(_resize, str(tmp_path / "seen")) == [9, 8]


def _torch(comm):
    import torch

    n = comm.size
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16,
                  torch.int32, torch.int64, torch.complex64):  # fmt: skip
        x = torch.full((2, 3), comm.rank + 1, dtype=dtype)
        address = x.data_ptr()
        assert comm.all_reduce(x) is x
        assert x.data_ptr() == address and (x == n * (n + 1) // 2).all(), dtype
        gathered = comm.all_gather(x)
        assert gathered.shape == (n, 2, 3) and gathered.dtype == dtype and (gathered == x[0, 0]).all()
        part = comm.reduce_scatter(torch.ones((n, 4), dtype=dtype))
        assert part.shape == (1, 4) and part.dtype == dtype and (part == n).all()
    flags = torch.tensor([comm.rank == 0, False])
    assert comm.all_reduce(flags, op="logical_or").tolist() == [True, False]
    weights = [torch.nn.Parameter(torch.full((3,), float(comm.rank))) for _ in range(2)]
    comm.broadcast([w.detach() for w in weights], root=n - 1)
    assert all((w == n - 1).all() for w in weights)
    try:
        comm.all_reduce(weights[0])
    except TypeError as error:
        return str(error)


def test_torch_tensors_of_every_type_are_used_in_place(group):
    pytest.importorskip("torch", reason="torch is not installed: its tensors are not tested")
    for text in group(_torch):
        assert "detach()" in text

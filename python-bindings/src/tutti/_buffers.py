"""From the arguments of Python to pointer, count and type: views of memory that copy nothing.

A view is a tuple ``(pointer, count, type, shape)``.  The pointer keeps the memory alive, and, for everything
that has the buffer protocol, also keeps it from being resized, for as long as it lives.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ._c import ffi, lib

View = tuple[Any, int, int, tuple[int, ...]]

TYPES = {
    np.dtype(np.float32): lib.TUTTI_FLOAT32,
    np.dtype(np.float64): lib.TUTTI_FLOAT64,
    np.dtype(np.float16): lib.TUTTI_FLOAT16,
    np.dtype(np.int8): lib.TUTTI_INT8,
    np.dtype(np.uint8): lib.TUTTI_UINT8,
    np.dtype(np.int16): lib.TUTTI_INT16,
    np.dtype(np.int32): lib.TUTTI_INT32,
    np.dtype(np.uint32): lib.TUTTI_UINT32,
    np.dtype(np.int64): lib.TUTTI_INT64,
    np.dtype(np.uint64): lib.TUTTI_UINT64,
    np.dtype(np.bool_): lib.TUTTI_BOOL,
    np.dtype(np.complex64): lib.TUTTI_COMPLEX64,
}
TYPE_NAMES = (
    "float32, float64, float16, bfloat16, int8, uint8, int16, int32, uint32, int64, uint64, bool and complex64"
)

REDUCTIONS = {
    "sum": lib.TUTTI_SUM,
    "product": lib.TUTTI_PRODUCT,
    "min": lib.TUTTI_MIN,
    "max": lib.TUTTI_MAX,
    "avg": lib.TUTTI_AVG,
    "bit_and": lib.TUTTI_BIT_AND,
    "bit_or": lib.TUTTI_BIT_OR,
    "bit_xor": lib.TUTTI_BIT_XOR,
    "logical_and": lib.TUTTI_LOGICAL_AND,
    "logical_or": lib.TUTTI_LOGICAL_OR,
    "premultiplied_sum": lib.TUTTI_PREMULTIPLIED_SUM,
}

_ndarray = np.ndarray
_from_buffer = ffi.from_buffer
_BYTES = ffi.typeof("char[]")


def view(x: Any, writable: bool, name: str) -> View:
    """The memory of ``x``; raises TypeError or ValueError, with the fix in the text, where it cannot be used."""
    if type(x) is _ndarray:
        code = TYPES.get(x.dtype)
        if code is not None:
            try:
                return _from_buffer(_BYTES, x, writable), x.size, code, x.shape
            except (ValueError, BufferError):
                pass  # explained below
    return _view_any(x, writable, name)


def _view_any(x: Any, writable: bool, name: str) -> View:
    if isinstance(x, np.ndarray):
        return _view_array(x, writable, name)
    if isinstance(x, (list, tuple)):
        raise TypeError(f"{name} is a {type(x).__name__}: pass an array, or a flat list of arrays")
    if is_scalar(x):
        raise TypeError(
            f"{name} is a {type(x).__name__}, which cannot be changed in place: pass np.array({name}), or the "
            f"scalar alone as the whole argument"
        )
    try:
        memory = memoryview(x)
    except TypeError:
        pass
    else:
        return _view_memory(memory, writable, name)
    if hasattr(x, "__dlpack__"):
        return _view_dlpack(x, writable, name)
    raise TypeError(
        f"{name} is a {type(x).__name__}, which has neither the buffer protocol nor DLPack: pass np.asarray({name})"
    )


def is_scalar(x: Any) -> bool:
    return isinstance(x, (np.generic, int, float, complex))


def scalar_array(x: Any) -> np.ndarray:
    """A new array of shape () that holds the scalar ``x``: a Python int as int64, a float as float64."""
    if isinstance(x, (bool, np.generic)):
        return np.array(x)
    if isinstance(x, int):
        try:
            return np.array(x, np.int64)
        except OverflowError:
            raise ValueError(f"x is {x}, which does not fit into an int64: pass float(x)") from None
    return np.array(x)


def scalar_like(x: Any, result: np.ndarray) -> Any:
    """The element of ``result`` as a scalar of the kind of ``x``."""
    return result[()] if isinstance(x, np.generic) else result.item()


def empty_like(x: Any, seen: View, shape: tuple[int, ...]) -> Any:
    """A new result of ``shape`` for an argument ``x``: a tensor of its own kind where it can make one (torch),
    else a NumPy array."""
    if hasattr(x, "new_empty"):
        return x.new_empty(shape)
    if isinstance(x, np.ndarray):
        return np.empty(shape, x.dtype)
    for dtype, code in TYPES.items():
        if code == seen[2]:
            return np.empty(shape, dtype)
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError("a bfloat16 result needs `pip install ml_dtypes`, or pass out=") from None
    return np.empty(shape, ml_dtypes.bfloat16)


def require_same(expected: View, shape: tuple[int, ...], actual: View) -> None:
    """``out`` must have the type of the argument, and ``shape``."""
    if actual[2] != expected[2]:
        raise TypeError(
            f"out has type {type_name(actual[2])}, but x has {type_name(expected[2])}: give out the dtype of x"
        )
    if actual[3] != shape:
        raise ValueError(f"out has shape {actual[3]}, but {shape} is needed: pass out=np.empty({shape}, x.dtype)")


def type_name(code: int) -> str:
    return ffi.string(ffi.cast("enum tutti_type", code))[len("TUTTI_") :].lower()


def _view_array(x: np.ndarray, writable: bool, name: str) -> View:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, and masks are not reduced: pass {name}.filled(value)")
    code = type_of(x.dtype, name)
    if not x.flags.c_contiguous:
        raise ValueError(
            f"{name} (shape {x.shape}, strides {x.strides}) is not contiguous in C order: pass "
            f"np.ascontiguousarray({name}), which is a copy, and read the result from the copy"
        )
    if writable and not x.flags.writeable:
        raise ValueError(f"{name} is read-only, and the result is written into it: pass {name}.copy(), or out=")
    return _from_buffer(_BYTES, x, writable), x.size, code, x.shape


def type_of(dtype: np.dtype, name: str) -> int:
    """The element type for ``dtype``, or a TypeError that says how to get one that there is."""
    code = TYPES.get(dtype)
    if code is not None:
        return code
    if dtype.name == "bfloat16" and dtype.itemsize == 2:  # of ml_dtypes, which need not be imported for this
        TYPES[dtype] = lib.TUTTI_BFLOAT16
        return lib.TUTTI_BFLOAT16
    if not dtype.isnative:
        fix = f"pass {name}.astype({name}.dtype.newbyteorder('='))"
    elif dtype.hasobject:
        fix = "an array of objects has no numbers to send; pass np.asarray(..., np.float64), or a list of arrays"
    elif dtype.kind in "iu":
        fix = f"pass {name}.astype(np.int64)"
    elif dtype.kind == "c":
        fix = (
            f"pass {name}.astype(np.complex64), or {name}.view(np.float{dtype.itemsize * 4}), its real and imaginary "
            f"parts (to sum, not multiply)"
        )
    else:
        fix = f"pass {name}.astype(np.float64)"
    raise TypeError(f"{name} has dtype {dtype}, but tutti knows {TYPE_NAMES}: {fix}")


def _view_memory(memory: memoryview, writable: bool, name: str) -> View:
    kind = type(memory.obj).__name__
    if writable and memory.readonly:
        fix = f"bytearray({name})" if kind == "bytes" else "a writable copy"
        raise ValueError(f"{name} ({kind}) is read-only, and the result is written into it: pass {fix}, or out=")
    if not memory.c_contiguous:
        raise ValueError(
            f"{name} ({kind}) is not contiguous in C order: pass a contiguous copy, memoryview(bytearray(...))"
        )
    try:
        array = np.asarray(memory)
    except (ValueError, TypeError, NotImplementedError):
        raise TypeError(
            f"{name} ({kind}) has elements of format {memory.format!r}, but tutti knows {TYPE_NAMES}: pass "
            f"np.frombuffer({name}, dtype)"
        ) from None
    return _from_buffer(_BYTES, memory, writable), array.size, type_of(array.dtype, name), array.shape


# ---- DLPack ---------------------------------------------------------------------------------------------
# Read by hand: NumPy's own reader knows no bfloat16, and makes what it reads read-only in its older versions.

_DLPACK_HOST_MEMORY = (1, 3, 11)  # plain, pinned for CUDA, pinned for ROCm
_DLPACK_READ_ONLY = 1
_DLPACK_TYPES = {
    (2, 32): lib.TUTTI_FLOAT32,
    (2, 64): lib.TUTTI_FLOAT64,
    (2, 16): lib.TUTTI_FLOAT16,
    (4, 16): lib.TUTTI_BFLOAT16,
    (0, 8): lib.TUTTI_INT8,
    (1, 8): lib.TUTTI_UINT8,
    (0, 16): lib.TUTTI_INT16,
    (0, 32): lib.TUTTI_INT32,
    (1, 32): lib.TUTTI_UINT32,
    (0, 64): lib.TUTTI_INT64,
    (1, 64): lib.TUTTI_UINT64,
    (6, 8): lib.TUTTI_BOOL,
    (5, 64): lib.TUTTI_COMPLEX64,
}

_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_capsule_pointer.restype = ctypes.c_void_p
_capsule_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_capsule_is_valid.argtypes = [ctypes.py_object, ctypes.c_char_p]
_capsule_is_valid.restype = ctypes.c_int


def _view_dlpack(x: Any, writable: bool, name: str) -> View:
    kind = f"{type(x).__module__}.{type(x).__name__}"
    if x.__dlpack_device__()[0] not in _DLPACK_HOST_MEMORY:
        raise TypeError(f"{name} ({kind}) is not in the memory of the CPU: pass {name}.cpu(), and copy back")
    try:
        try:
            capsule = x.__dlpack__(max_version=(1, 0))
        except TypeError:  # a producer older than version 1
            capsule = x.__dlpack__()
    except (BufferError, RuntimeError) as error:
        raise TypeError(f"{name} ({kind}) cannot be shared: {error}; pass {name}.detach().contiguous()") from error
    tensor, read_only = _dlpack_tensor(capsule)
    if writable and read_only:
        raise ValueError(f"{name} ({kind}) is read-only, and the result is written into it: pass a copy, or out=")
    code = _DLPACK_TYPES.get((tensor.type_code, tensor.type_bits)) if tensor.type_lanes == 1 else None
    if code is None:
        raise TypeError(
            f"{name} ({kind}) has dtype {getattr(x, 'dtype', '?')}, but tutti knows {TYPE_NAMES}: convert it first"
        )
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    count = 1
    for length in shape:
        count *= length
    if count == 0:
        return ffi.NULL, 0, code, shape
    if tensor.strides != ffi.NULL and not _contiguous(shape, [tensor.strides[i] for i in range(tensor.ndim)]):
        raise ValueError(
            f"{name} ({kind}) is not contiguous: pass {name}.contiguous(), which is a copy, and read the result "
            f"from the copy"
        )
    # The capsule, which nobody consumes, lends the memory until it is freed.
    address = ffi.cast("char *", tensor.data) + tensor.byte_offset
    return ffi.gc(address, lambda _, lender=capsule: None), count, code, shape


def _dlpack_tensor(capsule: Any) -> tuple[Any, bool]:
    if _capsule_is_valid(capsule, b"dltensor_versioned"):
        address = _capsule_pointer(capsule, b"dltensor_versioned")
        versioned = ffi.cast("struct dlpack_versioned *", address)
        return versioned.tensor, bool(versioned.flags & _DLPACK_READ_ONLY)
    address = _capsule_pointer(capsule, b"dltensor")
    return ffi.cast("struct dlpack_tensor *", address), False


def _contiguous(shape: tuple[int, ...], strides: Any) -> bool:
    step = 1
    for length, stride in zip(reversed(shape), reversed(strides)):
        if length > 1 and stride != step:
            return False
        step *= length
    return True

"""tutti as a communication backend of PyTorch::

    torch.distributed.init_process_group("tutti")

needs no import of this module: torch registers the backend when it is imported, and `import tutti.torch` does so
where that is switched off (``TORCH_DEVICE_BACKEND_AUTOLOAD=0``).  Beside that it offers tensors in memory that the
other ranks of the host can read where they are: :func:`empty`.

The part that is compiled is made for the PyTorch that is installed, once: ``python -m tutti.torch build``.
docs/pytorch.md tells the rest.
"""

from __future__ import annotations

from typing import Any

from . import _build

try:
    import torch
    import torch.distributed
except (ImportError, OSError) as error:
    raise ImportError(f"tutti.torch needs PyTorch, which cannot be imported: {error}", name="tutti.torch") from error

import _tutti_torch

from . import _groups

__all__ = ["empty", "is_built"]

_tutti_torch.register()
_groups.allow_monitored_barrier()


def is_built() -> bool:
    """Has the backend been built for the torch of this process?  If not: ``python -m tutti.torch build``."""
    return _build.find() is not None


def empty(
    *size: int | tuple[int, ...],
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    group: torch.distributed.ProcessGroup | None = None,
) -> torch.Tensor:
    """A tensor of zeros in symmetric memory: the other ranks of this host can read it where it is.

    A collective whose tensors lie in such memory on every rank copies nothing in between: long ones are up to
    twice as fast (docs/shared-memory.md).  Otherwise it is a tensor like any other, on the CPU and contiguous.
    It is taken from the system at once, so make such tensors once and keep them.

    size: as of ``torch.empty``.  dtype: torch's default if None.  device: "cpu", the only one there is.  group: any
    group of the tutti backend, which the memory outlives; the default group if None.

    Local: nobody else takes part.  Any thread.  Raises ValueError where the group has another backend or the device is
    another, ``torch.distributed.DistBackendError`` where there is no memory.
    """
    if torch.device(device).type != "cpu":
        raise ValueError(f"symmetric tensors are on the CPU, not on {device}")
    backend = _groups.backend_of(group)
    shape = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
    return backend._empty(list(shape), torch.get_default_dtype() if dtype is None else dtype)


def _create(options: Any, backend_options: Any) -> Any:
    return _groups.create(options)

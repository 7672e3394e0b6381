"""Process groups of torch: how the backend of one comes about, and how it ends."""

from __future__ import annotations

import atexit
import functools
import os
import sys
from datetime import timedelta
from types import ModuleType
from typing import Any

import torch
from torch.distributed import distributed_c10d

from .._c import ffi, lib
from . import _build

_CPU = torch.device("cpu")


@functools.cache
def _compiled() -> ModuleType:
    module = _build.load()
    module.set_functions(int(ffi.cast("uintptr_t", lib.function_table())))
    atexit.register(_leave, module, os.getpid())
    return module


def create(options: Any) -> Any:
    """The backend of a new group: ``options`` is torch's _DistributedBackendOptions.

    Collective over the ranks of the group.  Raises ImportError where the backend has not been built, else
    ``torch.distributed.DistBackendError``.
    """
    module = _compiled()
    root = _root(module) if options.global_ranks_in_group else None
    if root is not None:
        return module.subgroup(root, list(options.global_ranks_in_group), options.group_rank, options.timeout)
    return module.join(options.store, options.group_rank, options.group_size, options.timeout)


def _root(module: ModuleType) -> Any:
    """The backend of the default group, where that is ours; a group of its ranks need not meet anew."""
    if not torch.distributed.is_initialized():
        return None
    try:
        backend = torch.distributed.group.WORLD._get_backend(_CPU)
    except RuntimeError:  # it has none for the CPU
        return None
    return backend if isinstance(backend, module.Backend) else None


def backend_of(group: torch.distributed.ProcessGroup | None) -> Any:
    """The backend of a group, or of the default one; ValueError where it is not ours."""
    backend = (group or distributed_c10d._get_default_group())._get_backend(_CPU)
    backend = getattr(backend, "wrapped_pg", backend)  # TORCH_DISTRIBUTED_DEBUG=DETAIL
    if not isinstance(backend, _compiled().Backend):
        raise ValueError(
            f"the backend of this group for the CPU is {backend.name()}: symmetric tensors need a group of "
            'init_process_group("tutti") or new_group(backend="tutti")'
        )
    return backend


def _leave(module: ModuleType, process: int) -> None:
    """At the end of the process: says goodbye for the groups that have not been destroyed.

    That waits until the others end as well, for groups without this process may go on, up to the time-out of the
    group.  A process that ends by an exception tells the others at once which it was.
    """
    if os.getpid() != process:  # a child of fork() is no member
        return
    failure = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
    for backend in reversed(module.live()):
        if failure is not None:
            backend._abort_because(f"{type(failure).__name__}: {failure}")
        backend.shutdown()


def allow_monitored_barrier() -> None:
    """Lets torch.distributed.monitored_barrier() through to groups of ours: torch has it for the name "gloo" only."""
    original = distributed_c10d.monitored_barrier
    if hasattr(original, "_lets_tutti_through"):
        return

    @functools.wraps(original)
    def monitored_barrier(
        group: torch.distributed.ProcessGroup | None = None,
        timeout: timedelta | None = None,
        wait_all_ranks: bool = False,
    ) -> None:
        if distributed_c10d._rank_not_in_group(group) or torch.distributed.get_backend(group) != "tutti":
            return original(group, timeout, wait_all_ranks)
        timeout = distributed_c10d.default_pg_timeout if timeout is None else timeout
        own = group or distributed_c10d._get_default_group()
        own.monitored_barrier(timeout, wait_all_ranks=wait_all_ranks)

    monitored_barrier._lets_tutti_through = True
    for module in distributed_c10d, torch.distributed:
        module.monitored_barrier = monitored_barrier

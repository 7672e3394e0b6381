"""Joining a group."""

from __future__ import annotations

import difflib
import os
from typing import Any

from . import _errors
from ._c import ffi, lib
from ._communicator import Communicator
from ._waiting import join_interruptibly

#: The settings that C knows, by name, with their C types: the fields of its struct that are keywords.
_FIELDS: dict[str, Any] = {
    name: field.type.cname
    for name, field in ffi.typeof("struct tutti_config").fields
    if name not in ("struct_size", "rank", "size", "rendezvous", "announce", "announce_context")
}


def init(
    rank: int | None = None, size: int | None = None, rendezvous: str | None = None, **settings: Any
) -> Communicator:
    """Joins a group and returns this process's communicator, to be used in a ``with`` block.

    Blocks until every rank is there or ``join_timeout_ms`` (60000) has passed; Ctrl-C works.

    Without arguments, the launcher's variables say who this process is: ``tutti run``, ``torchrun``, ``mpirun``,
    ``srun``, or ``TUTTI_RANK``, ``TUTTI_SIZE`` and ``TUTTI_RENDEZVOUS``.  Started by none of them, it is alone: a
    group of one, in which every operation works.

    size, rank: how many ranks there are, and which one this is (from 0).  A rank that is not given is assigned
    on arrival.
    rendezvous: where the ranks meet: "unix:PATH", "HOST:PORT" or "file:PATH".
    settings: any field of ``struct tutti_config``, such as ``call_timeout_ms=5000`` or ``transports="tcp"``; None
    means "not given".  They win over the environment.

    Raises a subclass of :class:`tutti.Error`: :class:`ConfigError` for settings or variables that are invalid or
    incomplete, :class:`UnreachableError`, :class:`RefusedError` (a rank taken twice, another size),
    :class:`TimeoutError` that names the missing ranks.
    """
    config, keep = _config(rank, size, rendezvous, settings)
    status, handle = join_interruptibly(lambda slot, keep=keep: lib.tutti_init(config, slot))
    if status != lib.TUTTI_OK:
        error = _errors.from_handle(handle, status)
        lib.tutti_free(handle)
        raise error
    return Communicator(handle)


def _config(rank: Any, size: Any, rendezvous: Any, settings: dict[str, Any]) -> tuple[Any, list[Any]]:
    """A struct tutti_config, and what must live as long as it."""
    if size is None and rank is not None:
        raise TypeError(f"rank={rank} was given without size: pass both, or neither to take the launcher's")
    config = ffi.new("struct tutti_config *")
    config.struct_size = ffi.sizeof("struct tutti_config")
    keep: list[Any] = []
    if size is not None:
        if size < 1:
            raise ValueError(f"size is {size}: a group has at least 1 rank")
        config.size = size
        config.rank = lib.TUTTI_RANK_ANY if rank is None else rank
    for name, value in (("rendezvous", rendezvous), *settings.items()):
        if name != "rendezvous" and name not in _FIELDS:
            close = difflib.get_close_matches(name, _FIELDS, 1)
            hint = f": did you mean {close[0]}?" if close else f": there are {', '.join(_FIELDS)}"
            raise TypeError(f"init() has no setting {name!r}{hint}")
        if value is not None:
            _set(config, keep, name, value)
    return config, keep


def _set(config: Any, keep: list[Any], name: str, value: Any) -> None:
    if _FIELDS.get(name, "char const *").endswith("*"):
        if not isinstance(value, (str, os.PathLike)):
            raise TypeError(f"{name} is a {type(value).__name__}: pass a string")
        keep.append(ffi.new("char[]", os.fsencode(value)))
        value = keep[-1]
    try:
        setattr(config, name, value)
    except (TypeError, OverflowError) as error:
        raise TypeError(f"{name} is {value!r}: pass an integer ({error})") from None

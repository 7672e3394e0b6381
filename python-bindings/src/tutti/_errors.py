"""Exceptions: one class for each status of the C library, each with the sentence that the library wrote."""

from __future__ import annotations

import builtins
from typing import Any

from ._c import ffi, lib


class Error(RuntimeError):
    """A call of tutti failed; the text is one full sentence: what, where, and how to mend it.

    Unless it is an :class:`ArgumentError`, the group is dead on every rank.
    """

    #: The status of the C interface, for example -8.
    code: int = 0
    #: The rank that is the cause; None when unknown or when it is no rank's fault.
    rank: int | None = None
    #: The host of that rank, "" when unknown.
    host: str = ""
    #: The operation that was under way here, for example "all_reduce"; "" outside of one.
    operation: str = ""
    #: The number of that operation on this communicator, from 1; 0 outside of one.
    sequence: int = 0
    #: Bytes of payload that this rank had received in that operation.
    moved_bytes: int = 0

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.__dict__.update(details)

    def __reduce__(self):
        return _rebuild, (type(self), str(self), dict(self.__dict__))


class ArgumentError(Error, ValueError):
    """An argument is invalid.  The call did nothing and the group lives on."""


class OutOfMemoryError(Error, MemoryError):
    """Out of memory."""


class SystemCallError(Error, OSError):
    """A system call failed."""


class ConfigError(Error, ValueError):
    """The settings or the launcher's variables are invalid or incomplete."""


class UnreachableError(Error, ConnectionError):
    """The rendezvous or a peer cannot be reached."""


class RefusedError(Error, ConnectionError):
    """The rendezvous refused this member."""


class TimeoutError(Error, builtins.TimeoutError):
    """A deadline passed, and the group is dead.  (That a wait ran out of time is :class:`PendingError`.)"""


class PeerLostError(Error, ConnectionError):
    """The connection to a peer was lost; ``rank`` says to which."""


class AbortedError(Error):
    """A rank aborted the group; the text gives its reason."""


class MismatchError(Error):
    """Ranks made different calls: another operation, type, reduction, count or root."""


class ProtocolError(Error):
    """A peer sent bytes that are not tutti's."""


class VersionError(Error):
    """A peer speaks another version of the protocol."""


class FinalizedError(Error):
    """The communicator has been finalized or closed."""


class UnsupportedError(Error, NotImplementedError):
    """Not supported."""


class InternalError(Error):
    """A bug in tutti: please report it."""


class PendingError(builtins.TimeoutError):
    """A wait ran out of time.  Nothing has failed: the operation goes on, and can be waited for again."""


CLASSES: dict[int, type[Error]] = {
    lib.TUTTI_ERR_ARGUMENT: ArgumentError,
    lib.TUTTI_ERR_MEMORY: OutOfMemoryError,
    lib.TUTTI_ERR_SYSTEM: SystemCallError,
    lib.TUTTI_ERR_CONFIG: ConfigError,
    lib.TUTTI_ERR_UNREACHABLE: UnreachableError,
    lib.TUTTI_ERR_REFUSED: RefusedError,
    lib.TUTTI_ERR_TIMEOUT: TimeoutError,
    lib.TUTTI_ERR_PEER_LOST: PeerLostError,
    lib.TUTTI_ERR_ABORTED: AbortedError,
    lib.TUTTI_ERR_MISMATCH: MismatchError,
    lib.TUTTI_ERR_PROTOCOL: ProtocolError,
    lib.TUTTI_ERR_VERSION: VersionError,
    lib.TUTTI_ERR_FINALIZED: FinalizedError,
    lib.TUTTI_ERR_UNSUPPORTED: UnsupportedError,
    lib.TUTTI_ERR_INTERNAL: InternalError,
}


def _rebuild(kind: type[Error], message: str, details: dict[str, Any]) -> Error:
    return kind(message, **details)


def from_struct(error: Any) -> Error:
    """The exception for what a struct tutti_error says."""
    return CLASSES.get(error.code, Error)(
        _text(error.message) or _text(lib.tutti_strerror(error.code)),
        code=error.code,
        rank=error.rank if error.rank >= 0 else None,
        host=_text(error.host),
        operation=_text(error.operation),
        sequence=error.sequence,
        moved_bytes=error.moved_bytes,
    )


def from_handle(handle: Any, status: int) -> Error:
    """The exception for ``status``, with what the communicator ``handle`` (or NULL) says about it."""
    error = _read(handle)
    if error.code != status:
        # The handle keeps one error: this one has been overtaken by another, or there is no handle.
        return CLASSES.get(status, Error)(_text(lib.tutti_strerror(status)), code=status)
    return from_struct(error)


def replaced(handle: Any, remedy: str) -> Error:
    """What every call on the failed communicator ``handle`` raises once it, or its root, has been re-formed."""
    failure = from_struct(_read(handle))
    return type(failure)(f"{failure} ({remedy})", **failure.__dict__)


def closed(message: str) -> FinalizedError:
    """The exception of a communicator that has no handle any more."""
    return FinalizedError(message, code=lib.TUTTI_ERR_FINALIZED)


def describe(exception: BaseException) -> str:
    """The reason for which a rank aborts, to which C adds the rank: "ValueError: ..."."""
    name = type(exception).__name__
    text = str(exception)
    return f"{name}: {text}" if text else name


def _read(handle: Any) -> Any:
    error = ffi.new("struct tutti_error *")
    error.struct_size = ffi.sizeof("struct tutti_error")
    lib.tutti_get_error(handle, error)
    return error


def _text(characters: Any) -> str:
    return ffi.string(characters).decode("utf-8", "replace")

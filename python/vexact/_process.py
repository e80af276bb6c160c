"""Values that belong to one process.

A child of `fork` has the memory of its parent and one thread. A call that waits for another thread would wait for ever there, so it is
refused. What the child opens itself works if its parent did not use vexact: see `runtime.rs`.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import Any, Generic, TypeVar, overload

from . import _native
from .errors import EngineError

T = TypeVar("T")

# Before the interpreter waits for its threads, which may wait for a query; later functions of `atexit` still have theirs.
getattr(threading, "_register_atexit", atexit.register)(_native.cancel_all)
atexit.register(_native.wait_for_queries)


class OfProcess(Generic[T]):
    """An attribute that only the process that set it can read."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._slot = f"_of_process{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> OfProcess[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> OfProcess[T] | T:
        if instance is None:
            return self
        held: tuple[int, T] = getattr(instance, self._slot)
        if held[0] != os.getpid():
            raise opened_before_fork(instance)
        return held[1]

    def __set__(self, instance: object, value: T) -> None:
        setattr(instance, self._slot, (os.getpid(), value))

    def is_here(self, instance: object) -> bool:
        """Returns True if this process set the attribute."""
        held: tuple[int, Any] = getattr(instance, self._slot)
        return held[0] == os.getpid()


def opened_before_fork(instance: object) -> EngineError:
    """Returns the error of every use in a child of `fork`."""
    return EngineError(f"vexact.{type(instance).__name__}: opened before fork: open it in the worker")

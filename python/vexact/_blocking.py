"""How a call of the native engine waits: in a worker thread under an event loop, or on the thread of a blocking caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import anyio.to_thread

from . import _native

T = TypeVar("T")


class _Caller(threading.local):
    is_blocking = False


_caller = _Caller()


@contextmanager
def blocking() -> Iterator[None]:
    """Within it, calls of this thread run on this thread, and `in_thread` awaits nothing."""
    before, _caller.is_blocking = _caller.is_blocking, True
    try:
        yield
    finally:
        _caller.is_blocking = before


async def in_thread(call: Callable[[], T], *, abandons: bool = False) -> T:
    """Runs a call that blocks. One that only reads may be abandoned: it is cancelled if nobody waits for it any more. A write is
    waited for, so that its end is known."""
    if _caller.is_blocking:
        _caller.is_blocking = False
        try:
            return call()
        finally:
            _caller.is_blocking = True
    if not abandons:
        return await anyio.to_thread.run_sync(call)
    token = _native.Cancellation()
    try:
        return await anyio.to_thread.run_sync(partial(token.run, call), abandon_on_cancel=True)
    except BaseException:
        token.cancel()
        raise

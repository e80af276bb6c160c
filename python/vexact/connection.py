"""The engine with blocking methods, for scripts, notebooks, Flask and Django.

The methods are those of `HtapEngine`, made here; `connection.pyi`, made by `tests/connection_stub.py`, tells them to type checkers and editors.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from . import _arguments as check
from ._blocking import blocking
from ._settings import HtapConfig, Path
from .engine import HtapEngine

__all__ = ["Connection", "connect"]

T = TypeVar("T")


def _finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine of an engine to its end on this thread. It awaits nothing but calls, which block."""
    with blocking():
        try:
            coroutine.send(None)
        except StopIteration as end:
            value: T = end.value
            return value
    coroutine.close()
    raise RuntimeError("a blocking call waited for an event loop")


class Connection:
    """An engine with blocking methods: those of `HtapEngine`, with the same names, arguments and results, and no `await`.

    A context manager. Safe from several threads; each call releases the GIL, and Ctrl-C ends a query. `engine` is the engine, for
    `async` code on the same data.
    """

    def __init__(self, engine: HtapEngine) -> None:
        self.engine = check.instance("engine", engine, HtapEngine)

    @property
    def config(self) -> HtapConfig:
        """The engine's settings."""
        return self.engine.config

    def close(self) -> None:
        """Releases threads, connections and files. Harmless to repeat; later calls of other methods raise `EngineError`."""
        self.engine.shutdown()

    def __enter__(self) -> Connection:
        self.engine._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"vexact.Connection({self.config.oltp_path!r})"


def _delegate(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a method of `Connection` that calls the engine's of this name."""
    is_async = inspect.iscoroutinefunction(method)

    def call(self: Connection, *args: Any, **kwargs: Any) -> Any:
        result = getattr(self.engine, name)(*args, **kwargs)
        return _finished(result) if is_async else result

    functools.update_wrapper(call, method)
    # The wrapped function is a coroutine function, which this is not.
    del call.__wrapped__  # type: ignore[attr-defined]
    call.__qualname__ = f"Connection.{name}"
    call.__module__ = __name__
    call.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return call


for _name, _method in inspect.getmembers(HtapEngine, inspect.isfunction):
    if not _name.startswith("_") and _name not in vars(Connection):
        setattr(Connection, _name, _delegate(_name, _method))


def connect(path: Path = "vexact.db", **settings: Any) -> Connection:
    """Opens a SQLite file with blocking methods: `with vexact.connect("app.db") as db: ...`. `settings` are those of `vexact.open`.

    `async` programs use `vexact.open`, whose methods are awaited.
    """
    return Connection(HtapEngine(HtapConfig(oltp_path=path, **settings)))

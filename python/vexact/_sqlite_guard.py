"""Guards an engine's files against Python's `sqlite3` if the two do not see each other's locks.

`sqlite3` is another copy of SQLite than the engine's. On Linux the engine's copy takes locks that both respect, and this module does nothing.
Elsewhere SQLite's POSIX locks belong to the process: two copies in one process do not see each other's locks, and each close drops the
locks of the other, which destroys the file (https://www.sqlite.org/howtocorrupt.html, "Multiple copies of SQLite linked into the same
application"). There the guard refuses to open a file that the process has open already, and warns when `sqlite3` opens an engine's file.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections import Counter
from typing import Any
from urllib.parse import unquote

from . import _native
from .errors import EngineError

_files: Counter[str] = Counter()
_lock = threading.Lock()
_is_watching = False


def _file(path: Any) -> str | None:
    """Returns the file that a path or a URI of SQLite names; None if there is none."""
    if not isinstance(path, str | bytes | os.PathLike):
        return None
    text = os.fsdecode(path)
    if text.startswith("file:"):
        text = unquote(text.removeprefix("file:").partition("?")[0])
    return None if text in ("", ":memory:") else os.path.realpath(text)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "sqlite3.connect" and _files and _files[_file(arguments[0]) or ""] > 0:
        warnings.warn(
            f"{arguments[0]!r} is open in an engine of this process, and sqlite3 is another copy of SQLite: on this system two in one process "
            "do not see each other's locks, which destroys the file. Use the engine's execute and query, or another process",
            RuntimeWarning,
            stacklevel=3,
        )


def _descriptor(file: str) -> int | None:
    """Returns a descriptor by which this process has a file open. None if there is none, or if the
    system does not list descriptors."""
    try:
        wanted, names = os.stat(file), os.listdir("/dev/fd")
    except OSError:
        return None
    for name in names:
        try:
            found = os.fstat(int(name))
        except (OSError, ValueError):
            continue
        if os.path.samestat(found, wanted):
            return int(name)
    return None


def check_unopened(path: Any) -> None:
    """Rejects a file that this process has open outside of its engines. Called before an engine
    opens the file."""
    file = _file(path)
    if file is None or _native.has_isolated_locks():
        return
    with _lock:
        # An engine that has it open found it unopened.
        descriptor = None if _files[file] > 0 else _descriptor(file)
    if descriptor is not None:
        raise EngineError(
            f"{os.fsdecode(path)}: expected a file that this process does not have open, got one that it has open as descriptor {descriptor}, "
            "probably by Python's sqlite3: on this system two copies of SQLite in one process do not see each other's locks, which destroys "
            "the file. Close it first"
        )


def opened(path: Any) -> str | None:
    """Records that an engine has opened a file; returns the argument of `closed`."""
    global _is_watching
    file = _file(path)
    if file is None or _native.has_isolated_locks():
        return None
    with _lock:
        _files[file] += 1
        if not _is_watching:
            # It cannot be taken away again; without engines it does nothing.
            sys.addaudithook(_audit)
            if hasattr(os, "register_at_fork"):
                # The child has locks of its own.
                os.register_at_fork(after_in_child=_files.clear)
            _is_watching = True
    return file


def closed(file: str | None) -> None:
    """Records that an engine has closed a file."""
    with _lock:
        if file is not None:
            _files[file] -= 1
            if _files[file] <= 0:
                del _files[file]

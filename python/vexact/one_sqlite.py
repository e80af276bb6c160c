"""Warns where Python's `sqlite3` opens a file that an engine of this process has open.

It is another copy of SQLite than the engine's. POSIX locks belong to a process, so two copies in one do not see each other's, and what one
closes unlocks the other: this destroys files (https://www.sqlite.org/howtocorrupt.html, "Multiple copies of SQLite linked into the
same application"). Other processes are safe.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections import Counter
from typing import Any

_files: Counter[str] = Counter()
_lock = threading.Lock()
_is_watching = False


def _file(path: Any) -> str | None:
    """The file that a path or a URI of SQLite's names; None for none."""
    if not isinstance(path, str | bytes | os.PathLike):
        return None
    text = os.fsdecode(path)
    if text.startswith("file:"):
        text = text.removeprefix("file:").partition("?")[0]
    return None if text in ("", ":memory:") else os.path.realpath(text)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "sqlite3.connect" and _files and _files[_file(arguments[0]) or ""] > 0:
        warnings.warn(
            f"{arguments[0]!r} is open in an engine of this process, and sqlite3 is another copy of SQLite: two in one process do not see each "
            "other's locks, which destroys the file. Use the engine's execute and query, or another process",
            RuntimeWarning,
            stacklevel=3,
        )


def opened(path: Any) -> str | None:
    """Notes that an engine has opened a file; what `closed` takes."""
    global _is_watching
    file = _file(path)
    with _lock:
        if file is not None:
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
    """Notes that it has closed it."""
    with _lock:
        if file is not None:
            _files[file] -= 1
            if _files[file] == 0:
                del _files[file]

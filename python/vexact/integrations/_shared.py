"""Connections that stores opened by a path, one for each file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from .._settings import Path
from ..connection import Connection, connect


class _Shared:
    """Connections by their files: each is closed with the last store that has it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[int, str], tuple[Connection, int]] = {}

    def acquire(self, path: Path) -> tuple[Connection, Callable[[], None]]:
        name = os.fspath(path)
        file = name if name.startswith("file:") else os.path.realpath(name)
        key = (os.getpid(), file)
        with self._lock:
            connection, stores = self._open.get(key, (None, 0))
            if connection is None or connection.engine._is_shut_down:
                connection, stores = connect(name), 0
            self._open[key] = connection, stores + 1
        return connection, lambda: self._release(key, connection)

    def _release(self, key: tuple[int, str], connection: Connection) -> None:
        with self._lock:
            current, stores = self._open.get(key, (None, 0))
            if current is connection:
                if stores > 1:
                    self._open[key] = connection, stores - 1
                    return
                del self._open[key]
        connection.close()


shared = _Shared()

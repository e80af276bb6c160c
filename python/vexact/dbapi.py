"""DB-API 2.0 (PEP 249) connections to a SQLite file with replicas, or to files, over the ADBC driver of the extension.

    import vexact.dbapi

    with vexact.dbapi.connect("app.db") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT title, score FROM vector_search('docs', 'embedding', ?, 10)", ([0.1, 0.2],))
        cursor.fetchall()

Needs `adbc-driver-manager`, which `pip install vexact[adbc]` installs. The connections and cursors are those of
`adbc_driver_manager.dbapi`, with its extensions (`fetch_arrow_table`, `fetch_df`, `fetch_polars`, `adbc_ingest`, ...).
Each statement is a transaction of its own, and so is each `executemany`: `commit` and `rollback` do nothing.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from typing import Any

from . import _native, _sqlite_guard
from .errors import MissingDependencyError

try:
    from adbc_driver_manager import _lib
    from adbc_driver_manager import dbapi as _adbc
except ImportError as error:
    raise MissingDependencyError(
        "vexact.dbapi needs adbc-driver-manager: expected it to be installed (pip install 'vexact[adbc]')"
    ) from error

#: Level of the DB-API.
apilevel = "2.0"
#: Threads may share the module, and not connections.
threadsafety = 1
#: Placeholders are `?`; `$1` and, with a dict of parameters, `$name` work too.
paramstyle = "qmark"

#: The name of the driver's function in the extension's file, for driver managers.
ENTRYPOINT = "AdbcVexactInit"

Warning = _adbc.Warning
Error = _adbc.Error
InterfaceError = _adbc.InterfaceError
DatabaseError = _adbc.DatabaseError
DataError = _adbc.DataError
OperationalError = _adbc.OperationalError
IntegrityError = _adbc.IntegrityError
InternalError = _adbc.InternalError
ProgrammingError = _adbc.ProgrammingError
NotSupportedError = _adbc.NotSupportedError

Date = _adbc.Date
Time = _adbc.Time
Timestamp = _adbc.Timestamp
DateFromTicks = _adbc.DateFromTicks
TimeFromTicks = _adbc.TimeFromTicks
TimestampFromTicks = _adbc.TimestampFromTicks
STRING = _adbc.STRING
BINARY = _adbc.BINARY
NUMBER = _adbc.NUMBER
DATETIME = _adbc.DATETIME
ROWID = _adbc.ROWID


def Binary(value: bytes | bytearray | memoryview) -> bytes:
    """A parameter of bytes."""
    return bytes(value)


class Cursor(_adbc.Cursor):
    """A cursor of `adbc_driver_manager.dbapi` whose `rowcount` is the number of rows that a statement changed."""

    # polars knows ADBC by the module of a connection and of a cursor.
    __module__ = _adbc.__name__

    def execute(self, operation: bytes | str, parameters: Any = None) -> Cursor:
        """Runs one statement. `rowcount` is the number of rows that it changed, or -1 for a query."""
        super().execute(operation, parameters)
        self._rowcount = self._stmt.get_option_int("vexact.rows_affected")
        return self


class Connection(_adbc.Connection):
    """A connection of `adbc_driver_manager.dbapi`."""

    __module__ = _adbc.__name__

    def cursor(self, *, adbc_stmt_kwargs: Mapping[str, Any] | None = None) -> Cursor:
        """A new cursor. `adbc_stmt_kwargs` are options of its statement, such as `vexact.timeout_seconds`."""
        cursor = Cursor(self, adbc_stmt_kwargs, dbapi_backend=self._backend)
        self._cursors.add(cursor)
        return cursor


def connect(
    path: str | os.PathLike[str] | None = None,
    *,
    tables: Mapping[str, str | os.PathLike[str]] | None = None,
    timeout: float | None = None,
    fresh: bool = True,
    read_only: bool = False,
    options: Mapping[str, str] | None = None,
) -> Connection:
    """Connects to a SQLite file with the replicas that are registered in it, or to a session.

    path: a SQLite file, created if it does not exist; a data file (Parquet, CSV, JSON, Arrow), which becomes a table
        by its name; None for a session without tables.
    tables: names and paths of further files, as tables.
    timeout: seconds after which a statement ends with `OperationalError`; None for no limit.
    fresh: whether a query first applies the changes that were committed before it, so that a search finds them.
    read_only: refuse statements that write.
    options: further options of the driver, such as {"vexact.storage_mode": "parquet", "vexact.storage_path": "folder"}.

    Raises a subclass of `Error`.
    """
    settings: dict[str, str] = {f"vexact.table.{name}": os.fspath(file) for name, file in (tables or {}).items()}
    if path is not None:
        settings["uri"] = os.fspath(path)
        _sqlite_guard.check_unopened(path)
    if timeout is not None:
        settings["vexact.timeout_seconds"] = str(timeout)
    if not fresh:
        settings["vexact.fresh"] = "false"
    settings.update(options or {})
    database = _lib.AdbcDatabase(driver=_native.__file__, entrypoint=ENTRYPOINT, **settings)
    try:
        arguments = {"adbc.connection.readonly": "true"} if read_only else {}
        connection = _lib.AdbcConnection(database, **arguments)
        opened = Connection(database, connection, arguments, autocommit=True)
        if path is not None:
            weakref.finalize(opened, _sqlite_guard.closed, _sqlite_guard.opened(path))
        return opened
    except BaseException:
        database.close()
        raise


__all__ = [
    "BINARY",
    "Binary",
    "Connection",
    "Cursor",
    "DATETIME",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "ENTRYPOINT",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NUMBER",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "ROWID",
    "STRING",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "threadsafety",
]

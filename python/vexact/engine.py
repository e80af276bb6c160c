"""The replication engine: SQLite for writes, columnar replicas for analytics and search, in one process.

All coroutines run under asyncio and under trio; they never block the event loop, and the engine works without the GIL.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

import anyio.to_thread
import pyarrow as pa

from . import _arguments as check
from . import _native, _sqlite_guard
from ._process import OfProcess
from ._settings import HtapConfig, Path, TableSchema, TimestampTableConfig
from .errors import EngineError
from .explain import Explain
from .session import Session

Params = Sequence[Any] | Mapping[str, Any] | None
T = TypeVar("T")
# The class has an attribute `_native`, so its annotations cannot name the module.
_NativeEngine: TypeAlias = _native.HtapEngine

__all__ = [
    "HtapConfig",
    "HtapEngine",
    "LogPosition",
    "SyncResult",
    "SyncStatus",
    "TableSchema",
    "TableStatus",
    "TimestampTableConfig",
    "open",
    "uninstall",
]


@dataclass(frozen=True, repr=False)
class SyncResult:
    """The outcome of a sync: changes applied, rows that really changed, changes removed from the log (None: none was)."""

    events_processed: int
    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    pruned_count: int | None = None

    def __repr__(self) -> str:
        return (
            f"SyncResult(events={self.events_processed}, inserted={self.rows_inserted}, updated={self.rows_updated}, "
            f"deleted={self.rows_deleted}, pruned={self.pruned_count})"
        )


@dataclass(frozen=True)
class TableStatus:
    """The state of one replica: its rows, changes not yet applied, `ready`, `not-loaded` or `failed`, and why it failed. `warning`:
    columns that a migration took from a replica that follows, rows of a source whose time cannot be right."""

    name: str
    rows: int
    lag: int
    state: str
    last_error: str | None = None
    warning: str | None = None


@dataclass(frozen=True)
class LogPosition:
    """The position of one engine in the change log: its name, the last row that it has applied, the rows after it, the folder of its
    replicas (None: in memory), and whether it runs, in any process."""

    id: str
    applied_seq: int
    lag: int
    folder: str | None
    is_running: bool


@dataclass(frozen=True)
class SyncStatus:
    """The state of replication: changes not yet applied, the last position of the log that was applied (None before the first
    sync), the last error, and each table by its name; the rows of the change log, and the engines that it is kept for."""

    lag: int
    last_synced_seq: int | None
    last_error: str | None
    tables: dict[str, TableStatus]
    log_rows: int = field(default=0, repr=False)
    positions: list[LogPosition] = field(default_factory=list, repr=False)


async def _in_thread(call: Callable[[], T], *, abandons: bool = False) -> T:
    # A read that nobody waits for is cancelled; a write is waited for, so that its end is known.
    if not abandons:
        return await anyio.to_thread.run_sync(call)
    token = _native.Cancellation()
    try:
        return await anyio.to_thread.run_sync(partial(token.run, call), abandon_on_cancel=True)
    except BaseException:
        token.cancel()
        raise


def _sqlite_files(config: HtapConfig) -> list[Path]:
    """Returns the SQLite files that an engine opens."""
    source = config.sidecar_source
    files = [] if source is not None and not config.sidecar_enable_oltp else [config.oltp_path]
    if source is not None and "://" not in os.fspath(source):
        files.append(source)
    return files


class HtapEngine:
    """A SQLite database with columnar replicas of its registered tables. `HtapEngine(config)` opens it and blocks;
    `await HtapEngine.create(config)` and `await vexact.open(...)` do not. An async context manager.

    Failures are `vexact.EngineError`, a `RuntimeError`.

    Other programs may use its SQLite files, and so may Python's `sqlite3` in this process, on Linux. On other systems two copies of SQLite
    in one process destroy files: there a file that this process has open is refused, and `sqlite3` warns (`RuntimeWarning`).
    """

    _native = OfProcess[_native.HtapEngine]()

    def __init__(self, config: HtapConfig | None = None) -> None:
        self.config = HtapConfig() if config is None else check.instance("config", config, HtapConfig)
        files = _sqlite_files(self.config)
        for file in files:
            _sqlite_guard.check_unopened(file)
        self._native = _native.HtapEngine(self.config)
        self._is_shut_down = False
        if (warning := self._native.warning()) is not None:
            warnings.warn(warning, UserWarning, stacklevel=2)
        # Called at the latest when the engine is collected, and once.
        self._closing = [weakref.finalize(self, _sqlite_guard.closed, _sqlite_guard.opened(file)) for file in files]

    @classmethod
    async def create(cls, config: HtapConfig | None = None) -> HtapEngine:
        """Opens an engine without blocking the event loop."""
        return await _in_thread(partial(cls, config))

    def _open(self) -> _NativeEngine:
        """Returns the native engine; an error after `shutdown`."""
        native = self._native
        if self._is_shut_down:
            raise EngineError("the engine was shut down")
        return native

    async def __aenter__(self) -> HtapEngine:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await _in_thread(self.shutdown)

    async def execute(self, sql: str, params: Params = None) -> int:
        """Runs one DML or DDL statement in SQLite; returns the number of affected rows, 0 for DDL.

        `params`: a sequence for `?`, `?1` and `$1`, or a mapping for `:name`, `@name` and `$name`. Values are None, bool, int, float,
        str, bytes, vectors (a sequence of numbers or a one-dimensional array, stored as a float32 BLOB), and datetime, date, Decimal
        and UUID, which are stored as text: dates and times as the adapters of `sqlite3` write them (`2024-01-31 12:00:00`), the others
        as `str` does. Alone in `IN (?)` a list, a set or an array is so many values.

        Transactions are `execute_batch`. A statement that returns rows is refused before it has any effect: `execute_returning`
        runs those with RETURNING.
        """
        return await _in_thread(partial(self._open().execute, check.text("sql", sql), params))

    async def execute_returning(self, sql: str, params: Params = None) -> list[pa.RecordBatch]:
        """Runs one INSERT, UPDATE or DELETE with RETURNING in SQLite; returns its rows, such as the
        key of a new row."""
        return await _in_thread(partial(self._open().execute_returning, check.text("sql", sql), params))

    def last_insert_rowid(self) -> int:
        """Returns the row id of the last row that a call of this engine inserted; 0 before the
        first. If several tasks write, use RETURNING to get the row ids of one task."""
        return self._open().last_insert_rowid()

    async def create_function(
        self, name: str, num_args: int, function: Callable[..., Any], *, deterministic: bool = False
    ) -> None:
        """Adds a scalar SQL function to SQLite on every connection of the engine: for statements, indexes and queries that SQLite
        answers. `num_args`: -1 takes any number. `deterministic`: the same arguments give the same value, as an index or a generated
        column needs.

        It is called with None, int, float, str and bytes, and returns what a parameter can be. What it raises is the error of the
        statement. A name that SQLite or the queries on replicas have is refused.
        """
        count = check.whole("num_args", num_args, -1, 127)
        call = check.function("function", function)
        add = partial(self._open().create_function, check.text("name", name), None if count < 0 else count, call)
        await _in_thread(partial(add, check.flag("deterministic", deterministic)))

    def create_collation(self, name: str, compare: Callable[[str, str], int]) -> None:
        """Adds a collation to SQLite on every connection of the engine. `compare` of two texts returns a number below 0, 0 or above 0.
        What it raises goes to `sys.unraisablehook`, and the texts are compared byte by byte."""
        self._open().create_collation(check.text("name", name), check.function("compare", compare))

    async def execute_batch(self, statements: Sequence[str | tuple[str, Params]]) -> None:
        """Runs statements in one transaction: all or nothing. Each is a text, or a pair of a text and its parameters."""
        listed = check.items("statements", statements, "a list of SQL texts or of (sql, params)")
        batch = [check.statement(f"statements: statement {place}", statement) for place, statement in enumerate(listed, start=1)]
        await _in_thread(partial(self._open().execute_batch, batch))

    async def execute_many(self, sql: str, rows_of_params: Iterable[Sequence[Any] | Mapping[str, Any]]) -> int:
        """Runs one prepared statement for each row of parameters, in one transaction; returns the
        total number of affected rows."""
        rows = list(check.items("rows_of_params", rows_of_params, "an iterable of sequences of parameters"))
        return await _in_thread(partial(self._open().execute_many, check.text("sql", sql), rows))

    async def query(self, sql: str, params: Params = None) -> list[pa.RecordBatch]:
        """Runs one query that only reads, on the side that `explain_route` names. An empty result keeps its schema."""
        return await _in_thread(partial(self._open().query, check.text("sql", sql), params), abandons=True)

    async def query_olap(self, sql: str, params: Params = None) -> list[pa.RecordBatch]:
        """Runs one query that only reads on the replicas and the session's tables."""
        return await _in_thread(partial(self._open().query_olap, check.text("sql", sql), params), abandons=True)

    def explain_route(self, sql: str) -> str:
        """Returns the side that answers a query, and the reason: `sqlite: ...` or `olap: ...`."""
        side, reason = self._open().route(check.text("sql", sql))
        return f"{side}: {reason}"

    async def register_table(self, schema: TableSchema, initial_sync: bool = False) -> None:
        """Captures a table's changes from now on, and creates its replica; with `initial_sync` its
        rows are copied.

        A table that has rows which are not copied warns (`UserWarning`).
        """
        check.instance("schema", schema, TableSchema)
        is_synced = check.flag("initial_sync", initial_sync)
        register = partial(self._open().register_table, schema.name, schema.columns, schema.pk, is_synced)
        unloaded = await _in_thread(register)
        if unloaded:
            warnings.warn(
                f"table {schema.name!r} has {unloaded} rows that its replica lacks: initial_sync({schema.name!r}) copies them",
                UserWarning,
                stacklevel=2,
            )

    async def unregister_table(self, table_name: str) -> None:
        """Ends the registration of a table and drops its replica. The table stays as it is; it may also have been dropped or renamed.

        It can be registered again, with other columns or another key.
        """
        await _in_thread(partial(self._open().unregister_table, check.text("table_name", table_name)))

    async def initial_sync(self, table_name: str) -> int:
        """Copies all rows of a registered table into its replica, in one step; returns their
        number. Harmless to repeat."""
        return await _in_thread(partial(self._open().initial_sync, check.text("table_name", table_name)))

    async def sync_now(self) -> SyncResult:
        """Runs one sync cycle: at most `sync_batch_size` changes, extended to the end of a
        transaction."""
        return SyncResult(*await _in_thread(self._open().sync_now))

    async def sync_all(self) -> SyncResult:
        """Runs sync cycles up to the end of the log at the time of the call; returns the sums."""
        return SyncResult(*await _in_thread(self._open().sync_all))

    async def sync_status(self) -> SyncStatus:
        """Returns the state of replication. Changes nothing."""
        lag, seq, error, tables, log_rows, positions = await _in_thread(self._open().sync_status)
        by_name = {table[0]: TableStatus(*table) for table in tables}
        return SyncStatus(lag, seq, error, by_name, log_rows, [LogPosition(*position) for position in positions])

    async def drop_position(self, id: str) -> int:
        """Removes the position of an engine that does not run from the change log; returns the
        number of pruned changes.

        The log is no longer held for that engine, whose replicas are copied if it comes back. Positions are in `sync_status()`.
        """
        return await _in_thread(partial(self._open().drop_position, check.text("id", id)))

    async def add_column(self, table_name: str, column_name: str, data_type: str) -> None:
        """Adds a column to a registered table: in SQLite, unless it is there, and in the replica, with SQLite's values."""
        names = check.text("table_name", table_name), check.text("column_name", column_name)
        await _in_thread(partial(self._open().add_column, *names, check.text("data_type", data_type)))

    async def drop_column(self, table_name: str, column_name: str) -> None:
        """Drops a column of a registered table, in SQLite and in the replica. Columns of the key
        cannot be dropped."""
        names = check.text("table_name", table_name), check.text("column_name", column_name)
        await _in_thread(partial(self._open().drop_column, *names))

    async def vector_search(
        self,
        table: str,
        column: str,
        query: Any,
        top_k: int = 10,
        metric: str = "cosine",
        *,
        filter: str | None = None,
        params: Params = None,
        columns: str | Sequence[str] | None = None,
        min_score: float | None = None,
        group_by: str | None = None,
        fresh: bool = False,
    ) -> list[pa.RecordBatch]:
        """Returns the rows of a replica closest to `query`, best first: the key's columns, `score`
        (float64), then `columns` (`"*"`: all).

        `filter`: a SQL predicate on the table, applied before the search; `params`: the values of its placeholders, as in `query`. `min_score`:
        only rows of at least this score are searched. `group_by`: a column whose values group the rows, of each of which the result has
        the `top_k` best. `fresh`: syncs first, so that all writes before the call are seen.
        """
        arguments = check.search(table, "column", column, query, top_k, metric, filter, params, columns, min_score, group_by)
        is_fresh = check.flag("fresh", fresh)
        return await _in_thread(partial(self._open().vector_search, arguments, is_fresh), abandons=True)

    async def explain_vector_search(
        self,
        table: str,
        column: str,
        query: Any,
        top_k: int = 10,
        metric: str = "cosine",
        *,
        filter: str | None = None,
        params: Params = None,
        columns: str | Sequence[str] | None = None,
        min_score: float | None = None,
        group_by: str | None = None,
        fresh: bool = False,
    ) -> str:
        """Runs such a search and returns how it was done: an `Explain`, a str with `.logical`,
        `.physical` and `.strategy`."""
        arguments = check.search(table, "column", column, query, top_k, metric, filter, params, columns, min_score, group_by)
        is_fresh = check.flag("fresh", fresh)
        explain = partial(self._open().explain_vector_search, arguments, is_fresh)
        return Explain(*await _in_thread(explain, abandons=True))

    def start_sync(self, interval_seconds: float) -> None:
        """Starts a sync in the background at this interval in seconds. Its errors are in
        `sync_status().last_error`."""
        seconds = check.number("interval_seconds", interval_seconds)
        if not 0 < seconds < 1e9:
            raise ValueError(f"interval_seconds: expected a number above 0 and below 1e9, got {interval_seconds!r}")
        self._open().start_sync(seconds)

    def stop_sync(self) -> None:
        """Stops the background sync. Harmless to repeat, also after `shutdown`."""
        self._native.stop_sync()

    def session(self) -> Session:
        """Returns a `Session` on the same catalog: files and Arrow tables join with the replicas.
        """
        return Session._over(self._open().session())

    def shutdown(self) -> None:
        """Releases threads, connections and files. Harmless to repeat; later calls of other methods raise `RuntimeError`. In a child of
        `fork` it does nothing: they are the parent's."""
        if not type(self)._native.is_here(self):
            return
        self._is_shut_down = True
        self._native.shutdown()
        for closing in self._closing:
            closing()


async def open(
    oltp_path: Path = "vexact.db",
    *,
    sync_mode: str = "destructive",
    olap_backend: str = "datafusion",
    storage_mode: str = "inmemory",
    storage_path: Path | None = None,
    prune_after_sync: bool = True,
    sync_batch_size: int = 1000,
    read_pool_size: int = 4,
    sidecar_source: Path | None = None,
    sidecar_tables: list[TimestampTableConfig] | None = None,
    sidecar_poll_batch_size: int = 500,
    sidecar_delete_detection: str = "disabled",
    sidecar_enable_oltp: bool = False,
    log_limit: int | None = None,
) -> HtapEngine:
    """Opens an engine: `async with await vexact.open("app.db") as engine: ...`. The settings are those of `HtapConfig`.

    `file:app.db?mode=ro` opens an engine that follows what another engine captures in the file, and never writes it.
    """
    config = HtapConfig(
        oltp_path=oltp_path,
        prune_after_sync=prune_after_sync,
        sync_batch_size=sync_batch_size,
        read_pool_size=read_pool_size,
        sync_mode=sync_mode,
        olap_backend=olap_backend,
        storage_mode=storage_mode,
        storage_path=storage_path,
        sidecar_source=sidecar_source,
        sidecar_tables=sidecar_tables,
        sidecar_poll_batch_size=sidecar_poll_batch_size,
        sidecar_delete_detection=sidecar_delete_detection,
        sidecar_enable_oltp=sidecar_enable_oltp,
        log_limit=log_limit,
    )
    return await HtapEngine.create(config)


async def uninstall(oltp_path: Path) -> list[str]:
    """Removes from a SQLite file the triggers and tables that vexact made in it, in one
    transaction; returns their names.

    The app's own tables stay as they are. An engine that has the file open drops its replicas at its next sync.
    """
    path = check.path("oltp_path", oltp_path)
    _sqlite_guard.check_unopened(path)
    return await _in_thread(partial(_native.uninstall, path))

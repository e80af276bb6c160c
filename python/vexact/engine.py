"""The replication engine: SQLite for writes, columnar replicas for analytics and search, in one process.

All coroutines run under asyncio and under trio; they never block the event loop, and the engine works without the GIL.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any

import anyio

from . import _arguments as check
from . import _native, _sqlite_guard
from ._blocking import in_thread
from ._datafusion import ReplicaSnapshot, ReplicaTable
from ._embed_column import EmbedColumn
from ._embeddings import Embeddings, Vectors
from ._engine_searches import EngineSearches, Params, T
from ._settings import HtapConfig, InferredSchema, Path, TableSchema, TimestampTableConfig, schema_code
from ._sync_status import LogPosition, SyncResult, SyncStatus, TableStatus
from .errors import InvalidRequestError
from .progress import Progress
from .result import QueryResult
from .session import Session

__all__ = [
    "HtapConfig",
    "HtapEngine",
    "InferredSchema",
    "LogPosition",
    "SyncResult",
    "SyncStatus",
    "TableSchema",
    "TableStatus",
    "TimestampTableConfig",
    "open",
    "uninstall",
]


def _vector_column(item: tuple[object, object]) -> tuple[str, int | None]:
    column, dim = item
    name = check.text("vectors: a column's name", column)
    return name, None if dim is None else check.whole(f"vectors: {name!r}", dim, 1)


def _sqlite_files(config: HtapConfig) -> list[Path]:
    """Returns the SQLite files that an engine opens."""
    source = config.sidecar_source
    files = [] if source is not None and not config.sidecar_enable_oltp else [config.oltp_path]
    if source is not None and "://" not in os.fspath(source):
        files.append(source)
    return files


class HtapEngine(EngineSearches):
    """A SQLite database with columnar replicas of its registered tables. `HtapEngine(config)` opens it and blocks;
    `await HtapEngine.create(config)` and `await vexact.open(...)` do not. An async context manager.

    Failures are `vexact.EngineError`, a `RuntimeError`.

    Other programs may use its SQLite files, and so may Python's `sqlite3` in this process, on Linux. On other systems two copies of SQLite
    in one process destroy files: there a file that this process has open is refused, and `sqlite3` warns (`RuntimeWarning`).
    """

    def __init__(self, config: HtapConfig | None = None) -> None:
        self.config = HtapConfig() if config is None else check.instance("config", config, HtapConfig)
        files = _sqlite_files(self.config)
        for file in files:
            _sqlite_guard.check_unopened(file)
        self._native = _native.HtapEngine(self.config)
        self._is_shut_down = False
        self._embeddings = Embeddings()
        if (warning := self._native.warning()) is not None:
            warnings.warn(warning, UserWarning, stacklevel=2)
        # Called at the latest when the engine is collected, and once.
        self._closing = [weakref.finalize(self, _sqlite_guard.closed, _sqlite_guard.opened(file)) for file in files]

    @classmethod
    async def create(cls, config: HtapConfig | None = None) -> HtapEngine:
        """Opens an engine without blocking the event loop."""
        return await in_thread(partial(cls, config))

    async def __aenter__(self) -> HtapEngine:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await in_thread(self.shutdown)

    async def execute(self, sql: str, params: Params = None) -> int:
        """Runs one DML or DDL statement in SQLite; returns the number of affected rows, 0 for DDL.

        `params`: a sequence for `?`, `?1` and `$1`, or a mapping for `:name`, `@name` and `$name`. Values are None, bool, int, float,
        str, bytes, vectors (a sequence of numbers or a one-dimensional array, stored as a float32 BLOB), and datetime, date, Decimal
        and UUID, which are stored as text: dates and times as the adapters of `sqlite3` write them (`2024-01-31 12:00:00`), the others
        as `str` does. Alone in `IN (?)` a list, a set or an array is so many values.

        Transactions are `execute_batch`. A statement that returns rows is refused before it has any effect: `execute_returning`
        runs those with RETURNING.
        """
        return await in_thread(partial(self._folded, self._open().execute, check.text("sql", sql), params))

    async def execute_returning(self, sql: str, params: Params = None) -> QueryResult:
        """Runs one INSERT, UPDATE or DELETE with RETURNING in SQLite; returns its rows, such as the
        key of a new row."""
        return QueryResult(await in_thread(partial(self._folded, self._open().execute_returning, check.text("sql", sql), params)))

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

        It is called with None, int, float, str and bytes, and returns what a parameter can be. An exception of it is the error of
        the statement. A name that SQLite or the queries on replicas have is refused.
        """
        count = check.whole("num_args", num_args, -1, 127)
        call = check.function("function", function)
        add = partial(self._open().create_function, check.text("name", name), None if count < 0 else count, call)
        await in_thread(partial(add, check.flag("deterministic", deterministic)))

    def create_collation(self, name: str, compare: Callable[[str, str], int]) -> None:
        """Adds a collation to SQLite on every connection of the engine. `compare` of two texts returns a number below 0, 0 or above 0.
        What it raises goes to `sys.unraisablehook`, and the texts are compared byte by byte."""
        self._open().create_collation(check.text("name", name), check.function("compare", compare))

    async def execute_batch(self, statements: Sequence[str | tuple[str, Params]]) -> None:
        """Runs statements in one transaction: all or nothing. Each is a text, or a pair of a text and its parameters."""
        listed = check.items("statements", statements, "a list of SQL texts or of (sql, params)")
        batch = [check.statement(f"statements: statement {place}", statement) for place, statement in enumerate(listed, start=1)]
        await in_thread(partial(self._open().execute_batch, batch))

    async def execute_many(self, sql: str, rows_of_params: Iterable[Sequence[Any] | Mapping[str, Any]]) -> int:
        """Runs one prepared statement for each row of parameters, in one transaction; returns the
        total number of affected rows."""
        rows = list(check.items("rows_of_params", rows_of_params, "an iterable of sequences of parameters"))
        return await in_thread(partial(self._execute_many, check.text("sql", sql), rows))

    def _execute_many(self, sql: str, rows: list[Any]) -> int:
        folded = self._embeddings.statement(sql)
        return self._open().execute_many(*((sql, rows) if folded is None else (folded.sql, folded.bind(rows))))

    def _folded(self, run: Callable[[str, Params], T], sql: str, params: Params) -> T:
        return run(*self._embeddings.folded(sql, params))

    async def query(self, sql: str, params: Params = None) -> QueryResult:
        """Runs one query that only reads, on the side that `explain_route` names. An empty result keeps its schema."""
        return QueryResult(await in_thread(partial(self._folded, self._open().query, check.text("sql", sql), params), abandons=True))

    async def query_olap(self, sql: str, params: Params = None) -> QueryResult:
        """Runs one query that only reads on the replicas and the session's tables."""
        return QueryResult(await in_thread(partial(self._folded, self._open().query_olap, check.text("sql", sql), params), abandons=True))

    async def export(self, table: str, path: str | os.PathLike[str]) -> None:
        """Writes the rows of one version of a replica as a Parquet file, so that other processes read them, as workers do.

        The file gets its name when it is complete, and replaces one of that name: a reader sees the old rows or the new ones.
        """
        await in_thread(partial(self._open().export, check.text("table", table), check.path("path", path)), abandons=True)

    def explain_route(self, sql: str) -> str:
        """Returns the side that answers a query, and the reason: `sqlite: ...` or `olap: ...`."""
        folded = self._embeddings.statement(check.text("sql", sql))
        side, reason = self._open().route(sql if folded is None else folded.sql)
        return f"{side}: {reason}"

    async def infer_schema(self, table_name: str, *, vectors: Mapping[str, int | None] | None = None) -> InferredSchema:
        """Reads the columns, types and key of a table from SQLite: what `register_table` takes for a table's name. Changes nothing.

        A type is that of the declaration (`F32_BLOB(384)`, `FLOAT[384]` and `vector(384)` are vectors), else of the column's values;
        the key is the primary key, else the row id. `vectors`: for BLOB columns the dimension of their vectors of float32, None for
        bytes. `InvalidRequestError` for a column whose type neither says, with the code to write.
        """
        return await in_thread(partial(self._inferred, table_name, vectors), abandons=True)

    def _inferred(self, table_name: str, vectors: Mapping[str, int | None] | None) -> InferredSchema:
        said = [] if vectors is None else [_vector_column(item) for item in check.mapping("vectors", vectors).items()]
        name, columns, key = self._open().infer_schema(check.text("table_name", table_name), said)
        typed = [(column, kind) for column, kind, _, _ in columns]
        unsure = [column for column, _, is_certain, _ in columns if not is_certain]
        if unsure:
            comments = {column: reason if is_certain else f"not sure: {reason}" for column, _, is_certain, reason in columns}
            raise InvalidRequestError(
                f"table {name!r}: expected a declaration or values that say the type of each column, which {', '.join(map(repr, unsure))} "
                "lacks. Say what BLOBs are with vectors={column: dimension} (None: bytes), or write the schema:\n"
                + schema_code(name, typed, key, comments)
            )
        return InferredSchema(name, typed, key, {column: reason for column, _, _, reason in columns})

    async def register_table(
        self,
        schema: TableSchema | str,
        initial_sync: bool | None = None,
        *,
        vectors: Mapping[str, int | None] | None = None,
    ) -> TableSchema:
        """Captures a table's changes from now on, and creates its replica; with `initial_sync` its rows are copied. Returns the schema.

        `schema`: a `TableSchema`, or the name of a table whose schema is read from SQLite, with `vectors` as `infer_schema` does; then
        its rows are copied by default. A table that has rows which are not copied warns (`UserWarning`).
        """
        if isinstance(schema, str):
            schema = await self.infer_schema(schema, vectors=vectors)
            is_synced = True if initial_sync is None else check.flag("initial_sync", initial_sync)
        else:
            check.instance("schema", schema, TableSchema)
            if vectors is not None:
                raise InvalidRequestError("vectors: expected None with a TableSchema, which has all types")
            is_synced = False if initial_sync is None else check.flag("initial_sync", initial_sync)
        register = partial(self._open().register_table, schema.name, schema.columns, schema.pk, is_synced)
        unloaded = await in_thread(register)
        if unloaded:
            warnings.warn(
                f"table {schema.name!r} has {unloaded} rows that its replica lacks: initial_sync({schema.name!r}) copies them",
                UserWarning,
                stacklevel=2,
            )
        return schema

    async def unregister_table(self, table_name: str) -> None:
        """Ends the registration of a table and drops its replica. The table stays as it is; it may also have been dropped or renamed.

        It can be registered again, with other columns or another key.
        """
        await in_thread(partial(self._open().unregister_table, check.text("table_name", table_name)))

    async def initial_sync(self, table_name: str) -> int:
        """Copies all rows of a registered table into its replica, in one step; returns their
        number. Harmless to repeat."""
        return await in_thread(partial(self._open().initial_sync, check.text("table_name", table_name)))

    async def sync_now(self) -> SyncResult:
        """Runs one sync cycle: at most `sync_batch_size` changes, extended to the end of a
        transaction."""
        return SyncResult(*await in_thread(self._open().sync_now))

    async def sync_all(self) -> SyncResult:
        """Runs sync cycles up to the end of the log at the time of the call; returns the sums."""
        return SyncResult(*await in_thread(self._open().sync_all))

    async def sync_status(self) -> SyncStatus:
        """Returns the state of replication. Changes nothing."""
        lag, seq, error, tables, log_rows, positions = await in_thread(self._open().sync_status)
        by_name = {table[0]: TableStatus(*table) for table in tables}
        return SyncStatus(lag, seq, error, by_name, log_rows, [LogPosition(*position) for position in positions])

    async def drop_position(self, id: str) -> int:
        """Removes the position of an engine that does not run from the change log; returns the
        number of pruned changes.

        The log is no longer held for that engine, whose replicas are copied if it comes back. Positions are in `sync_status()`.
        """
        return await in_thread(partial(self._open().drop_position, check.text("id", id)))

    async def add_column(self, table_name: str, column_name: str, data_type: str) -> None:
        """Adds a column to a registered table: in SQLite, unless it is there, and in the replica, with SQLite's values."""
        names = check.text("table_name", table_name), check.text("column_name", column_name)
        await in_thread(partial(self._open().add_column, *names, check.text("data_type", data_type)))

    async def drop_column(self, table_name: str, column_name: str) -> None:
        """Drops a column of a registered table, in SQLite and in the replica. Columns of the key
        cannot be dropped."""
        names = check.text("table_name", table_name), check.text("column_name", column_name)
        await in_thread(partial(self._open().drop_column, *names))

    def register_embedding(self, name: str, function: Any, *, dim: int, batch: int = 64) -> None:
        """Adds an embedding function for `embed('name', $1)` in statements and queries, those of its sessions included, and for
        `embed_column`. It is called once for a statement, or for all rows of `execute_many`, in a thread.

        `function`: takes a list of texts and returns as many vectors of `dim` components, as a list or an array; or an object with
        `embed_documents` and, for the texts of queries, `embed_query`, as LangChain's embeddings. It gets at most `batch` texts at a
        time. Its exceptions come through. A function of the same name is replaced.
        """
        self._embeddings.register(name, function, dim, batch)

    async def embed(self, name: str, texts: str | Sequence[str]) -> Vectors:
        """Returns the vector of a text by a registered embedding function, or those of several texts as rows (numpy, float32)."""
        return await in_thread(partial(self._embeddings.embed, name, texts))

    async def embed_column(
        self,
        table: str,
        text_column: str,
        vector_column: str,
        *,
        with_: str,
        overwrite: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> int:
        """Fills a column of vectors (a BLOB in SQLite) from a column of texts: each row that has a text and no vector. Returns the
        number of rows filled.

        From the first call on a trigger of the table, `vexact_embed_<table>_<column>`, clears the vector of a row whose text is
        changed, by whichever program, so that the next call fills it again and no search finds the row by its old text. A vector that is
        written together with the text stays. Each batch is a transaction: a call that ends early, also because its task is cancelled, is
        taken up by the next.

        `with_`: the name of a registered function. `overwrite`: clears all vectors first, for another function. `progress(done, total)`
        is called after each batch; without it a bar is shown at a terminal where tqdm is installed.
        """
        function = self._embeddings.find(with_)
        names = (check.text("table", table), check.text("text_column", text_column), check.text("vector_column", vector_column))
        if progress is not None:
            check.function("progress", progress)
        column = EmbedColumn(self._open(), *names)
        await in_thread(partial(column.start, check.flag("overwrite", overwrite)))
        with Progress("embed_column") as bar:
            while await in_thread(partial(column.fill_batch, function)):
                bar(column.done)
                if progress is not None:
                    progress(column.done, max(column.total, column.done))
        return column.done

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
        return Session._over(self._open().session(), self._embeddings)

    def table(self, name: str) -> ReplicaTable:
        """Returns a replica as a table for other programs: `ctx.register_table("docs", engine.table("docs"))` in a context of the
        package `datafusion`, or whatever reads the Arrow C stream. Each scan reads the newest version."""
        return ReplicaTable(_native.replica_table(self._open(), check.text("name", name)))

    def snapshot(self) -> ReplicaSnapshot:
        """Returns all replicas at one version, for other programs: `ctx.register_catalog_provider("app", engine.snapshot())` in a
        context of the package `datafusion`. Later syncs are not seen."""
        return ReplicaSnapshot(_native.replica_snapshot(self._open()))

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
    tier: str = "auto",
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
        tier=tier,
    )
    return await HtapEngine.create(config)


async def uninstall(oltp_path: Path) -> list[str]:
    """Removes from a SQLite file the triggers and tables that vexact made in it, in one
    transaction; returns their names.

    The app's own tables stay as they are. An engine that has the file open drops its replicas at its next sync.
    """
    path = check.path("oltp_path", oltp_path)
    _sqlite_guard.check_unopened(path)
    return await in_thread(partial(_native.uninstall, path))

"""The methods of `HtapEngine`, written by `python python/tests/connection_stub.py`; a test compares them."""

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
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar
from . import _native
from ._process import OfProcess
from .errors import EngineError
from .explain import Explain
from .engine import HtapEngine

__all__ = ["Connection", "connect"]

class Connection:
    """An engine with blocking methods: those of `HtapEngine`, with the same names, arguments and results, and no `await`.

    A context manager. Safe from several threads; each call releases the GIL, and Ctrl-C ends a query. `engine` is the engine, for
    `async` code on the same data.
    """
    engine: HtapEngine
    def __init__(self, engine: HtapEngine) -> None: ...
    @property
    def config(self) -> HtapConfig:
        """The engine's settings."""
    def close(self) -> None:
        """Releases threads, connections and files. Harmless to repeat; later calls of other methods raise `EngineError`."""
    def __enter__(self) -> Connection: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None: ...
    def __repr__(self) -> str: ...
    def execute(self, sql: str, params: Params=None) -> int:
        """Runs one DML or DDL statement in SQLite; returns the number of affected rows, 0 for DDL.

        `params`: a sequence for `?`, `?1` and `$1`, or a mapping for `:name`, `@name` and `$name`. Values are None, bool, int, float,
        str, bytes, vectors (a sequence of numbers or a one-dimensional array, stored as a float32 BLOB), and datetime, date, Decimal
        and UUID, which are stored as text: dates and times as the adapters of `sqlite3` write them (`2024-01-31 12:00:00`), the others
        as `str` does. Alone in `IN (?)` a list, a set or an array is so many values.

        Transactions are `execute_batch`. A statement that returns rows is refused before it has any effect: `execute_returning`
        runs those with RETURNING.
        """
    def execute_returning(self, sql: str, params: Params=None) -> QueryResult:
        """Runs one INSERT, UPDATE or DELETE with RETURNING in SQLite; returns its rows, such as the
        key of a new row."""
    def last_insert_rowid(self) -> int:
        """Returns the row id of the last row that a call of this engine inserted; 0 before the
        first. If several tasks write, use RETURNING to get the row ids of one task."""
    def create_function(self, name: str, num_args: int, function: Callable[..., Any], *, deterministic: bool=False) -> None:
        """Adds a scalar SQL function to SQLite on every connection of the engine: for statements, indexes and queries that SQLite
        answers. `num_args`: -1 takes any number. `deterministic`: the same arguments give the same value, as an index or a generated
        column needs.

        It is called with None, int, float, str and bytes, and returns what a parameter can be. An exception of it is the error of
        the statement. A name that SQLite or the queries on replicas have is refused.
        """
    def create_collation(self, name: str, compare: Callable[[str, str], int]) -> None:
        """Adds a collation to SQLite on every connection of the engine. `compare` of two texts returns a number below 0, 0 or above 0.
        What it raises goes to `sys.unraisablehook`, and the texts are compared byte by byte."""
    def execute_batch(self, statements: Sequence[str | tuple[str, Params]]) -> None:
        """Runs statements in one transaction: all or nothing. Each is a text, or a pair of a text and its parameters."""
    def execute_many(self, sql: str, rows_of_params: Iterable[Sequence[Any] | Mapping[str, Any]]) -> int:
        """Runs one prepared statement for each row of parameters, in one transaction; returns the
        total number of affected rows."""
    def query(self, sql: str, params: Params=None) -> QueryResult:
        """Runs one query that only reads, on the side that `explain_route` names. An empty result keeps its schema."""
    def query_olap(self, sql: str, params: Params=None) -> QueryResult:
        """Runs one query that only reads on the replicas and the session's tables."""
    def export(self, table: str, path: str | os.PathLike[str]) -> None:
        """Writes the rows of one version of a replica as a Parquet file, so that other processes read them, as workers do.

        The file gets its name when it is complete, and replaces one of that name: a reader sees the old rows or the new ones.
        """
    def explain_route(self, sql: str) -> str:
        """Returns the side that answers a query, and the reason: `sqlite: ...` or `olap: ...`."""
    def infer_schema(self, table_name: str, *, vectors: Mapping[str, int | None] | None=None) -> InferredSchema:
        """Reads the columns, types and key of a table from SQLite: what `register_table` takes for a table's name. Changes nothing.

        A type is that of the declaration (`F32_BLOB(384)`, `FLOAT[384]` and `vector(384)` are vectors), else of the column's values;
        the key is the primary key, else the row id. `vectors`: for BLOB columns the dimension of their vectors of float32, None for
        bytes. `InvalidRequestError` for a column whose type neither says, with the code to write.
        """
    def register_table(self, schema: TableSchema | str, initial_sync: bool | None=None, *, vectors: Mapping[str, int | None] | None=None) -> TableSchema:
        """Captures a table's changes from now on, and creates its replica; with `initial_sync` its rows are copied. Returns the schema.

        `schema`: a `TableSchema`, or the name of a table whose schema is read from SQLite, with `vectors` as `infer_schema` does; then
        its rows are copied by default. A table that has rows which are not copied warns (`UserWarning`).
        """
    def unregister_table(self, table_name: str) -> None:
        """Ends the registration of a table and drops its replica. The table stays as it is; it may also have been dropped or renamed.

        It can be registered again, with other columns or another key.
        """
    def initial_sync(self, table_name: str) -> int:
        """Copies all rows of a registered table into its replica, in one step; returns their
        number. Harmless to repeat."""
    def sync_now(self) -> SyncResult:
        """Runs one sync cycle: at most `sync_batch_size` changes, extended to the end of a
        transaction."""
    def sync_all(self) -> SyncResult:
        """Runs sync cycles up to the end of the log at the time of the call; returns the sums."""
    def sync_status(self) -> SyncStatus:
        """Returns the state of replication. Changes nothing."""
    def drop_position(self, id: str) -> int:
        """Removes the position of an engine that does not run from the change log; returns the
        number of pruned changes.

        The log is no longer held for that engine, whose replicas are copied if it comes back. Positions are in `sync_status()`.
        """
    def add_column(self, table_name: str, column_name: str, data_type: str) -> None:
        """Adds a column to a registered table: in SQLite, unless it is there, and in the replica, with SQLite's values."""
    def drop_column(self, table_name: str, column_name: str) -> None:
        """Drops a column of a registered table, in SQLite and in the replica. Columns of the key
        cannot be dropped."""
    def register_embedding(self, name: str, function: Any, *, dim: int, batch: int=64) -> None:
        """Adds an embedding function for `embed('name', $1)` in statements and queries, those of its sessions included, and for
        `embed_column`. It is called once for a statement, or for all rows of `execute_many`, in a thread.

        `function`: takes a list of texts and returns as many vectors of `dim` components, as a list or an array; or an object with
        `embed_documents` and, for the texts of queries, `embed_query`, as LangChain's embeddings. It gets at most `batch` texts at a
        time. Its exceptions come through. A function of the same name is replaced.
        """
    def embed(self, name: str, texts: str | Sequence[str]) -> Vectors:
        """Returns the vector of a text by a registered embedding function, or those of several texts as rows (numpy, float32)."""
    def embed_column(self, table: str, text_column: str, vector_column: str, *, with_: str, overwrite: bool=False, progress: Callable[[int, int], object] | None=None) -> int:
        """Fills a column of vectors (a BLOB in SQLite) from a column of texts: each row that has a text and no vector. Returns the
        number of rows filled.

        From the first call on a trigger of the table, `vexact_embed_<table>_<column>`, clears the vector of a row whose text is
        changed, by whichever program, so that the next call fills it again and no search finds the row by its old text. A vector that is
        written together with the text stays. Each batch is a transaction: a call that ends early, also because its task is cancelled, is
        taken up by the next.

        `with_`: the name of a registered function. `overwrite`: clears all vectors first, for another function. `progress(done, total)`
        is called after each batch; without it a bar is shown at a terminal where tqdm is installed.
        """
    def start_sync(self, interval_seconds: float) -> None:
        """Starts a sync in the background at this interval in seconds. Its errors are in
        `sync_status().last_error`."""
    def stop_sync(self) -> None:
        """Stops the background sync. Harmless to repeat, also after `shutdown`."""
    def session(self) -> Session:
        """Returns a `Session` on the same catalog: files and Arrow tables join with the replicas.
        """
    def table(self, name: str) -> ReplicaTable:
        """Returns a replica as a table for other programs: `ctx.register_table("docs", engine.table("docs"))` in a context of the
        package `datafusion`, or whatever reads the Arrow C stream. Each scan reads the newest version."""
    def snapshot(self) -> ReplicaSnapshot:
        """Returns all replicas at one version, for other programs: `ctx.register_catalog_provider("app", engine.snapshot())` in a
        context of the package `datafusion`. Later syncs are not seen."""
    def shutdown(self) -> None:
        """Releases threads, connections and files. Harmless to repeat; later calls of other methods raise `RuntimeError`. In a child of
        `fork` it does nothing: they are the parent's."""
    def vector_search(self, table: str, column: str, query: Any, top_k: int=10, metric: str='cosine', *, filter: str | None=None, params: Params=None, columns: str | Sequence[str] | None=None, min_score: float | None=None, group_by: str | None=None, fresh: bool=False) -> QueryResult:
        """Returns the rows of a replica closest to `query`, best first: the key's columns, `score`
        (float64), then `columns` (`"*"`: all).

        `filter`: a SQL predicate on the table, applied before the search; `params`: the values of its placeholders, as in `query`. `min_score`:
        only rows of at least this score are searched. `group_by`: a column whose values group the rows, of each of which the result has
        the `top_k` best. `fresh`: syncs first, so that all writes before the call are seen.
        """
    def explain_vector_search(self, table: str, column: str, query: Any, top_k: int=10, metric: str='cosine', *, filter: str | None=None, params: Params=None, columns: str | Sequence[str] | None=None, min_score: float | None=None, group_by: str | None=None, fresh: bool=False) -> str:
        """Runs such a search and returns how it was done: an `Explain`, a str with `.logical`,
        `.physical` and `.strategy`."""
    def register_text(self, table: str, columns: str | Sequence[str], tokenizer: str='unicode61') -> None:
        """Indexes the text of columns of a replica for `text_search` and `hybrid_search`, and keeps the indexes at the replica's
        version; rows whose text is NULL are not in them. A column that is indexed already gets the new tokenizer.

        `tokenizer`: `unicode61` (words, without case and diacritics), `porter` (English stems) or `trigram` (substrings of three
        characters and more, also for languages without spaces). The database file remembers the indexes, those of followed
        tables too. Without a file that can be written, they last as long as the stored replicas or, without, as the engine.
        """
    def unregister_text(self, table: str, columns: str | Sequence[str] | None=None) -> None:
        """Drops the text indexes of columns of a table (None: all of them)."""
    def text_columns(self) -> list[tuple[str, str, str]]:
        """Returns table, column and tokenizer of each text index."""
    def text_search(self, table: str, column: str, words: str, top_k: int | None=10, *, filter: str | None=None, params: Params=None, columns: str | Sequence[str] | None=None, query_syntax: str='any', fresh: bool=False) -> QueryResult:
        """Returns the rows of a replica whose text matches `words`, best first: the key's columns, `text_score` (float64: BM25,
        larger is better), `text_rank` (int64, from 1), then `columns` (`"*"`: all). Equal scores are in the order of the key.

        `column`: one of `register_text`. `top_k`: None for all matches. `query_syntax`: `any` (plain words, documents with any of
        them), `all` (with all of them) or `fts5` (the query language of SQLite's FTS5). `filter`, `params`, `fresh`: as in
        `vector_search`; only rows that fulfil the filter are ranked.
        """
    def hybrid_search(self, table: str, vector_column: str, query: Any, text_column: str, words: str, top_k: int=10, metric: str='cosine', *, filter: str | None=None, params: Params=None, columns: str | Sequence[str] | None=None, query_syntax: str='any', rrf_k: float=60.0, depth: int | None=100, weight: float=0.5, fresh: bool=False) -> QueryResult:
        """Returns the rows that a vector search and a text search rank best, by reciprocal rank fusion: the key's columns, `score`
        (float64), `vector_rank`, `vector_score`, `text_rank`, `text_score` (NULL where a list lacks the row), then `columns`.

        The score is `2 * weight / (rrf_k + vector_rank) + 2 * (1 - weight) / (rrf_k + text_rank)`. `depth`: the rows of each list;
        None for all. Equal scores are in the order of the key, so the answer is a function of the data. Both searches see one
        version of the table. The other arguments are those of `vector_search` and `text_search`.
        """

def connect(path: Path='vexact.db', *, sync_mode: str='destructive', olap_backend: str='datafusion', storage_mode: str='inmemory', storage_path: Path | None=None, prune_after_sync: bool=True, sync_batch_size: int=1000, read_pool_size: int=4, sidecar_source: Path | None=None, sidecar_tables: list[TimestampTableConfig] | None=None, sidecar_poll_batch_size: int=500, sidecar_delete_detection: str='disabled', sidecar_enable_oltp: bool=False, log_limit: int | None=None, tier: str='auto') -> Connection:
    """Opens a SQLite file with blocking methods: `with vexact.connect("app.db") as db: ...`. `settings` are those of `vexact.open`.

`async` programs use `vexact.open`, whose methods are awaited.
"""

"""A table of documents in a SQLite file, with a replica for the search of their vectors: what the stores of all frameworks share.

The table is `id TEXT PRIMARY KEY, content TEXT, meta TEXT, extra TEXT, embedding BLOB`. `meta` is the JSON object of the user's metadata;
`extra` is what the framework needs beyond, or NULL. The vectors of a table have one dimension: the given one, that of its rows, or
that of the first vector written.
"""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _arguments as check
from .._settings import Path, TableSchema
from ..connection import Connection, connect
from ..engine import HtapEngine
from ..errors import EngineError, InvalidRequestError
from ._conditions import ALWAYS, CASEFOLD, Condition, every, json_text, marks

#: Rows that one statement reads by their ids.
_IDS_AT_ONCE = 500
METRICS = ("cosine", "dot", "l2")


@dataclass
class Row:
    """A document: its id, its text, its metadata, what its framework keeps, and its vector."""

    id: str
    content: str | None
    meta: dict[str, Any]
    extra: dict[str, Any] | None = None
    vector: np.ndarray[Any, np.dtype[np.float32]] | None = None


@dataclass
class Hit:
    """A document that was found, and its score: a distance, or under `dot` the product."""

    row: Row
    score: float


class _Shared:
    """Connections that stores opened by a path, one for each file: closed with their last store."""

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


_shared = _Shared()
#: One thread at a time registers a table.
_registering = threading.Lock()
#: The engines that have the function `CASEFOLD`.
_with_casefold: weakref.WeakSet[HtapEngine] = weakref.WeakSet()


def _casefold(text: Any) -> Any:
    return text.casefold() if isinstance(text, str) else text


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class DocumentTable:
    """The table `table` of a database: a path, a `vexact.Connection` or a `vexact.HtapEngine`, which stay open when it is closed."""

    def __init__(
        self, database: Path | Connection | HtapEngine, table: str, dim: int | None = None, metric: str = "cosine"
    ) -> None:
        self.table = check.text("table", table)
        if metric not in METRICS:
            raise InvalidRequestError(f"metric: expected one of {', '.join(METRICS)}, got {metric!r}")
        self.metric = metric
        self._dim = None if dim is None else check.whole("dim", dim, 1)
        release: Callable[[], None] | None = None
        if isinstance(database, HtapEngine):
            self.connection = Connection(database)
        elif isinstance(database, Connection):
            self.connection = database
        else:
            self.connection, release = _shared.acquire(check.path("database", database))
        self._finalizer = None if release is None else weakref.finalize(self, release)
        self._sql = quoted(self.table)
        self._is_registered = False
        try:
            self._define_casefold()
            self._create()
            self._find_dim()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the connection if this is the last table that opened it by its path. Harmless to repeat."""
        if self._finalizer is not None:
            self._finalizer()

    def _define_casefold(self) -> None:
        with _registering:
            if self.connection.engine not in _with_casefold:
                self.connection.create_function(CASEFOLD, 1, _casefold)
                _with_casefold.add(self.connection.engine)

    def _create(self) -> None:
        self.connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self._sql} (id TEXT PRIMARY KEY NOT NULL, content TEXT, "
            "meta TEXT NOT NULL DEFAULT '{}', extra TEXT, embedding BLOB)"
        )

    def _find_dim(self) -> None:
        """Takes the dimension from the rows, and registers the table once it is known."""
        try:
            self.connection.query(f"SELECT id, content, meta, extra, embedding FROM {self._sql} LIMIT 0")
        except EngineError as error:
            expected = "the columns id, content, meta, extra and embedding"
            raise InvalidRequestError(f"table {self.table!r}: expected {expected}, or a table that is not there: {error}") from error
        found = self.connection.query(
            f"SELECT length(embedding) AS bytes FROM {self._sql} WHERE embedding IS NOT NULL LIMIT 1"
        ).to_pylist()
        if found:
            bytes_of_vector: int = found[0]["bytes"]
            self._register(bytes_of_vector // 4)
        elif self._dim is not None:
            self._register(self._dim)

    def _register(self, dim: int) -> None:
        if self._dim is not None and self._dim != dim:
            raise InvalidRequestError(f"table {self.table!r}: expected vectors of {self._dim} components, got {dim}")
        columns = [("id", "utf8"), ("content", "utf8"), ("meta", "utf8"), ("extra", "utf8"), ("embedding", f"vector({dim})")]
        with _registering:
            known = {name.lower() for name in self.connection.sync_status().tables}
            if self.table.lower() not in known:
                self.connection.register_table(TableSchema(self.table, columns, ["id"]), initial_sync=True)
        self._dim, self._is_registered = dim, True

    @property
    def dim(self) -> int | None:
        """The number of components of its vectors; None while that is not known."""
        return self._dim

    # Writing

    def write(self, rows: Sequence[Row]) -> None:
        """Inserts documents, or replaces those with their ids in place, in one transaction."""
        params = self._params(rows)
        update = ", ".join(f"{name} = excluded.{name}" for name in ("content", "meta", "extra", "embedding"))
        self._insert(f"ON CONFLICT (id) DO UPDATE SET {update}", params)

    def insert(self, rows: Sequence[Row]) -> int:
        """Inserts documents; an `EngineError` of SQLite if one of their ids is there, and none is inserted."""
        return self._insert("", self._params(rows))

    def insert_new(self, rows: Sequence[Row]) -> int:
        """Inserts the documents whose ids the table lacks; returns their number."""
        return self._insert("ON CONFLICT (id) DO NOTHING", self._params(rows))

    def _insert(self, conflict: str, params: list[tuple[Any, ...]]) -> int:
        if not params:
            return 0
        columns = "id, content, meta, extra, embedding"
        return self.connection.execute_many(f"INSERT INTO {self._sql} ({columns}) VALUES (?, ?, ?, ?, ?) {conflict}", params)

    def _params(self, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
        dim = self._dim
        params = []
        for row in rows:
            if row.vector is not None:
                dim = len(row.vector) if dim is None else dim
                if row.vector.ndim != 1 or len(row.vector) != dim or dim == 0:
                    got = " x ".join(map(str, row.vector.shape))
                    raise InvalidRequestError(f"document {row.id!r}: expected a vector of {dim or 'some'} components, got {got}")
            extra = None if row.extra is None else json_text(row.extra)
            params.append((row.id, row.content, metadata_text(row.id, row.meta), extra, row.vector))
        if dim is not None and not self._is_registered:
            self._register(dim)
        return params

    def delete(self, ids: Iterable[str]) -> int:
        """Deletes documents; ids that the table lacks are passed over. Returns the number of those that were deleted."""
        return self.connection.execute_many(f"DELETE FROM {self._sql} WHERE id = ?", [(id,) for id in ids])

    def delete_where(self, where: Condition = ALWAYS) -> int:
        return self.connection.execute(f"DELETE FROM {self._sql} WHERE {where.sql}", where.params)

    def update_meta(self, where: Condition, changes: dict[str, Any]) -> int:
        """Sets keys of the metadata of documents; returns their number."""
        if not changes:
            return self.count(where)
        setting = ", ".join(["?, json(?)"] * len(changes))
        pairs = [item for key, value in changes.items() for item in ("$." + json.dumps(key, ensure_ascii=False), json_text(value))]
        sql = f"UPDATE {self._sql} SET meta = json_set(meta, {setting}) WHERE {where.sql}"
        return self.connection.execute(sql, [*pairs, *where.params])

    def recreate(self) -> None:
        """Drops the table and makes it again, for vectors of any dimension."""
        if self._is_registered:
            self.connection.unregister_table(self.table)
        self.connection.execute(f"DROP TABLE IF EXISTS {self._sql}")
        self._dim, self._is_registered = None, False
        self._create()

    # Reading

    def count(self, where: Condition = ALWAYS) -> int:
        # Counts are the replica's, where it has the columns that the condition reads.
        if self._is_registered:
            self.connection.sync_all()
        counted = self.connection.query(f"SELECT count(*) AS n FROM {self._sql} WHERE {where.sql}", where.params)
        number: int = counted.to_pylist()[0]["n"]
        return number

    def rows(self, where: Condition = ALWAYS, *, with_vectors: bool = True) -> list[Row]:
        """Returns documents in the order in which they were added first."""
        columns = "id, content, meta, extra" + (", embedding" if with_vectors else "")
        sql = f"SELECT {columns} FROM {self._sql} WHERE {where.sql} ORDER BY rowid"
        return [_row(found) for found in self.connection.query(sql, where.params).to_pylist()]

    def rows_by_ids(self, ids: Sequence[str], *, with_vectors: bool = False) -> list[Row]:
        """Returns documents in the order of their ids in `ids`; those that the table lacks are left out."""
        found: dict[str, Row] = {}
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = list(ids[start : start + _IDS_AT_ONCE])
            condition = Condition(f"id IN ({marks(some)})", tuple(some))
            found |= {row.id: row for row in self.rows(condition, with_vectors=with_vectors)}
        return [found[id] for id in dict.fromkeys(ids) if id in found]

    def ids(self, where: Condition = ALWAYS) -> list[str]:
        found = self.connection.query(f"SELECT id FROM {self._sql} WHERE {where.sql}", where.params)
        return [id for batch in found for id in batch.column(0).to_pylist()]

    def select(self, columns: Condition, where: Condition = ALWAYS) -> list[tuple[Any, ...]]:
        """Returns the values of SQL expressions for each document."""
        sql = f"SELECT {columns.sql} FROM {self._sql} WHERE {where.sql}"
        found = self.connection.query(sql, [*columns.params, *where.params])
        return [row for batch in found for row in zip(*(column.to_pylist() for column in batch.columns))]

    def search(
        self, vector: Any, k: int, where: Condition | None = None, *, with_vectors: bool = False, fresh: bool = True
    ) -> list[Hit]:
        """Returns the `k` documents closest to a vector among those that meet a condition, best first; equal scores by id.

        All writes before the call are seen. Documents without a vector, and under `cosine` those of zero length, are not found.
        """
        if k <= 0 or not self._is_registered:
            return []
        selection: dict[str, Any] = {}
        if where is not None and where is not ALWAYS:
            ids = self.ids(every([where, Condition("embedding IS NOT NULL")]))
            if not ids:
                return []
            selection = {"filter": "id IN (?)", "params": [ids]}
        columns = ["content", "meta", "extra"] + (["embedding"] if with_vectors else [])
        found = self.connection.vector_search(
            self.table, "embedding", vector, k, self.metric, columns=columns, fresh=fresh, **selection
        )
        return [Hit(_row(row), row["score"]) for row in found.to_pylist()]

    def similarity(self, score: float) -> float:
        """Returns a number that is larger for closer vectors: the cosine, the product, or 1 / (1 + distance)."""
        if self.metric == "cosine":
            return 1.0 - score
        return score if self.metric == "dot" else 1.0 / (1.0 + score)


def _row(found: dict[str, Any]) -> Row:
    extra, vector = found["extra"], found.get("embedding")
    if isinstance(vector, bytes):
        vector = np.frombuffer(vector, "<f4")
    elif vector is not None:
        vector = np.array(vector, np.float32)
    meta = json.loads(found["meta"])
    return Row(found["id"], found["content"], meta, None if extra is None else json.loads(extra), vector)


def metadata_text(id: str, meta: dict[str, Any]) -> str:
    """Returns metadata as JSON. `InvalidRequestError` names the document and the key whose value JSON does not have."""
    try:
        return json_text(meta)
    except (TypeError, ValueError):
        for key, value in meta.items():
            try:
                json_text({key: value})
            except (TypeError, ValueError) as error:
                expected = "a value that JSON has (text, number, bool, None, list, dict)"
                raise InvalidRequestError(f"document {id!r}: metadata {key!r}: expected {expected}, got {value!r:.80}") from error
        raise


def as_vector(vector: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Returns a vector as float32, as it is stored."""
    given = np.asarray(vector)
    with np.errstate(over="ignore"):
        narrow = given.astype(np.float32)
    if given.dtype.kind == "f" and (np.isfinite(given) & ~np.isfinite(narrow)).any():
        raise InvalidRequestError("vector: expected components within float32, got a larger one")
    return narrow


def diverse(query: Any, vectors: Sequence[Any], k: int, weight: float) -> list[int]:
    """Returns the positions of `k` vectors by maximal marginal relevance: each is the one of the greatest
    `weight * cosine to the query - (1 - weight) * greatest cosine to those before it`; ties by position."""
    if not vectors or k <= 0:
        return []
    matrix = _unit(np.asarray(vectors, np.float64))
    relevance = matrix @ _unit(np.asarray(query, np.float64)[None])[0]
    chosen = [int(np.argmax(relevance))]
    nearest = matrix @ matrix[chosen[0]]
    while len(chosen) < min(k, len(vectors)):
        scores = weight * relevance - (1 - weight) * nearest
        scores[chosen] = -np.inf
        best = int(np.argmax(scores))
        chosen.append(best)
        nearest = np.maximum(nearest, matrix @ matrix[best])
    return chosen


def _unit(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: np.ndarray[Any, Any] = rows / np.where(lengths == 0, 1, lengths)
    return unit

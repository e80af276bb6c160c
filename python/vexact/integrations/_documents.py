"""A table of documents in a SQLite file, with a replica for the search of their vectors: what the stores of all frameworks share.

The table is `id TEXT PRIMARY KEY, content TEXT, meta TEXT, extra TEXT, embedding BLOB`, and a column for each key of typed metadata.
`meta` is the JSON object of the user's metadata; `extra` is what the framework needs beyond, or NULL. The vectors of a table have one
dimension: the given one, that of its rows, or that of the first vector written.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _arguments as check
from .._settings import Path, TableSchema
from ..connection import Connection
from ..engine import HtapEngine
from ..errors import EngineError, InvalidRequestError
from ._columns import TYPES, check_values, checked, definition, found_in, quoted
from ._conditions import ALWAYS, CASEFOLD, NEVER, Condition, json_text, marks
from ._shared import shared

#: Rows that one statement reads by their ids.
_IDS_AT_ONCE = 500
METRICS = ("cosine", "dot", "l2")
#: The constant of reciprocal rank fusion, and the rows of each list that is fused.
_RRF_K = 60.0
_DEPTH = 100
#: The values of a condition beyond which SQLite evaluates it as a query: a list is then read once, and not for each row.
_MOST_VALUES = 100


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
    """A document that was found, and its score: of vectors a distance, or under `dot` the product; of text BM25; of both the sum of
    reciprocal ranks."""

    row: Row
    score: float


#: One thread at a time registers a table.
_registering = threading.Lock()
#: The engines that have the function `CASEFOLD`.
_with_casefold: weakref.WeakSet[HtapEngine] = weakref.WeakSet()


def _casefold(text: Any) -> Any:
    return text.casefold() if isinstance(text, str) else text


class DocumentTable:
    """The table `table` of a database: a path, a `vexact.Connection` or a `vexact.HtapEngine`, which stay open when it is closed."""

    def __init__(
        self,
        database: Path | Connection | HtapEngine,
        table: str,
        dim: int | None = None,
        metric: str = "cosine",
        columns: Mapping[str, str] | None = None,
        tokenizer: str | None = None,
    ) -> None:
        self.table = check.text("table", table)
        #: The types of the metadata that are columns, by their keys.
        self.columns = checked(columns)
        self._tokenizer = None if tokenizer is None else check.text("tokenizer", tokenizer)
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
            self.connection, release = shared.acquire(check.path("database", database))
        self._finalizer = None if release is None else weakref.finalize(self, release)
        self._sql = quoted(self.table)
        self._is_registered = False
        self._has_vectors = False
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
        typed = "".join(f", {definition(key, kind)}" for key, kind in self.columns.items())
        self.connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self._sql} (id TEXT PRIMARY KEY NOT NULL, content TEXT, "
            f"meta TEXT NOT NULL DEFAULT '{{}}', extra TEXT, embedding BLOB{typed})"
        )

    def _add_columns(self) -> None:
        """Adds typed metadata to a table that lacks it, and takes the one that the table has."""
        for key, kind in self.columns.items():
            if key not in (there := self._typed()):
                self.connection.execute(f"ALTER TABLE {self._sql} ADD COLUMN {definition(key, kind)}")
            elif there[key] != kind:
                raise InvalidRequestError(f"table {self.table!r}: column {key!r}: expected the type {there[key]}, which it has, got {kind}")
        self.columns = self._typed()

    def _typed(self) -> dict[str, str]:
        names = self.connection.query("SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 2 ORDER BY cid", [self.table]).to_pylist()
        create = self.connection.query("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE", [self.table]).to_pylist()
        return found_in(create[0]["sql"], [row["name"] for row in names]) if create else {}

    def _find_dim(self) -> None:
        """Takes the dimension from the rows, and registers the table once it is known."""
        try:
            self.connection.query(f"SELECT id, content, meta, extra, embedding FROM {self._sql} LIMIT 0")
        except EngineError as error:
            expected = "the columns id, content, meta, extra and embedding"
            raise InvalidRequestError(f"table {self.table!r}: expected {expected}, or a table that is not there: {error}") from error
        self._add_columns()
        found = self.connection.query(
            f"SELECT length(embedding) AS bytes FROM {self._sql} WHERE embedding IS NOT NULL LIMIT 1"
        ).to_pylist()
        if found:
            bytes_of_vector: int = found[0]["bytes"]
            self._register(bytes_of_vector // 4)
        elif self._dim is not None:
            self._register(self._dim)

    def _register(self, dim: int | None) -> None:
        """Registers the table, or adds to its replica the columns that it lacks; its vectors once they have a dimension."""
        if dim is not None and self._dim is not None and self._dim != dim:
            raise InvalidRequestError(f"table {self.table!r}: expected vectors of {self._dim} components, got {dim}")
        columns = [("id", "utf8"), ("content", "utf8"), ("meta", "utf8"), ("extra", "utf8")]
        columns += [(key, TYPES[kind].replicated) for key, kind in self.columns.items()]
        if dim is not None:
            columns.append(("embedding", f"vector({dim})"))
        with _registering:
            known = {name.lower() for name in self.connection.sync_status().tables}
            if self.table.lower() not in known:
                self.connection.register_table(TableSchema(self.table, columns, ["id"]), initial_sync=True)
            else:
                replicated = {name.lower() for name in self.connection.table(self.table).schema.names}
                for name, data_type in columns:
                    if name.lower() not in replicated:
                        self.connection.add_column(self.table, name, data_type)
        self._is_registered = True
        if dim is not None:
            self._dim, self._has_vectors = dim, True

    def _index_text(self) -> None:
        """Makes the index of the text unless it is there."""
        if not self._is_registered:
            self._register(None)
        with _registering:
            indexed = {
                column: tokenizer
                for table, column, tokenizer in self.connection.text_columns()
                if table.lower() == self.table.lower()
            }
            if self._tokenizer is None and "content" in indexed:
                return
            tokenizer = self._tokenizer or "unicode61"
            if indexed.get("content") != tokenizer:
                self.connection.register_text(self.table, "content", tokenizer)

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
            check_values(row.id, row.meta, self.columns)
            params.append((row.id, row.content, metadata_text(row.id, row.meta), extra, row.vector))
        if dim is not None and not self._has_vectors:
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
        check_values("all that match", changes, self.columns)
        setting = ", ".join(["?, json(?)"] * len(changes))
        pairs = [item for key, value in changes.items() for item in ("$." + json.dumps(key, ensure_ascii=False), json_text(value))]
        sql = f"UPDATE {self._sql} SET meta = json_set(meta, {setting}) WHERE {where.sql}"
        return self.connection.execute(sql, [*pairs, *where.params])

    def recreate(self) -> None:
        """Drops the table and makes it again, for vectors of any dimension."""
        if self._is_registered:
            self.connection.unregister_table(self.table)
        self.connection.execute(f"DROP TABLE IF EXISTS {self._sql}")
        self._dim, self._is_registered, self._has_vectors = None, False, False
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

    def search(self, vector: Any, k: int, where: Condition = ALWAYS, *, with_vectors: bool = False) -> list[Hit]:
        """Returns the `k` documents closest to a vector among those that meet a condition, best first; equal scores by id.

        All writes before the call are seen. Documents without a vector, and under `cosine` those of zero length, are not found.
        """
        if k <= 0 or not self._has_vectors or (selection := self._selection(where, with_vectors)) is None:
            return []
        return _hits(self.connection.vector_search(self.table, "embedding", vector, k, self.metric, **selection), "score")

    def text_search(self, words: str, k: int, where: Condition = ALWAYS, *, with_vectors: bool = False) -> list[Hit]:
        """Returns the `k` documents whose text matches any of the words best, among those that meet a condition."""
        if k <= 0 or (selection := self._selection(where, with_vectors)) is None:
            return []
        self._index_text()
        return _hits(self.connection.text_search(self.table, "content", words, k, **selection), "text_score")

    def hybrid_search(
        self,
        vector: Any,
        words: str,
        k: int,
        where: Condition = ALWAYS,
        *,
        weight: float = 0.5,
        depth: int | None = None,
        with_vectors: bool = False,
    ) -> list[Hit]:
        """Returns the `k` documents that both searches rank best, by reciprocal rank fusion. `weight`: that of the vectors, from 0 to
        1. `depth`: the documents of each list, 100 and at least `k` by default."""
        if k <= 0 or (selection := self._selection(where, with_vectors)) is None:
            return []
        depth = max(_DEPTH, k) if depth is None else depth
        if not self._has_vectors:
            # The list of vectors is empty.
            found = self.text_search(words, min(k, depth), where)
            return [Hit(hit.row, 2 * (1 - weight) / (_RRF_K + rank)) for rank, hit in enumerate(found, 1)]
        self._index_text()
        found = self.connection.hybrid_search(
            self.table, "embedding", vector, "content", words, k, self.metric, rrf_k=_RRF_K, depth=depth, weight=weight, **selection
        )
        return _hits(found, "score")

    def _selection(self, where: Condition, with_vectors: bool) -> dict[str, Any] | None:
        """Returns the arguments of a search among the documents that meet a condition; None if there are none."""
        filter: dict[str, Any] = {}
        if where.is_users or len(where.params) > _MOST_VALUES:
            ids = self.ids(where)
            if not ids:
                return None
            filter = {"filter": "id IN (?)", "params": [ids]}
        elif where is NEVER:
            return None
        elif where is not ALWAYS:
            filter = {"filter": where.sql, "params": list(where.params) or None}
        columns = ["content", "meta", "extra"] + (["embedding"] if with_vectors and self._has_vectors else [])
        return {"columns": columns, "fresh": True, **filter}

    def similarity(self, score: float) -> float:
        """Of the score of a search of vectors: returns a number that is larger for closer vectors: the cosine, the product, or 1 / (1 + distance)."""
        if self.metric == "cosine":
            return 1.0 - score
        return score if self.metric == "dot" else 1.0 / (1.0 + score)


def relevance_of_text(score: float) -> float:
    """Returns a number from 0 to 1 that is larger for a better BM25."""
    return score / (1 + score)


def relevance_of_both(score: float) -> float:
    """Returns a number from 0 to 1: 1 for the document that both searches rank first."""
    return score * (_RRF_K + 1) / 2


def _hits(found: Any, score: str) -> list[Hit]:
    return [Hit(_row(row), row[score]) for row in found.to_pylist()]


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

"""Fills a column of vectors of a SQLite table from a column of texts.

The state is in the table: a row with a text and without a vector is to be filled. A trigger clears the vector of a row whose text changes.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import pyarrow as pa

from . import _native
from ._embeddings import Function
from .errors import EngineError, InvalidRequestError

_NativeEngine: TypeAlias = _native.HtapEngine


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class EmbedColumn:
    """One column of texts and one of vectors of a table."""

    def __init__(self, engine: _NativeEngine, table: str, text: str, vector: str) -> None:
        self._engine = engine
        self._names = (table, text, vector)
        self.done = 0
        self.total = 0
        #: The key of the last row of this pass over the table, and the rows that it has filled.
        self._after: tuple[Any, ...] | None = None
        self._filled_in_pass = 0

    def start(self, is_overwritten: bool) -> None:
        """Follows the texts from now on, and counts the rows to be filled."""
        self._describe()
        self._track()
        if is_overwritten:
            self._engine.execute(f"UPDATE {self._table} SET {self._vector} = NULL WHERE {self._vector} IS NOT NULL", None)
        self.total = self._unfilled()

    def fill_batch(self, function: Function) -> bool:
        """Fills the next rows that have a text and no vector, in a transaction; returns False if there are none."""
        rows = self._batch(function.batch)
        if not rows and self._filled_in_pass:
            # Texts that changed meanwhile are behind the last key.
            self._after, self._filled_in_pass = None, 0
            rows = self._batch(function.batch)
        if not rows:
            return False
        filled = self._write(rows, function)
        self.done, self._filled_in_pass = self.done + filled, self._filled_in_pass + filled
        self._after = rows[-1][1:]
        return True

    def _describe(self) -> None:
        table, text, vector = self._names
        name, columns, key = self._engine.infer_schema(table, [])
        known = {column.lower(): column for column, _, _, _ in columns}
        for argument, column in (("text_column", text), ("vector_column", vector)):
            if column.lower() not in known:
                raise InvalidRequestError(f"{argument}: expected a column of table {name!r} ({', '.join(known.values())}), got {column!r}")
        self._table, self._text, self._vector = _quoted(name), _quoted(known[text.lower()]), _quoted(known[vector.lower()])
        self._key = [_quoted(column) for column in key]
        self._trigger = _quoted(f"vexact_embed_{name}_{known[vector.lower()]}")

    def _track(self) -> None:
        same_row = " AND ".join(f"{column} IS new.{column}" for column in self._key)
        self._engine.execute(
            f"CREATE TRIGGER IF NOT EXISTS {self._trigger} AFTER UPDATE OF {self._text} ON {self._table} "
            f"WHEN new.{self._text} IS NOT old.{self._text} AND new.{self._vector} IS old.{self._vector} AND new.{self._vector} IS NOT NULL "
            f"BEGIN UPDATE {self._table} SET {self._vector} = NULL WHERE {same_row}; END",
            None,
        )

    def _unfilled(self) -> int:
        # A count would be that of the replica, which may lag.
        rows = self._query(f"SELECT 1 AS one FROM {self._table} WHERE {self._wanted}", [])
        return sum(batch.num_rows for batch in rows)

    @property
    def _wanted(self) -> str:
        return f"{self._vector} IS NULL AND {self._text} IS NOT NULL"

    def _batch(self, count: int) -> list[tuple[Any, ...]]:
        """Returns the next rows by their keys: the text, then the key."""
        key = ", ".join(self._key)
        after = self._after or ()
        later = f" AND ({key}) > ({', '.join('?' * len(after))})" if after else ""
        sql = f"SELECT {self._text}, {key} FROM {self._table} WHERE {self._wanted}{later} ORDER BY {key} LIMIT {count}"
        rows = self._query(sql, list(after))
        return [row for batch in rows for row in zip(*(column.to_pylist() for column in batch.columns))]

    def _query(self, sql: str, params: list[Any]) -> list[pa.RecordBatch]:
        side, reason = self._engine.route(sql)
        if side != "sqlite":
            raise EngineError(f"{sql}: expected an answer of SQLite, got one of the replicas: {reason}")
        return self._engine.query(sql, params)

    def _write(self, rows: list[tuple[Any, ...]], function: Function) -> int:
        texts = [row[0] if isinstance(row[0], str) else str(row[0]) for row in rows]
        vectors = function.documents(texts)
        same_row = " AND ".join(f"{column} IS ?" for column in self._key)
        # A row whose text changed meanwhile stays without a vector.
        sql = f"UPDATE {self._table} SET {self._vector} = ? WHERE {same_row} AND {self._text} IS ?"
        return self._engine.execute_many(sql, [(vector, *row[1:], row[0]) for vector, row in zip(vectors, rows)])

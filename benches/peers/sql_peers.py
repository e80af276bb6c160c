"""SQL-level peers: engines that filter, order by a distance and take the first k."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from protocol import Dataset, Peer, StatementPeer, Workload, predicate

_BATCH_ROWS = 8_192
"""DataFusion's own batch size, for the tables that are handed to it."""


class DuckDb(StatementPeer):
    """DuckDB: an in-memory table with `FLOAT[dim]`, the query as a bound parameter."""

    name = "duckdb"
    packages = ("duckdb",)

    def __init__(self, threads: int) -> None:
        import duckdb

        self._duckdb, self._threads = duckdb, threads

    def prepare(self, data: Dataset) -> None:
        self._dim = data.dim
        self._connection = self._duckdb.connect(":memory:", config={"threads": self._threads})
        self._connection.register("source", data.arrow_table())
        self._connection.execute(
            f"CREATE TABLE docs AS SELECT id, bucket, embedding::FLOAT[{data.dim}] AS embedding FROM source")
        self._connection.unregister("source")

    def run_one(self, query: np.ndarray, k: int, metric: str, max_bucket: int | None) -> np.ndarray:
        function = {"cosine": "array_cosine_distance", "dot": "array_negative_inner_product",
                    "l2": "array_distance"}[metric]
        statement = (f"SELECT id FROM docs {predicate(max_bucket, 'WHERE')} "
                     f"ORDER BY {function}(embedding, ?::FLOAT[{self._dim}]) LIMIT {k}")
        return self._connection.execute(statement, [query]).fetchnumpy()["id"]

    def close(self) -> None:
        self._connection.close()


class LanceDb(StatementPeer):
    """LanceDB: a flat scan (no index) of a local table in the page cache, the filter before the search."""

    name = "lancedb flat"
    packages = ("lancedb",)

    def __init__(self, threads: int) -> None:
        import lancedb

        self._lancedb = lancedb

    def prepare(self, data: Dataset) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vexact-peers-")
        self._table = self._lancedb.connect(self._folder.name).create_table("docs", data.arrow_table())

    def run_one(self, query: np.ndarray, k: int, metric: str, max_bucket: int | None) -> np.ndarray:
        search = self._table.search(query, vector_column_name="embedding").distance_type(metric).bypass_vector_index()
        if max_bucket is not None:
            search = search.where(f"bucket < {max_bucket}", prefilter=True)
        return search.select(["id", "_distance"]).limit(k).to_arrow()["id"].to_numpy()

    def close(self) -> None:
        del self._table
        self._folder.cleanup()


class SqliteVec(StatementPeer):
    """sqlite-vec through apsw: a `vec0` table in memory, `bucket` as its metadata column. SQLite runs in one thread."""

    name = "sqlite-vec (1 thread)"
    packages = ("sqlite-vec", "apsw")

    def __init__(self, threads: int) -> None:
        import apsw
        import sqlite_vec

        self._apsw, self._extension = apsw, sqlite_vec.loadable_path()
        self._connection: Any = None

    def declines(self, workload: Workload) -> str | None:
        return super().declines(workload) or ("it has no dot product" if workload.metric == "dot" else None)

    def prepare(self, data: Dataset) -> None:
        self._data, self._metric = data, ""

    def _load(self, metric: str) -> None:
        """Fill a new database: a `vec0` table is made for one metric."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._apsw.Connection(":memory:")
        self._connection.enable_load_extension(True)
        self._connection.load_extension(self._extension)
        self._connection.execute("CREATE VIRTUAL TABLE docs USING vec0(id INTEGER PRIMARY KEY, bucket INTEGER, "
                                 f"embedding FLOAT[{self._data.dim}] distance_metric={metric})")
        rows = zip(range(self._data.rows), self._data.buckets.tolist(), map(np.ndarray.tobytes, self._data.vectors),
                   strict=True)
        with self._connection:
            self._connection.executemany("INSERT INTO docs(id, bucket, embedding) VALUES (?, ?, ?)", rows)
        self._metric = metric

    def run_one(self, query: np.ndarray, k: int, metric: str, max_bucket: int | None) -> np.ndarray:
        if self._metric != metric:
            self._load(metric)
        statement = ("SELECT id FROM docs WHERE embedding MATCH ? AND k = ? "
                     f"{predicate(max_bucket, 'AND')} ORDER BY distance")
        return np.array([row[0] for row in self._connection.execute(statement, (query.tobytes(), k))])

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        del self._data


class DataFusionOwn(StatementPeer):
    """The `datafusion` package's own functions over a table in memory with a partition per thread, the query bound."""

    name = "datafusion's own"
    packages = ("datafusion",)

    def __init__(self, threads: int) -> None:
        import datafusion

        self._datafusion, self._threads = datafusion, threads

    def prepare(self, data: Dataset) -> None:
        config = self._datafusion.SessionConfig().with_target_partitions(self._threads)
        self._context = self._datafusion.SessionContext(config)
        batches = data.arrow_table().to_batches(max_chunksize=_BATCH_ROWS)
        edges = np.linspace(0, len(batches), self._threads + 1, dtype=int)
        self._context.register_record_batches("docs", [batches[a:b] for a, b in pairwise(edges)])

    def run_one(self, query: np.ndarray, k: int, metric: str, max_bucket: int | None) -> np.ndarray:
        order = {"cosine": "cosine_distance(embedding, $q)", "dot": "inner_product(embedding, $q) DESC",
                 "l2": "array_distance(embedding, $q)"}[metric]
        bound = pa.ListArray.from_arrays(pa.array([0, len(query)], pa.int32()), pa.array(query))[0]
        frame = self._context.sql(f"SELECT id FROM docs {predicate(max_bucket, 'WHERE')} ORDER BY {order} LIMIT {k}",
                                  param_values={"q": bound})
        return frame.to_arrow_table()["id"].to_numpy()

    def close(self) -> None:
        del self._context


SQL_PEERS: tuple[type[Peer], ...] = (DuckDb, LanceDb, SqliteVec, DataFusionOwn)

"""The native module: `vexact.Session` and `vexact.DataFrame` are its public face, with the documentation."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, final

import pyarrow as pa

__all__ = ["DataFrame", "HtapEngine", "Session", "__version__", "check_config", "check_table_schema"]

__version__: str

@final
class DataFrame:
    def schema(self) -> pa.Schema: ...
    def to_arrow(self) -> pa.Table: ...
    def count(self) -> int: ...
    def show(self, max_rows: int) -> str: ...
    def to_html(self, max_rows: int) -> str: ...
    def explain(self) -> tuple[str, str, str]: ...
    def write_parquet(self, path: str | os.PathLike[str]) -> None: ...
    def write_csv(self, path: str | os.PathLike[str]) -> None: ...

@final
class Session:
    def __new__(cls, memory_limit_bytes: int | None, target_partitions: int | None) -> Session: ...
    def read_csv(self, path: str | os.PathLike[str], delimiter: str) -> DataFrame: ...
    def read_json(self, path: str | os.PathLike[str], columns: Sequence[str] | None, format: str) -> DataFrame: ...
    def read_parquet(self, path: str | os.PathLike[str]) -> DataFrame: ...
    def read(self, path: str | os.PathLike[str]) -> DataFrame: ...
    def read_arrow(self, data: Any) -> DataFrame: ...
    def create_temp_view(self, name: str, frame: DataFrame) -> None: ...
    def sql(self, query: str, params: Sequence[Any] | Mapping[str, Any] | None) -> DataFrame: ...
    def explain_sql(self, query: str, params: Sequence[Any] | Mapping[str, Any] | None) -> tuple[str, str, str]: ...
    def vector_search(
        self,
        table: str,
        column: str,
        query: Any,
        top_k: int,
        metric: str,
        filter: str | None,
        columns: Sequence[str],
    ) -> DataFrame: ...
    def explain_vector_search(
        self,
        table: str,
        column: str,
        query: Any,
        top_k: int,
        metric: str,
        filter: str | None,
        columns: Sequence[str],
    ) -> tuple[str, str, str]: ...
    def hybrid_search(
        self,
        table: str,
        column: str,
        query: Any,
        top_k: int,
        metric: str,
        score_threshold: float | None,
        filter: str | None,
    ) -> DataFrame: ...
    def explain_hybrid_search(
        self,
        table: str,
        column: str,
        query: Any,
        top_k: int,
        metric: str,
        score_threshold: float | None,
        filter: str | None,
    ) -> tuple[str, str, str]: ...

def check_config(
    oltp_path: str | os.PathLike[str],
    sync_mode: str,
    olap_backend: str,
    storage_mode: str,
    storage_path: str | os.PathLike[str] | None,
    prune_after_sync: bool,
    sync_batch_size: int,
    read_pool_size: int,
) -> None: ...
def check_table_schema(
    name: str, columns: Sequence[tuple[str, str]], key: Sequence[str]
) -> list[tuple[str, str]]: ...
@final
class HtapEngine:
    def __new__(
        cls,
        oltp_path: str | os.PathLike[str],
        sync_mode: str,
        olap_backend: str,
        storage_mode: str,
        storage_path: str | os.PathLike[str] | None,
        prune_after_sync: bool,
        sync_batch_size: int,
        read_pool_size: int,
    ) -> HtapEngine: ...
    def execute(self, sql: str, params: Sequence[Any] | None) -> int: ...
    def execute_batch(self, statements: Sequence[str]) -> None: ...
    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int: ...
    def query(self, sql: str, params: Sequence[Any] | None) -> list[pa.RecordBatch]: ...
    def query_olap(self, sql: str, params: Sequence[Any] | None) -> list[pa.RecordBatch]: ...
    def route(self, sql: str) -> tuple[str, str]: ...
    def register_table(
        self, name: str, columns: Sequence[tuple[str, str]], key: Sequence[str], initial_sync: bool
    ) -> int: ...
    def sync_now(self) -> tuple[int, int, int, int, int | None]: ...
    def sync_all(self) -> tuple[int, int, int, int, int | None]: ...
    def sync_status(
        self,
    ) -> tuple[int, int | None, str | None, list[tuple[str, int, int, str, str | None]]]: ...
    def initial_sync(self, table: str) -> int: ...
    def add_column(self, table: str, column: str, data_type: str) -> None: ...
    def drop_column(self, table: str, column: str) -> None: ...
    def vector_search(
        self,
        table: str,
        column: str,
        query: Any,
        top_k: int,
        metric: str,
        filter: str | None,
        columns: Sequence[str],
        fresh: bool,
    ) -> list[pa.RecordBatch]: ...
    def explain_vector_search(
        self,
        table: str,
        column: str,
        query: Any,
        top_k: int,
        metric: str,
        filter: str | None,
        columns: Sequence[str],
        fresh: bool,
    ) -> tuple[str, str, str]: ...
    def start_sync(self, interval_seconds: float) -> None: ...
    def stop_sync(self) -> None: ...
    def session(self) -> Session: ...
    def shutdown(self) -> None: ...

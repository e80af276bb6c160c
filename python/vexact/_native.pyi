"""The native module: `vexact.Session` and `vexact.DataFrame` are its public face, with the documentation."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, final

import pyarrow as pa

__all__ = ["DataFrame", "Session", "__version__"]

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

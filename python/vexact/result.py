"""The rows of a query of an engine: a list of record batches that becomes any kind of table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import pandas
    import polars

    from .frame import DataFrame


class QueryResult(list[pa.RecordBatch]):
    """The rows of a query of an engine: a list of `pyarrow.RecordBatch`, of at least one, so that an empty result has its schema."""

    @property
    def schema(self) -> pa.Schema:
        """The columns' names and types."""
        return self[0].schema

    @property
    def num_rows(self) -> int:
        """The number of rows in all batches."""
        return sum(batch.num_rows for batch in self)

    def to_arrow(self) -> pa.Table:
        """Returns the rows as one `pyarrow.Table`, without a copy."""
        return pa.Table.from_batches(self)

    def to_pylist(self) -> list[dict[str, Any]]:
        """Returns the rows, each a dict of Python values by column."""
        return [row for batch in self for row in batch.to_pylist()]

    def to_pandas(self) -> pandas.DataFrame:
        """Returns the rows as a pandas DataFrame."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> polars.DataFrame:
        """Returns the rows as a polars DataFrame."""
        import polars

        frame = polars.from_arrow(self.to_arrow())
        assert isinstance(frame, polars.DataFrame)
        return frame

    def show(self, max_rows: int = 20) -> None:
        """Prints the first rows as a table."""
        self._frame().show(max_rows)

    def _frame(self) -> DataFrame:
        # Sessions know engines, whose results these are.
        from .session import Session

        return Session(target_partitions=1).create_dataframe_from_arrow(self.to_arrow())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def _repr_html_(self) -> str:
        return self._frame()._repr_html_()

"""Lazy frames: a query that has not run, or rows in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from . import _arguments as check
from . import _native
from ._process import OfProcess
from .errors import InvalidRequestError
from .explain import Explain, Sections
from .progress import Progress

if TYPE_CHECKING:
    import pandas
    import polars

_HTML_ROWS = 20
# The class has an attribute `_native`, so its annotations cannot name the module.
_NativeFrame: TypeAlias = _native.DataFrame


class DataFrame:
    """A query that has not run, or rows in memory. A query runs each time that its rows are read.

    Long runs show their progress at a terminal where tqdm is installed; Ctrl-C ends them with `KeyboardInterrupt`.
    """

    __slots__ = ("_of_process_native", "_search")
    _native = OfProcess[_native.DataFrame]()

    def __init__(self, native: _NativeFrame) -> None:
        if not isinstance(native, _native.DataFrame):
            raise check.wrong("DataFrame", "what a method of vexact.Session makes", native)
        self._native = native
        self._search: Callable[[], Sections] | None = None

    @classmethod
    def _of_search(cls, native: _NativeFrame, explain: Callable[[], Sections]) -> DataFrame:
        """The frame of the result of a search, which is in memory; `explain` runs the search again."""
        frame = cls(native)
        frame._search = explain
        return frame

    @property
    def schema(self) -> pa.Schema:
        """The columns' names and types. Runs nothing."""
        return self._native.schema()

    @property
    def columns(self) -> list[str]:
        """The columns' names; runs nothing."""
        return [field.name for field in self.schema]

    def __getitem__(self, columns: str | list[str]) -> DataFrame:
        """The frame of one column, or of some, in the order in which they are named: `frame["title"]`,
        `frame[["title", "year"]]`. Runs nothing.

        Raises `InvalidRequestError` (a `ValueError`) for a column that it lacks and for one that is named twice.
        """
        names = [columns] if isinstance(columns, str) else columns
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise check.wrong("columns", "a column's name or a list of names", columns)
        return DataFrame(self._native.select(names))

    def limit(self, rows: int) -> DataFrame:
        """The frame of the first `rows` rows, in the order in which this one gives them. Runs nothing."""
        return DataFrame(self._native.limit(check.whole("rows", rows, 0)))

    def head(self, rows: int = 5) -> DataFrame:
        """`limit(rows)`, five by default."""
        return self.limit(rows)

    def cache(self) -> DataFrame:
        """A frame of the same rows in memory: the query runs now, and not again when rows are asked for."""
        with Progress("cache") as progress:
            return DataFrame(self._native.cache(progress))

    def __len__(self) -> int:
        """`count()`: the query runs."""
        return self.count()

    def __bool__(self) -> bool:
        """True, as of any object: only `len` and `count` run the query."""
        return True

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows, each a dict of Python values by column. The query runs once, when the first is asked for.

        A value that Python cannot hold is the text of the error, as in `to_rows`. Raises `InvalidRequestError` (a
        `ValueError`) where two columns have one name.
        """
        names = self.columns
        twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
        if twice is not None:
            raise InvalidRequestError(f"columns: expected names that differ, got {twice!r} twice (to_rows takes them)")
        for row in self.to_rows()["rows"]:
            yield dict(zip(names, row))

    def to_arrow(self) -> pa.Table:
        """Returns all rows. Buffers are shared with the engine, not copied."""
        with Progress("rows") as progress:
            table = self._native.to_arrow(progress)
            progress(table.num_rows)
        return table

    def to_reader(self) -> pa.RecordBatchReader:
        """Starts the query and returns its rows as a `pyarrow.RecordBatchReader`: batches are computed as they are read, a few ahead, so
        that memory holds these and not all rows. A reader that is dropped ends its query."""
        if self._native.is_in_memory():
            return self.to_arrow().to_reader()
        return self._native.to_reader()

    def to_rows(self) -> dict[str, list[Any]]:
        """Returns all rows as Python values: `{"schema": [name, ...], "rows": [[value, ...],
        ...]}`.

        A value that Python cannot hold, such as a date after the year 9999, is the text of the error, which begins with `ERROR: `
        and names its column and row.
        """
        table = self.to_arrow()
        columns = [_values(name, column) for name, column in zip(table.column_names, table.columns)]
        return {"schema": table.column_names, "rows": [list(row) for row in zip(*columns)]}

    def to_pandas(self) -> pandas.DataFrame:
        """Returns all rows as a pandas DataFrame."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> polars.DataFrame:
        """Returns all rows as a polars DataFrame."""
        import polars

        frame = polars.from_arrow(self.to_arrow())
        assert isinstance(frame, polars.DataFrame)
        return frame

    def count(self) -> int:
        """Returns the number of rows."""
        with Progress("count") as progress:
            return self._native.count(progress)

    def show(self, max_rows: int = 20) -> None:
        """Prints the first rows as a table."""
        print(self._native.show(check.whole("max_rows", max_rows, 0)))

    def explain(self) -> Explain:
        """Returns the plan of the query without running it; of a frame of `vector_search` or `hybrid_search` the explain of that
        search, which runs again."""
        return Explain(*(self._native.explain() if self._search is None else self._search()))

    def write_parquet(self, path: str | os.PathLike[str], *, sketch: str | Sequence[str] = ()) -> None:
        """Runs the query and writes one Parquet file, or object of a store (`s3://bucket/file.parquet`),
        replacing an existing one when it is complete.

        `sketch` names columns of vectors of floats. Beside each the file gets a column `<name>$sketch`, by which searches of the
        file read fewer bytes; answers do not change. A column of which a sketch would not save enough gets none.

        Raises `InvalidRequestError` for a column of `sketch` that is missing or holds no vectors of floats, `SourceNotFoundError` (a `FileNotFoundError`) for a folder that is not there; none is made. Raises
        `SourceIOError` (an `OSError`) for a path that is a folder.
        """
        with Progress("write_parquet") as progress:
            self._native.write_parquet(check.path("path", path), check.texts("sketch", sketch), progress)

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Runs the query and writes a CSV file with a header line, replacing an existing one.

        Vectors and lists of numbers are written as `[1,2,3]`, with `NaN`, `inf` and `-inf` where they are not finite, which
        `read_csv` reads back as vectors of float32; a NULL is an empty cell.

        Raises `InvalidRequestError` for lists of different lengths or without components, a NULL component, and other nested
        columns: these have no form that would be read back (`write_parquet` keeps them). Raises `SourceNotFoundError` and
        `SourceIOError` as `write_parquet` does.
        """
        with Progress("write_csv") as progress:
            self._native.write_csv(check.path("path", path), progress)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows as an Arrow stream, for anything that reads Arrow data; they are computed as they are read, as in `to_reader`."""
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def _repr_html_(self) -> str:
        return self._native.to_html(_HTML_ROWS)

    def __repr__(self) -> str:
        columns = ", ".join(f"{field.name}: {field.type}" for field in self.schema)
        return f"DataFrame[{columns}]"


def _values(name: str, column: pa.ChunkedArray) -> list[Any]:
    """Returns the values of a column, with an error in the place of a value that Python cannot
    hold."""
    try:
        values: list[Any] = column.to_pylist()
        return values
    except (OverflowError, ValueError):
        return [_value(name, row, cell) for row, cell in enumerate(column)]


def _value(name: str, row: int, cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except (OverflowError, ValueError) as error:
        return f"ERROR: column {name!r}, row {row}: {error}"

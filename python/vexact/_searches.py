"""The searches of a session."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from . import _arguments as check
from . import _native
from ._inputs import as_arrow, is_tabular
from ._process import OfProcess
from .errors import InvalidRequestError
from .explain import Explain
from .frame import DataFrame

Params = Sequence[Any] | Mapping[str, Any]
#: A vexact.DataFrame, or a frame of pandas, polars, pyarrow or another library with an Arrow interface.
Frame: TypeAlias = Any
T = TypeVar("T")


class SearchSession:
    """Searches of tables and of frames. The base class of `Session`, which modules that take a session need not import."""

    _native = OfProcess[_native.Session]()

    def create_dataframe_from_arrow(self, data: Any) -> DataFrame:
        """Creates a frame from Arrow data, without a copy.

        `data`: a pyarrow Table, RecordBatch or RecordBatchReader, anything with `__arrow_c_stream__` or `__arrow_c_array__`
        (polars, DuckDB, ...), a sequence of record batches, or a dict of columns (lists, numpy or pyarrow arrays; a
        two-dimensional numpy array is a column of vectors). Types are kept; lists of floats of one length become
        `FixedSizeList`. `TypeError` for anything else, a column (a polars or pandas Series) included; `InvalidRequestError`
        where two columns have one name.
        """
        return DataFrame(self._native.read_arrow(as_arrow(data)))

    def vector_search(
        self,
        table: str | Frame,
        vector_column: str,
        query_vector: Any,
        top_k: int = 10,
        metric: str = "cosine",
        *,
        filter: str | None = None,
        params: Params | None = None,
        columns: str | Sequence[str] | None = None,
        min_score: float | None = None,
        group_by: str | None = None,
    ) -> DataFrame:
        """Returns the rows closest to a query, best first. The search is exact.

        The result has `row_id` (int64: the row's ordinal in the table, counting every row), `score` (float64: the distance;
        under `dot` the inner product, larger is closer), then `columns` (`"*"`: all of the table's).

        `table`: the name of a table, or a frame: of this session, or of pandas, polars or pyarrow. `vector_column`: vectors, or lists
        of numbers of one length. `query_vector`: a list, a numpy or pyarrow array of the
        column's length; a two-dimensional array searches a query batch, and the result has `query_id` (int64) in front.
        `metric`: `cosine` (`cosin`), `dot` (`inner_product`, `ip`), `l2` (`euclidean`) or `l1`; for a column of bits (`fixed_size_binary`)
        `hamming` or `jaccard`, whose query is `bytes` (a list of them for a batch) or has a 0 or 1 for each bit. `filter`: a SQL predicate, applied
        before the search, so that `top_k` matching rows come back where there are as many; `params`: the values of its `$1` or `$name`, as in `sql`. `min_score`: only rows of at
        least this score are searched, so that under a distance the closest ones are left out, under `dot` the farthest. `group_by`: a
        column whose values group the rows, NULL being one of them: the result has the `top_k` best rows of each group, best first, and
        that column. Rows whose vector is NULL, not finite, or under cosine zero are skipped.

        Raises `InvalidRequestError` (a `ValueError`) for an unknown table, column or metric, a query of another length, not
        finite or under cosine zero, ragged or of three dimensions, `top_k` below 1, and a bad filter; `TypeError` for a query
        that is no array.
        """
        arguments = _SearchOf(vector_column, query_vector, top_k, metric, filter, params, columns, min_score, group_by)
        found = self._search(table, arguments, self._native.vector_search)
        return DataFrame._of_search(found, lambda: self._search(table, arguments, self._native.explain_vector_search))

    def explain_vector_search(
        self,
        table: str | Frame,
        vector_column: str,
        query_vector: Any,
        top_k: int = 10,
        metric: str = "cosine",
        *,
        filter: str | None = None,
        params: Params | None = None,
        columns: str | Sequence[str] | None = None,
        min_score: float | None = None,
        group_by: str | None = None,
    ) -> Explain:
        """Runs `vector_search` with these arguments and returns its explain; the strategy is that
        of the run."""
        arguments = _SearchOf(vector_column, query_vector, top_k, metric, filter, params, columns, min_score, group_by)
        return Explain(*self._search(table, arguments, self._native.explain_vector_search))

    def hybrid_search(
        self,
        table: str | Frame,
        vector_column: str,
        query_vector: Any,
        top_k: int = 10,
        metric: str = "cosine",
        score_threshold: float | None = None,
        *,
        filter: str | None = None,
        params: Params | None = None,
        min_score: float | None = None,
        group_by: str | None = None,
        text_column: str | None = None,
        text: str | None = None,
        query_syntax: str = "any",
        rrf_k: float = 60.0,
        depth: int | None = 100,
        weight: float = 0.5,
        key: str | Sequence[str] | None = None,
    ) -> DataFrame:
        """Returns all columns of the table and `vector_score` (float64) for the rows closest to a
        query, best first, whose score is at most `score_threshold` (under `dot`: at least).
        Arguments and errors are those of `vector_search`.

        With `text_column` and `text` it returns the rows that a vector search and a text search rank best, by reciprocal rank
        fusion: all columns of the table, `score` (float64: `2 * weight / (rrf_k + vector_rank) + 2 * (1 - weight) / (rrf_k +
        text_rank)`), `vector_rank`, `vector_score`, `text_rank` and `text_score`, NULL where a list lacks the row. `depth`: the rows
        of each list; None for all. `key`: the columns that identify a row, no two rows with the same; equal scores are in their
        order. `query_syntax`: as in `text_search`. There is no `score_threshold`, `min_score` or `group_by` then.
        """
        threshold = None if score_threshold is None else check.number("score_threshold", score_threshold)
        if text_column is None and text is None:
            of_vectors = _SearchOf(vector_column, query_vector, top_k, metric, filter, params, None, min_score, group_by)
            found = self._search(table, of_vectors, lambda of: self._native.hybrid_search(of, threshold))
            explain = lambda: self._search(  # noqa: E731
                table, of_vectors, lambda of: self._native.explain_hybrid_search(of, threshold)
            )
            return DataFrame._of_search(found, explain)
        if text_column is None or text is None or threshold is not None:
            raise InvalidRequestError("hybrid_search: expected text_column and text together, without score_threshold")
        arguments = check.search(table, "vector_column", vector_column, query_vector, top_k, metric, filter, params, None, min_score, group_by)
        fusion = check.fusion("text_column", text_column, "text", text, query_syntax, rrf_k, depth, weight, key)
        return DataFrame(self._native.fused_search(arguments, fusion))

    def register_text(self, table: str, columns: str | Sequence[str], tokenizer: str = "unicode61") -> None:
        """Sets how the text of columns is split into terms by the next `text_search`: `unicode61` (words, without case and
        diacritics), `porter` (English stems) or `trigram` (substrings of three characters and more). The index is made at the
        first search, in a temporary file, and again after the text has changed."""
        names = check.text("table", table), check.texts("columns", columns), check.text("tokenizer", tokenizer)
        self._native.register_text(*names)

    def text_search(
        self,
        table: str,
        column: str,
        words: str,
        top_k: int | None = 10,
        *,
        filter: str | None = None,
        params: Params | None = None,
        columns: str | Sequence[str] | None = "*",
        query_syntax: str = "any",
    ) -> DataFrame:
        """Returns the rows whose text matches `words`, best first: `text_score` (float64: BM25, larger is better), `text_rank`
        (int64, from 1), then `columns` (`"*"`: all). Rows of equal score are in the order of the table.

        `top_k`: None for all matches. `query_syntax`: `any` (plain words, rows with any of them), `all` (with all of them) or `fts5`
        (the query language of SQLite's FTS5). `filter`, `params`: as in `vector_search`; only rows that fulfil the filter are
        ranked. The column's index is made at the first search, and again after the text has changed.
        """
        arguments = check.text_search(table, column, words, top_k, filter, params, columns, query_syntax)
        return DataFrame(self._native.text_search(arguments))

    def explain_hybrid_search(
        self,
        table: str | Frame,
        vector_column: str,
        query_vector: Any,
        top_k: int = 10,
        metric: str = "cosine",
        score_threshold: float | None = None,
        *,
        filter: str | None = None,
        params: Params | None = None,
        min_score: float | None = None,
        group_by: str | None = None,
    ) -> Explain:
        """Runs `hybrid_search` with these arguments and returns its explain; the strategy is that
        of the run."""
        arguments = _SearchOf(vector_column, query_vector, top_k, metric, filter, params, None, min_score, group_by)
        threshold = None if score_threshold is None else check.number("score_threshold", score_threshold)
        return Explain(*self._search(table, arguments, lambda of: self._native.explain_hybrid_search(of, threshold)))

    def _search(self, table: Any, arguments: _SearchOf, run: Callable[[check.SearchArguments], T]) -> T:
        """Runs a search of a table, or of a frame under a name that it has meanwhile."""
        if isinstance(table, str):
            return run(arguments(table))
        expected = "a str, the name of a table, or a frame (a vexact.DataFrame or Arrow data)"
        frame = table if isinstance(table, DataFrame) else self._frame_of("table", table, expected)
        name = f"_vexact_searched_{next(_numbers)}"
        self._native.create_temp_view(name, frame._native)
        try:
            return run(arguments(name))
        finally:
            self._native.drop_view(name)

    def _frame_of(self, argument: str, data: Any, expected: str) -> DataFrame:
        """Returns a frame of data of another library."""
        if not is_tabular(data):
            raise check.wrong(argument, expected, data)
        return self.create_dataframe_from_arrow(data)


def check_session(session: object) -> None:
    """Raises `TypeError` for anything but a session."""
    if not isinstance(session, SearchSession):
        raise check.wrong("session", "a vexact.Session", session)


_numbers = itertools.count()


class _SearchOf:
    """The arguments of a search without its table."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __call__(self, table: str) -> check.SearchArguments:
        return check.search(table, "vector_column", *self._arguments)

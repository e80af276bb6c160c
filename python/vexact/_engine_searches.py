"""The searches of an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from . import _arguments as check
from . import _native
from ._blocking import in_thread
from ._process import OfProcess
from .errors import EngineError
from .explain import Explain
from .result import QueryResult

Params = Sequence[Any] | Mapping[str, Any] | None
T = TypeVar("T")
# The class has an attribute `_native`, so its annotations cannot name the module.
_NativeEngine: TypeAlias = _native.HtapEngine


class EngineSearches:
    """Searches of replicas by vectors, by text and by both. The base class of `HtapEngine`."""

    _native = OfProcess[_native.HtapEngine]()
    _is_shut_down: bool

    def _open(self) -> _NativeEngine:
        """Returns the native engine; an error after `shutdown`."""
        native = self._native
        if self._is_shut_down:
            raise EngineError("the engine was shut down")
        return native

    async def vector_search(
        self,
        table: str,
        column: str,
        query: Any,
        top_k: int = 10,
        metric: str = "cosine",
        *,
        filter: str | None = None,
        params: Params = None,
        columns: str | Sequence[str] | None = None,
        min_score: float | None = None,
        group_by: str | None = None,
        fresh: bool = False,
    ) -> QueryResult:
        """Returns the rows of a replica closest to `query`, best first: the key's columns, `score`
        (float64), then `columns` (`"*"`: all).

        `filter`: a SQL predicate on the table, applied before the search; `params`: the values of its placeholders, as in `query`. `min_score`:
        only rows of at least this score are searched. `group_by`: a column whose values group the rows, of each of which the result has
        the `top_k` best. `fresh`: syncs first, so that all writes before the call are seen.
        """
        arguments = check.search(table, "column", column, query, top_k, metric, filter, params, columns, min_score, group_by)
        is_fresh = check.flag("fresh", fresh)
        return QueryResult(await in_thread(partial(self._open().vector_search, arguments, is_fresh), abandons=True))

    async def explain_vector_search(
        self,
        table: str,
        column: str,
        query: Any,
        top_k: int = 10,
        metric: str = "cosine",
        *,
        filter: str | None = None,
        params: Params = None,
        columns: str | Sequence[str] | None = None,
        min_score: float | None = None,
        group_by: str | None = None,
        fresh: bool = False,
    ) -> str:
        """Runs such a search and returns how it was done: an `Explain`, a str with `.logical`,
        `.physical` and `.strategy`."""
        arguments = check.search(table, "column", column, query, top_k, metric, filter, params, columns, min_score, group_by)
        is_fresh = check.flag("fresh", fresh)
        explain = partial(self._open().explain_vector_search, arguments, is_fresh)
        return Explain(*await in_thread(explain, abandons=True))

    async def register_text(
        self, table: str, columns: str | Sequence[str], tokenizer: str = "unicode61"
    ) -> None:
        """Indexes the text of columns of a replica for `text_search` and `hybrid_search`, and keeps the indexes at the replica's
        version; rows whose text is NULL are not in them. A column that is indexed already gets the new tokenizer.

        `tokenizer`: `unicode61` (words, without case and diacritics), `porter` (English stems) or `trigram` (substrings of three
        characters and more, also for languages without spaces). The database file remembers the indexes, those of followed
        tables too. Without a file that can be written, they last as long as the stored replicas or, without, as the engine.
        """
        names = check.text("table", table), check.texts("columns", columns), check.text("tokenizer", tokenizer)
        await in_thread(partial(self._open().register_text, *names))

    async def unregister_text(self, table: str, columns: str | Sequence[str] | None = None) -> None:
        """Drops the text indexes of columns of a table (None: all of them)."""
        names = check.text("table", table), [] if columns is None else check.texts("columns", columns)
        await in_thread(partial(self._open().unregister_text, *names))

    def text_columns(self) -> list[tuple[str, str, str]]:
        """Returns table, column and tokenizer of each text index."""
        return self._open().text_columns()

    async def text_search(
        self,
        table: str,
        column: str,
        words: str,
        top_k: int | None = 10,
        *,
        filter: str | None = None,
        params: Params = None,
        columns: str | Sequence[str] | None = None,
        query_syntax: str = "any",
        fresh: bool = False,
    ) -> QueryResult:
        """Returns the rows of a replica whose text matches `words`, best first: the key's columns, `text_score` (float64: BM25,
        larger is better), `text_rank` (int64, from 1), then `columns` (`"*"`: all). Equal scores are in the order of the key.

        `column`: one of `register_text`. `top_k`: None for all matches. `query_syntax`: `any` (plain words, documents with any of
        them), `all` (with all of them) or `fts5` (the query language of SQLite's FTS5). `filter`, `params`, `fresh`: as in
        `vector_search`; only rows that fulfil the filter are ranked.
        """
        arguments = check.text_search(table, column, words, top_k, filter, params, columns, query_syntax)
        is_fresh = check.flag("fresh", fresh)
        return QueryResult(await in_thread(partial(self._open().text_search, arguments, is_fresh), abandons=True))

    async def hybrid_search(
        self,
        table: str,
        vector_column: str,
        query: Any,
        text_column: str,
        words: str,
        top_k: int = 10,
        metric: str = "cosine",
        *,
        filter: str | None = None,
        params: Params = None,
        columns: str | Sequence[str] | None = None,
        query_syntax: str = "any",
        rrf_k: float = 60.0,
        depth: int | None = 100,
        weight: float = 0.5,
        fresh: bool = False,
    ) -> QueryResult:
        """Returns the rows that a vector search and a text search rank best, by reciprocal rank fusion: the key's columns, `score`
        (float64), `vector_rank`, `vector_score`, `text_rank`, `text_score` (NULL where a list lacks the row), then `columns`.

        The score is `2 * weight / (rrf_k + vector_rank) + 2 * (1 - weight) / (rrf_k + text_rank)`. `depth`: the rows of each list;
        None for all. Equal scores are in the order of the key, so the answer is a function of the data. Both searches see one
        version of the table. The other arguments are those of `vector_search` and `text_search`.
        """
        arguments = check.search(table, "vector_column", vector_column, query, top_k, metric, filter, params, columns, None, None)
        text = check.fusion("text_column", text_column, "words", words, query_syntax, rrf_k, depth, weight, None)
        is_fresh = check.flag("fresh", fresh)
        return QueryResult(await in_thread(partial(self._open().hybrid_search, arguments, text, is_fresh), abandons=True))

"""A LangChain vector store over a table in your own SQLite file: `VexactVectorStore`.

Needs langchain-core: `pip install 'vexact[langchain]'`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeVar, cast

from ._needs import needs

needs("langchain_core", "langchain-core", "langchain")

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from .. import _arguments as check
from .._blocking import in_thread
from .._settings import Path
from ..connection import Connection
from ..engine import HtapEngine
from ..errors import InvalidRequestError
from ._conditions import Condition
from ._diversity import diverse
from ._documents import DocumentTable, Hit, Row, as_vector, relevance_of_both, relevance_of_text
from ._langchain_filters import Filter, condition

__all__ = ["VexactVectorStore"]

#: How a search by a text finds documents.
Mode = Literal["vector", "text", "hybrid"]
MODES = ("vector", "text", "hybrid")
T = TypeVar("T")


class VexactVectorStore(VectorStore):
    """Documents, metadata and vectors in a table of a SQLite file, with exact search.

        store = VexactVectorStore(embeddings, "app.db")
        store.add_texts(["A gray cat", "A red fox"], [{"page": 1}, {"page": 2}], ids=["cat", "fox"])
        store.similarity_search("feline", k=1, filter={"page": {"$lt": 2}})
        store.similarity_search("red fox", k=1, mode="hybrid")

    `database`: the path of a SQLite file, which is made if it is not there, a `vexact.Connection` or a `vexact.HtapEngine`. Stores with
    one path share a connection. `table`: made if it is not there; a file holds as many as you like. `metric`: `cosine`, `dot` or `l2`.
    `dim`: the number of components, by default that of the table's rows or of the first vector. `columns`: types of metadata,
    `{"lang": "text", "page": "integer"}` (`text`, `integer`, `real`, `boolean`), which become columns of the table: filters on them are
    fast, and a document whose value is of another type is refused. The table remembers them.

    `mode`: how a text finds documents, also an argument of each search by a text (`search_kwargs={"mode": "hybrid"}` of a retriever).
    `vector` searches vectors; `text` the words of the text (BM25, any of them); `hybrid` fuses both by reciprocal rank (`weight`, from 0
    to 1, is the share of the vectors, 0.5 by default; `depth` the documents of each list, at least 100 by default). `tokenizer`:
    `unicode61`, `porter` or `trigram`, as in `register_text`. The text is indexed at the first such search.

    `filter`, of every search: a dict of metadata keys (`"author.name"` is a key within `author`) and values, or of operators: `$eq`,
    `$ne`, `$gt`, `$gte`, `$lt`, `$lte`, `$in`, `$nin`, `$between`, `$exists`, `$contains` (of a list), `$like` (SQL's, ASCII case
    aside), combined by `$and`, `$or` and `$not`; `$ne` and `$nin` hold for documents without the key. Or a text: SQLite's SQL over `id`,
    `content` and the JSON `meta`, such as `"json_extract(meta, '$.page') > 3"`.

    `score` of a search with scores is the distance, smaller is closer (under `dot` the product, larger is closer); with `text` and
    `hybrid` it is larger for better documents.
    """

    def __init__(
        self,
        embedding: Embeddings,
        database: Path | Connection | HtapEngine = "vexact.db",
        *,
        table: str = "langchain_documents",
        metric: str = "cosine",
        dim: int | None = None,
        columns: Mapping[str, str] | None = None,
        mode: Mode = "vector",
        tokenizer: str | None = None,
    ) -> None:
        self._embedding = check.instance("embedding", embedding, Embeddings)
        self._mode = _checked_mode(mode)
        self._documents = DocumentTable(database, table, dim, metric, columns, tokenizer)

    @property
    def embeddings(self) -> Embeddings:
        """The embedding model."""
        return self._embedding

    @property
    def connection(self) -> Connection:
        """The connection to the file, for SQL of your own on the same data."""
        return self._documents.connection

    def close(self) -> None:
        """Closes the file, unless another store has it open or it was given as a connection. Harmless to repeat."""
        self._documents.close()

    def __enter__(self) -> VexactVectorStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> VexactVectorStore:
        """Opens a store and adds texts. `kwargs` are those of the constructor."""
        store = cls(embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> VexactVectorStore:
        """Does what `from_texts` does, without blocking the event loop."""
        store = await in_thread(partial(cls, embedding, **kwargs))
        await store.aadd_texts(texts, metadatas, ids=ids)
        return store

    # Adding and deleting

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embeds texts and adds them, or replaces the documents with their ids. Returns the ids, new ones where none are given."""
        rows = _rows(list(texts), metadatas, ids)
        self._write(rows, self._embedding.embed_documents([row.content or "" for row in rows]) if rows else [])
        return [row.id for row in rows]

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        rows = _rows(list(texts), metadatas, ids)
        vectors = await self._embedding.aembed_documents([row.content or "" for row in rows]) if rows else []
        await in_thread(partial(self._write, rows, vectors))
        return [row.id for row in rows]

    def add_documents(self, documents: list[Document], *, ids: list[str] | None = None, **kwargs: Any) -> list[str]:
        """Embeds documents and adds them, or replaces those with their ids: `ids`, else their own, else new ones. Returns the ids."""
        texts, metadatas, names = _parts(documents, ids)
        return self.add_texts(texts, metadatas, ids=names)

    async def aadd_documents(
        self, documents: list[Document], *, ids: list[str] | None = None, **kwargs: Any
    ) -> list[str]:
        texts, metadatas, names = _parts(documents, ids)
        return await self.aadd_texts(texts, metadatas, ids=names)

    def _write(self, rows: list[Row], vectors: list[list[float]]) -> None:
        if len(vectors) != len(rows):
            raise InvalidRequestError(f"embedding: expected {len(rows)} vectors for as many texts, got {len(vectors)}")
        for row, vector in zip(rows, vectors):
            row.vector = as_vector(vector)
        self._documents.write(rows)

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Deletes documents by their ids, or all; ids that are not there are passed over."""
        if ids is None:
            self._documents.delete_where()
        else:
            self._documents.delete(ids)
        return True

    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        return await in_thread(partial(self.delete, ids))

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Returns documents in the order of their ids; those that are not there are left out."""
        return [_document(row) for row in self._documents.rows_by_ids(ids)]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return await self._read(partial(self.get_by_ids, ids))

    # Searching

    def similarity_search(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """Returns the `k` documents closest to a text, best first."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter, **kwargs)]

    async def asimilarity_search(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, filter, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Returns the `k` documents closest to a text with their scores, best first."""
        search = self._search(query, k, filter, kwargs)
        return search(None if search.mode == "text" else self._embedding.embed_query(query))

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        search = self._search(query, k, filter, kwargs)
        vector = None if search.mode == "text" else await self._embedding.aembed_query(query)
        return await self._read(partial(search, vector))

    def _search(self, query: str, k: int, filter: Filter | None, options: Mapping[str, Any]) -> _Search:
        where = condition(filter, self._documents.columns)
        mode = _checked_mode(options.get("mode", self._mode))
        weight, depth = options.get("weight", 0.5), options.get("depth")
        return _Search(self._documents, mode, query, k, where, weight, depth)

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """Returns the `k` documents closest to a vector, best first."""
        return [document for document, _ in self.similarity_search_with_score_by_vector(embedding, k, filter)]

    async def asimilarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        return await self._read(partial(self.similarity_search_by_vector, embedding, k, filter))

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Returns the `k` documents closest to a vector with their scores, best first."""
        return _scored(self._documents.search(embedding, k, condition(filter, self._documents.columns)))

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Returns `k` of the `fetch_k` documents closest to a text, chosen by maximal marginal relevance: close to it and unlike each
        other. `lambda_mult`: 1 looks only at the closeness, 0 only at the difference."""
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter)

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        vector = await self._embedding.aembed_query(query)
        return await self.amax_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Does what `max_marginal_relevance_search` does, for a vector."""
        hits: list[Hit] = self._documents.search(
            embedding, max(k, fetch_k), condition(filter, self._documents.columns), with_vectors=True
        )
        chosen = diverse(embedding, [hit.row.vector for hit in hits], k, lambda_mult)
        return [_document(hits[place].row) for place in chosen]

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        search = partial(self.max_marginal_relevance_search_by_vector, embedding, k, fetch_k, lambda_mult, filter)
        return await self._read(search)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        # Between 0 and 1, larger for closer documents; products of unit vectors are cosines.
        if self._documents.metric == "l2":
            return self._documents.similarity
        return self._relevance

    def _relevance(self, score: float) -> float:
        return min(1.0, max(0.0, (1 + self._documents.similarity(score)) / 2))

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        relevance = self._relevance_of(kwargs)
        return [(document, relevance(score)) for document, score in self.similarity_search_with_score(query, k, **kwargs)]

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        relevance = self._relevance_of(kwargs)
        return [(document, relevance(score)) for document, score in await self.asimilarity_search_with_score(query, k, **kwargs)]

    def _relevance_of(self, options: Mapping[str, Any]) -> Callable[[float], float]:
        of_mode = {"text": relevance_of_text, "hybrid": relevance_of_both}
        return of_mode.get(options.get("mode", self._mode)) or self._select_relevance_score_fn()

    async def _read(self, call: Callable[[], T]) -> T:
        return await in_thread(call, abandons=True)


@dataclass
class _Search:
    """A search by a text: called with the text's vector, or None where the mode needs none."""

    documents: DocumentTable
    mode: Mode
    query: str
    k: int
    where: Condition
    weight: float
    depth: int | None

    def __call__(self, vector: list[float] | None) -> list[tuple[Document, float]]:
        if self.mode == "vector":
            return _scored(self.documents.search(vector, self.k, self.where))
        if self.mode == "text":
            return _scored(self.documents.text_search(self.query, self.k, self.where))
        return _scored(
            self.documents.hybrid_search(vector, self.query, self.k, self.where, weight=self.weight, depth=self.depth)
        )


def _checked_mode(mode: Any) -> Mode:
    if mode not in MODES:
        raise InvalidRequestError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    return cast(Mode, mode)


def _scored(hits: list[Hit]) -> list[tuple[Document, float]]:
    return [(_document(hit.row), hit.score) for hit in hits]


def _rows(texts: list[str], metadatas: list[dict[str, Any]] | None, ids: Sequence[str | None] | None) -> list[Row]:
    for name, given in (("metadatas", metadatas), ("ids", ids)):
        if given and len(given) != len(texts):
            raise InvalidRequestError(f"{name}: expected {len(texts)}, one for each text, got {len(given)}")
    names: Iterator[str | None] = iter(ids or [None] * len(texts))
    listed = metadatas or [{}] * len(texts)
    return [
        Row(str(uuid.uuid4()) if id is None else check.text("id", id), check.text("text", text), dict(meta or {}))
        for id, text, meta in zip(names, texts, listed)
    ]


def _parts(documents: list[Document], ids: list[str] | None) -> tuple[list[str], list[dict[str, Any]], Any]:
    own = [document.id for document in documents]
    return [document.page_content for document in documents], [document.metadata for document in documents], ids or own


def _document(row: Row) -> Document:
    return Document(id=row.id, page_content=row.content or "", metadata=row.meta)

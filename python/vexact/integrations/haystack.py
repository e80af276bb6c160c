"""A Haystack document store over a table in your own SQLite file: `VexactDocumentStore`, and for pipelines the retrievers
`VexactEmbeddingRetriever`, `VexactBM25Retriever` and `VexactHybridRetriever`.

Needs haystack-ai: `pip install 'vexact[haystack]'`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from ._needs import needs

needs("haystack", "haystack-ai", "haystack")

from haystack import component, default_from_dict, default_to_dict
from haystack.dataclasses import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy, apply_filter_policy

from .. import _arguments as check
from .._blocking import in_thread
from .._settings import Path
from ..connection import Connection
from ..engine import HtapEngine
from ..errors import EngineError
from ._conditions import Condition
from ._documents import DocumentTable
from ._haystack_documents import document_of, row_of
from ._haystack_filters import condition
from ._haystack_metadata import MetadataQueries

__all__ = ["VexactBM25Retriever", "VexactDocumentStore", "VexactEmbeddingRetriever", "VexactHybridRetriever"]

T = TypeVar("T")


class VexactDocumentStore(MetadataQueries):
    """Haystack documents in a table of a SQLite file, with exact search of their embeddings.

        store = VexactDocumentStore("app.db")
        store.write_documents([Document(content="A gray cat", meta={"page": 1}, embedding=[0.1, 0.9])])
        store.embedding_retrieval([0.0, 1.0], filters={"field": "meta.page", "operator": "<", "value": 2}, top_k=1)

    `database`: the path of a SQLite file, which is made if it is not there, a `vexact.Connection` or a `vexact.HtapEngine`. Stores with
    one path share a connection. `table`: made if it is not there; a file holds as many as you like. `metric`: `cosine`, `dot` or `l2`.
    `embedding_dim`: by default that of the table's rows or of the first embedding. Embeddings are stored as float32. Documents
    without one are kept, and not found by a search of embeddings. `tokenizer`, of the content: `unicode61`, `porter` or `trigram`, as in
    `register_text`; the content is indexed at the first `bm25_retrieval` or `hybrid_retrieval`.

    `columns`: types of metadata, `{"lang": "text", "page": "integer"}` (`text`, `integer`, `real`, `boolean`), which become columns of
    the table: filters on them are fast, and a document whose value is of another type is refused. The table remembers them.

    Filters are evaluated in SQL over the metadata. `>`, `>=`, `<` and `<=` compare numbers with numbers and ISO dates with dates;
    documents whose value is of another kind do not match.
    """

    def __init__(
        self,
        database: Path | Connection | HtapEngine = "vexact.db",
        *,
        table: str = "haystack_documents",
        metric: str = "cosine",
        embedding_dim: int | None = None,
        columns: Mapping[str, str] | None = None,
        tokenizer: str | None = None,
    ) -> None:
        self._database = database
        self._embedding_dim = embedding_dim
        self._columns = columns
        self._tokenizer = tokenizer
        self._documents = DocumentTable(database, table, embedding_dim, metric, columns, tokenizer)

    @property
    def connection(self) -> Connection:
        """The connection to the file, for SQL of your own on the same data."""
        return self._documents.connection

    def close(self) -> None:
        """Closes the file, unless another store has it open or it was given as a connection. Harmless to repeat."""
        self._documents.close()

    def to_dict(self) -> dict[str, Any]:
        """Serializes the store: its path and settings. `TypeError` for one over a connection, which has no text."""
        if isinstance(self._database, (Connection, HtapEngine)):
            raise check.wrong("database", "a path, to write the store as a dict", self._database)
        data: dict[str, Any] = default_to_dict(
            self,
            database=os.fspath(self._database),
            table=self._documents.table,
            metric=self._documents.metric,
            embedding_dim=self._embedding_dim,
            columns=None if self._columns is None else dict(self._columns),
            tokenizer=self._tokenizer,
        )
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> VexactDocumentStore:
        """Opens the store that `to_dict` wrote."""
        store: VexactDocumentStore = default_from_dict(cls, data)
        return store

    # The protocol of document stores

    def count_documents(self) -> int:
        """Returns the number of documents."""
        return self._documents.count()

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """Returns the documents that match, in the order in which they were written first."""
        return [document_of(row) for row in self._documents.rows(self._condition(filters))]

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Writes documents in one transaction; returns how many were written. `NONE` is `FAIL`: a document whose id is there is a
        `DuplicateDocumentError`, and none is written."""
        is_list = isinstance(documents, Iterable) and not isinstance(documents, (str, bytes))
        if not is_list or any(not isinstance(document, Document) for document in documents):
            raise ValueError("documents: expected a list of haystack.Document")
        rows = [row_of(document) for document in documents]
        if policy == DuplicatePolicy.OVERWRITE:
            self._documents.write(rows)
            return len(rows)
        if policy == DuplicatePolicy.SKIP:
            return self._documents.insert_new(rows)
        try:
            return self._documents.insert(rows)
        except EngineError as error:
            if "UNIQUE constraint failed" not in str(error):
                raise
            ids = [row.id for row in rows]
            there = [row.id for row in self._documents.rows_by_ids(ids)] or [id for id in ids if ids.count(id) > 1]
            raise DuplicateDocumentError(f"documents: expected new ids, got {there[0]!r}, which is there already") from error

    def delete_documents(self, document_ids: list[str]) -> None:
        """Deletes documents by their ids; those that are not there are passed over."""
        self._documents.delete(document_ids)

    # Beyond the protocol

    def delete_all_documents(self, recreate_index: bool = False) -> None:
        """Deletes all documents. `recreate_index`: drops the table and makes it again, for embeddings of any dimension."""
        if recreate_index:
            self._documents.recreate()
        else:
            self._documents.delete_where()

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Deletes the documents that match; returns their number."""
        return self._documents.delete_where(self._condition(filters))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Sets metadata of the documents that match, beside what they have; returns their number."""
        return self._documents.update_meta(self._condition(filters), meta)

    def embedding_retrieval(
        self,
        query_embedding: list[float],
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        return_embedding: bool = False,
    ) -> list[Document]:
        """Returns the `top_k` documents closest to an embedding among those that match, best first. Their `score` is the cosine or the
        product, or under `l2` 1 / (1 + distance)."""
        hits = self._documents.search(
            query_embedding, top_k, self._condition(filters), with_vectors=return_embedding
        )
        return [document_of(hit.row, self._documents.similarity(hit.score)) for hit in hits]

    def bm25_retrieval(
        self, query: str, *, filters: dict[str, Any] | None = None, top_k: int = 10, return_embedding: bool = False
    ) -> list[Document]:
        """Returns the `top_k` documents whose content has words of the query, best first. Their `score` is BM25."""
        hits = self._documents.text_search(query, top_k, self._condition(filters), with_vectors=return_embedding)
        return [document_of(hit.row, hit.score) for hit in hits]

    def hybrid_retrieval(
        self,
        query: str,
        query_embedding: list[float],
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        weight: float = 0.5,
        return_embedding: bool = False,
    ) -> list[Document]:
        """Returns the `top_k` documents that `embedding_retrieval` and `bm25_retrieval` rank best, by reciprocal rank fusion. `weight`,
        from 0 to 1, is the share of the embeddings; `score` the sum of the reciprocal ranks."""
        hits = self._documents.hybrid_search(
            query_embedding, query, top_k, self._condition(filters), weight=weight, with_vectors=return_embedding
        )
        return [document_of(hit.row, hit.score) for hit in hits]

    def _condition(self, filters: dict[str, Any] | None) -> Condition:
        return condition(filters, self._documents.columns)

    # The same without blocking the event loop

    async def count_documents_async(self) -> int:
        return await self._read(self.count_documents)

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        return await self._read(partial(self.filter_documents, filters))

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        return await in_thread(partial(self.write_documents, documents, policy))

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        await in_thread(partial(self.delete_documents, document_ids))

    async def delete_all_documents_async(self, recreate_index: bool = False) -> None:
        await in_thread(partial(self.delete_all_documents, recreate_index))

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        return await in_thread(partial(self.delete_by_filter, filters))

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        return await in_thread(partial(self.update_by_filter, filters, meta))

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        return await self._read(partial(self.count_documents_by_filter, filters))

    async def count_unique_metadata_by_filter_async(
        self, filters: dict[str, Any], metadata_fields: list[str]
    ) -> dict[str, int]:
        return await self._read(partial(self.count_unique_metadata_by_filter, filters, metadata_fields))

    async def get_metadata_fields_info_async(self) -> dict[str, dict[str, str]]:
        return await self._read(self.get_metadata_fields_info)

    async def get_metadata_field_min_max_async(self, metadata_field: str) -> dict[str, Any]:
        return await self._read(partial(self.get_metadata_field_min_max, metadata_field))

    async def get_metadata_field_unique_values_async(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        values = partial(self.get_metadata_field_unique_values, metadata_field, search_term, from_, size, filters)
        return await self._read(values)

    async def embedding_retrieval_async(
        self,
        query_embedding: list[float],
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        return_embedding: bool = False,
    ) -> list[Document]:
        search = partial(
            self.embedding_retrieval, query_embedding, filters=filters, top_k=top_k, return_embedding=return_embedding
        )
        return await self._read(search)

    async def bm25_retrieval_async(
        self, query: str, *, filters: dict[str, Any] | None = None, top_k: int = 10, return_embedding: bool = False
    ) -> list[Document]:
        search = partial(self.bm25_retrieval, query, filters=filters, top_k=top_k, return_embedding=return_embedding)
        return await self._read(search)

    async def hybrid_retrieval_async(
        self,
        query: str,
        query_embedding: list[float],
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        weight: float = 0.5,
        return_embedding: bool = False,
    ) -> list[Document]:
        options: dict[str, Any] = {"filters": filters, "top_k": top_k, "weight": weight, "return_embedding": return_embedding}
        return await self._read(partial(self.hybrid_retrieval, query, query_embedding, **options))

    async def _read(self, call: Callable[[], T]) -> T:
        return await in_thread(call, abandons=True)


class _Retriever:
    """Base of the retrievers: a store, and the filters and the number of documents of a run that gives none."""

    def __init__(
        self,
        document_store: VexactDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        return_embedding: bool = False,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        self.document_store = check.instance("document_store", document_store, VexactDocumentStore)
        self.filters = filters
        self.top_k = check.whole("top_k", top_k, 1)
        self.return_embedding = return_embedding
        self.filter_policy = FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy

    def to_dict(self) -> dict[str, Any]:
        """Serializes the component and its store."""
        data: dict[str, Any] = default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            filters=self.filters,
            top_k=self.top_k,
            return_embedding=self.return_embedding,
            filter_policy=self.filter_policy.value,
            **self._own(),
        )
        return data

    def _own(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """Makes the component that `to_dict` wrote, and opens its store."""
        parameters = {**data.get("init_parameters", {})}
        if isinstance(parameters.get("document_store"), dict):
            parameters["document_store"] = VexactDocumentStore.from_dict(parameters["document_store"])
        return default_from_dict(cls, {**data, "init_parameters": parameters})

    def _options(self, filters: dict[str, Any] | None, top_k: int | None, return_embedding: bool | None) -> dict[str, Any]:
        return {
            "filters": apply_filter_policy(self.filter_policy, self.filters, filters),
            "top_k": self.top_k if top_k is None else check.whole("top_k", top_k, 0),
            "return_embedding": self.return_embedding if return_embedding is None else return_embedding,
        }


@component
class VexactEmbeddingRetriever(_Retriever):
    """Retrieves from a `VexactDocumentStore` the documents closest to an embedding: a component of pipelines.

    `filters`, `top_k`, `return_embedding`: those of each run, unless it has its own. `filter_policy`: `REPLACE` takes the filters of
    the run alone, `MERGE` both.
    """

    @component.output_types(documents=list[Document])
    def run(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Returns `{"documents": [...]}`, best first."""
        return {"documents": self.document_store.embedding_retrieval(query_embedding, **self._options(filters, top_k, return_embedding))}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Does what `run` does, without blocking the event loop."""
        options = self._options(filters, top_k, return_embedding)
        return {"documents": await self.document_store.embedding_retrieval_async(query_embedding, **options)}


@component
class VexactBM25Retriever(_Retriever):
    """Retrieves from a `VexactDocumentStore` the documents whose content has words of a query: a component of pipelines. The
    arguments are those of `VexactEmbeddingRetriever`."""

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Returns `{"documents": [...]}`, best first."""
        return {"documents": self.document_store.bm25_retrieval(query, **self._options(filters, top_k, return_embedding))}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Does what `run` does, without blocking the event loop."""
        options = self._options(filters, top_k, return_embedding)
        return {"documents": await self.document_store.bm25_retrieval_async(query, **options)}


@component
class VexactHybridRetriever(_Retriever):
    """Retrieves from a `VexactDocumentStore` the documents that their embeddings and their words rank best, by reciprocal rank
    fusion: a component of pipelines. `weight`, from 0 to 1, is the share of the embeddings; the other arguments are those of
    `VexactEmbeddingRetriever`."""

    def __init__(
        self,
        document_store: VexactDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        weight: float = 0.5,
        return_embedding: bool = False,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        # The decorator makes a class of its own, which `super()` does not know.
        _Retriever.__init__(
            self, document_store, filters=filters, top_k=top_k, return_embedding=return_embedding, filter_policy=filter_policy
        )
        self.weight = check.number("weight", weight)

    def _own(self) -> dict[str, Any]:
        return {"weight": self.weight}

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Returns `{"documents": [...]}`, best first."""
        options = self._options(filters, top_k, return_embedding)
        return {"documents": self.document_store.hybrid_retrieval(query, query_embedding, weight=self.weight, **options)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Does what `run` does, without blocking the event loop."""
        options = self._options(filters, top_k, return_embedding)
        found = await self.document_store.hybrid_retrieval_async(query, query_embedding, weight=self.weight, **options)
        return {"documents": found}

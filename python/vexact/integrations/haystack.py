"""A Haystack document store over a table in your own SQLite file: `VexactDocumentStore`, and `VexactEmbeddingRetriever` for pipelines.

Needs haystack-ai: `pip install 'vexact[haystack]'`.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from ._needs import needs

needs("haystack", "haystack-ai", "haystack")

from haystack import component, default_from_dict, default_to_dict
from haystack.dataclasses import ByteStream, Document, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy, apply_filter_policy

from .. import _arguments as check
from .._blocking import in_thread
from .._settings import Path
from ..connection import Connection
from ..engine import HtapEngine
from ..errors import EngineError
from ._conditions import ALWAYS, Condition, json_path
from ._documents import DocumentTable, Row, as_vector
from ._haystack_filters import condition

__all__ = ["VexactDocumentStore", "VexactEmbeddingRetriever"]

T = TypeVar("T")


class VexactDocumentStore:
    """Haystack documents in a table of a SQLite file, with exact search of their embeddings.

        store = VexactDocumentStore("app.db")
        store.write_documents([Document(content="A gray cat", meta={"page": 1}, embedding=[0.1, 0.9])])
        store.embedding_retrieval([0.0, 1.0], filters={"field": "meta.page", "operator": "<", "value": 2}, top_k=1)

    `database`: the path of a SQLite file, which is made if it is not there, a `vexact.Connection` or a `vexact.HtapEngine`. Stores with
    one path share a connection. `table`: made if it is not there; a file holds as many as you like. `metric`: `cosine`, `dot` or `l2`.
    `embedding_dim`: by default that of the table's rows or of the first embedding. Embeddings are stored as float32. Documents
    without one are kept, and not found by a search.

    Filters are evaluated by SQLite over the metadata. `>`, `>=`, `<` and `<=` compare numbers with numbers and ISO dates with dates;
    documents whose value is of another kind do not match.
    """

    def __init__(
        self,
        database: Path | Connection | HtapEngine = "vexact.db",
        *,
        table: str = "haystack_documents",
        metric: str = "cosine",
        embedding_dim: int | None = None,
    ) -> None:
        self._database = database
        self._embedding_dim = embedding_dim
        self._documents = DocumentTable(database, table, embedding_dim, metric)

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
        return [_document(row) for row in self._documents.rows(condition(filters))]

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Writes documents in one transaction; returns how many were written. `NONE` is `FAIL`: a document whose id is there is a
        `DuplicateDocumentError`, and none is written."""
        is_list = isinstance(documents, Iterable) and not isinstance(documents, (str, bytes))
        if not is_list or any(not isinstance(document, Document) for document in documents):
            raise ValueError("documents: expected a list of haystack.Document")
        rows = [_row(document) for document in documents]
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
        return self._documents.delete_where(condition(filters))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Sets metadata of the documents that match, beside what they have; returns their number."""
        return self._documents.update_meta(condition(filters), meta)

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """Returns the number of documents that match."""
        return self._documents.count(condition(filters))

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """Returns the number of different values of each metadata field among the documents that match."""
        where = condition(filters)
        return {_bare(name): len(self._values(name, where)) for name in metadata_fields}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """Returns the type of each metadata field: `boolean`, `int`, `float` or `keyword`, which is also that of mixed values."""
        found: dict[str, set[str]] = {}
        for (text,) in self._documents.select(Condition("meta")):
            for key, value in json.loads(text).items():
                kind = {bool: "boolean", int: "int", float: "float"}.get(type(value), "keyword")
                if value is not None:
                    found.setdefault(key, set()).add(kind)
        return {key: {"type": kinds.pop() if len(kinds) == 1 else "keyword"} for key, kinds in found.items()}

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """Returns the smallest and the largest value of a field: `{"min": ..., "max": ...}`, None where it has none, or numbers and
        texts both."""
        values = [value for value in self._values(metadata_field) if isinstance(value, (int, float, str))]
        if not values or len({isinstance(value, str) for value in values}) > 1:
            return {"min": None, "max": None}
        return {"min": min(values), "max": max(values)}

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """Returns `size` of the different values of a field from `from_` on, in the order of their texts, and the number of all.
        `search_term`: only values whose text contains it, whatever the case."""
        values = self._values(metadata_field, condition(filters))
        if search_term:
            values = [value for value in values if search_term.lower() in str(value).lower()]
        values.sort(key=lambda value: (str(value), type(value).__name__))
        return values[from_ : from_ + size], len(values)

    def _values(self, name: str, where: Condition = ALWAYS) -> list[Any]:
        """Returns the different values of a metadata field; 1, 1.0, True and "1" differ."""
        path = json_path([_bare(name)])
        columns = Condition("json_type(meta, ?), json_quote(json_extract(meta, ?))", (path, path))
        found = dict.fromkeys(self._documents.select(columns, where))
        booleans = {"true": True, "false": False}
        return [booleans.get(kind, None) if kind in booleans else json.loads(text) for kind, text in found if kind not in (None, "null")]

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
        where = condition(filters)
        hits = self._documents.search(
            query_embedding, top_k, None if where is ALWAYS else where, with_vectors=return_embedding
        )
        return [_document(hit.row, self._documents.similarity(hit.score)) for hit in hits]

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

    async def _read(self, call: Callable[[], T]) -> T:
        return await in_thread(call, abandons=True)


@component
class VexactEmbeddingRetriever:
    """Retrieves from a `VexactDocumentStore` the documents closest to an embedding: a component of pipelines.

    `filters`, `top_k`, `return_embedding`: those of each run, unless it has its own. `filter_policy`: `REPLACE` takes the filters of
    the run alone, `MERGE` both.
    """

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
        )
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> VexactEmbeddingRetriever:
        """Makes the component that `to_dict` wrote, and opens its store."""
        parameters = {**data.get("init_parameters", {})}
        if isinstance(parameters.get("document_store"), dict):
            parameters["document_store"] = VexactDocumentStore.from_dict(parameters["document_store"])
        retriever: VexactEmbeddingRetriever = default_from_dict(cls, {**data, "init_parameters": parameters})
        return retriever

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

    def _options(self, filters: dict[str, Any] | None, top_k: int | None, return_embedding: bool | None) -> dict[str, Any]:
        return {
            "filters": apply_filter_policy(self.filter_policy, self.filters, filters),
            "top_k": self.top_k if top_k is None else check.whole("top_k", top_k, 0),
            "return_embedding": self.return_embedding if return_embedding is None else return_embedding,
        }


def _row(document: Document) -> Row:
    extra: dict[str, Any] = {}
    if document.blob is not None:
        blob = document.blob
        extra["blob"] = {"data": base64.b64encode(blob.data).decode(), "meta": blob.meta, "mime_type": blob.mime_type}
    if document.sparse_embedding is not None:
        extra["sparse_embedding"] = document.sparse_embedding.to_dict()
    vector = None if document.embedding is None else as_vector(document.embedding)
    return Row(document.id, document.content, document.meta, extra or None, vector)


def _document(row: Row, score: float | None = None) -> Document:
    extra = row.extra or {}
    blob, sparse = extra.get("blob"), extra.get("sparse_embedding")
    return Document(
        id=row.id,
        content=row.content,
        blob=blob and ByteStream(base64.b64decode(blob["data"]), meta=blob["meta"], mime_type=blob["mime_type"]),
        meta=row.meta,
        score=score,
        embedding=None if row.vector is None else row.vector.tolist(),
        sparse_embedding=sparse and SparseEmbedding.from_dict(sparse),
    )


def _bare(name: str) -> str:
    return name.removeprefix("meta.")

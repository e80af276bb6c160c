"""A LlamaIndex vector store over a table in your own SQLite file: `VexactVectorStore`.

Needs llama-index-core: `pip install 'vexact[llama-index]'`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from ._needs import needs

needs("llama_index", "llama-index-core", "llama-index")

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from .. import _arguments as check
from .._blocking import in_thread
from .._settings import Path
from ..connection import Connection
from ..engine import HtapEngine
from ..errors import InvalidRequestError
from ._columns import field
from ._conditions import ALWAYS, Condition, contains, every, is_empty, marks, negated, some
from ._diversity import diverse
from ._documents import DocumentTable, Hit, Row, as_vector

__all__ = ["VexactVectorStore"]

T = TypeVar("T")
#: Candidates of maximal marginal relevance for each node that is returned.
_FETCHED_PER_RESULT = 4
_TEXT_MODES = (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE)


class VexactVectorStore(BasePydanticVectorStore):
    """Nodes in a table of a SQLite file, with exact search of their embeddings.

        store = VexactVectorStore("app.db")
        index = VectorStoreIndex(nodes, storage_context=StorageContext.from_defaults(vector_store=store))
        index = VectorStoreIndex.from_vector_store(store)         # later, or in another process

    `database`: the path of a SQLite file, which is made if it is not there, a `vexact.Connection` or a `vexact.HtapEngine`. Stores with
    one path share a connection. `table`: made if it is not there; a file holds as many as you like. `metric`: `cosine`, `dot` or `l2`.
    `dim`: by default that of the table's rows or of the first embedding. `columns`: types of metadata, `{"lang": "text", "page":
    "integer"}` (`text`, `integer`, `real`, `boolean`), which become columns of the table: filters on them are fast, and a node whose value
    is of another type is refused. The table remembers them.

    Metadata filters have all operators and conditions, nested ones too, and are evaluated in SQL; a key may be in another
    (`author.name`). The query modes are

    - `default`, and `mmr` (`mmr_threshold`: 1 looks only at the closeness, 0 only at the difference): `similarities` are cosines or
      products, or under `l2` 1 / (1 + distance);
    - `text_search` and `sparse`: nodes whose text has words of `query_str`, `sparse_top_k` of them if it is given, by BM25;
    - `hybrid`: the nodes that both rank best, `hybrid_top_k` of them if it is given, by reciprocal rank fusion; `alpha`, from 0 to 1,
      is the share of the embeddings, 0.5 by default.

    `tokenizer`, of the text: `unicode61`, `porter` or `trigram`, as in `register_text`; the text is indexed at the first such query.
    """

    stores_text: bool = True
    flat_metadata: bool = False
    table: str
    metric: str
    _documents: DocumentTable = PrivateAttr()

    def __init__(
        self,
        database: Path | Connection | HtapEngine = "vexact.db",
        *,
        table: str = "llama_index_nodes",
        metric: str = "cosine",
        dim: int | None = None,
        columns: Mapping[str, str] | None = None,
        tokenizer: str | None = None,
    ) -> None:
        documents = DocumentTable(database, table, dim, metric, columns, tokenizer)
        super().__init__(table=table, metric=metric)
        self._documents = documents

    @classmethod
    def class_name(cls) -> str:
        return "VexactVectorStore"

    @property
    def client(self) -> Connection:
        """The connection to the file, for SQL of your own on the same data."""
        return self._documents.connection

    def close(self) -> None:
        """Closes the file, unless another store has it open or it was given as a connection. Harmless to repeat."""
        self._documents.close()

    # Adding and deleting

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Adds nodes with their embeddings, or replaces those with their ids; returns the ids."""
        rows = [_row(node) for node in nodes]
        self._documents.write(rows)
        return [row.id for row in rows]

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        return await in_thread(partial(self.add, nodes))

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Deletes the nodes of a document."""
        self._documents.delete_where(_of_documents([ref_doc_id]))

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        await in_thread(partial(self.delete, ref_doc_id))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Deletes the nodes with these ids that match; with neither ids nor filters, none."""
        if node_ids is not None or filters is not None:
            self._documents.delete_where(self._selection(node_ids, filters))

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        await in_thread(partial(self.delete_nodes, node_ids, filters))

    def clear(self) -> None:
        """Deletes all nodes."""
        self._documents.delete_where()

    async def aclear(self) -> None:
        await in_thread(self.clear)

    # Reading and searching

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Returns the nodes with these ids that match, with their embeddings: in the order of the ids, else as they were added."""
        rows = self._documents.rows(self._selection(node_ids, filters))
        if node_ids is not None:
            order = {id: place for place, id in enumerate(node_ids)}
            rows.sort(key=lambda row: order[row.id])
        return [_node(row) for row in rows]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        return await self._read(partial(self.get_nodes, node_ids, filters))

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Returns the nodes that match and that the mode ranks best, best first: `similarity_top_k` of them."""
        # LlamaIndex's retrievers have an empty list for any node.
        where = self._selection(query.node_ids or None, query.filters)
        if query.doc_ids:
            where = every([where, _of_documents(query.doc_ids)])
        hits: list[Hit]
        if query.mode in _TEXT_MODES:
            top_k = query.sparse_top_k or query.similarity_top_k
            hits = self._documents.text_search(_words(query), top_k, where)
        elif query.mode == VectorStoreQueryMode.HYBRID:
            weight = 0.5 if query.alpha is None else query.alpha
            top_k = query.hybrid_top_k or query.similarity_top_k
            depth = query.sparse_top_k and max(query.sparse_top_k, query.similarity_top_k, top_k)
            hits = self._documents.hybrid_search(_vector(query), _words(query), top_k, where, weight=weight, depth=depth)
        elif query.mode == VectorStoreQueryMode.DEFAULT:
            hits = self._documents.search(_vector(query), query.similarity_top_k, where)
        elif query.mode == VectorStoreQueryMode.MMR:
            fetched = self._documents.search(_vector(query), _fetched(query.similarity_top_k, kwargs), where, with_vectors=True)
            weight = 0.5 if query.mmr_threshold is None else query.mmr_threshold
            chosen = diverse(query.query_embedding, [hit.row.vector for hit in fetched], query.similarity_top_k, weight)
            hits = [fetched[place] for place in chosen]
        else:
            expected = "default, mmr, text_search, sparse or hybrid"
            raise InvalidRequestError(f"mode: expected {expected}, got {query.mode.value}")
        is_closeness = query.mode in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR)
        return VectorStoreQueryResult(
            nodes=[_node(hit.row) for hit in hits],
            similarities=[self._documents.similarity(hit.score) if is_closeness else hit.score for hit in hits],
            ids=[hit.row.id for hit in hits],
        )

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        return await self._read(partial(self.query, query, **kwargs))

    def _selection(self, node_ids: Sequence[str] | None, filters: MetadataFilters | None) -> Condition:
        conditions = []
        if node_ids is not None:
            conditions.append(Condition(f"id IN ({marks(node_ids)})", tuple(node_ids)))
        if filters is not None and filters.filters:
            conditions.append(condition(filters, self._documents.columns))
        return every(conditions) if conditions else ALWAYS

    async def _read(self, call: Callable[[], T]) -> T:
        return await in_thread(call, abandons=True)


def _words(query: VectorStoreQuery) -> str:
    words: str | None = query.query_str
    if words is None:
        raise InvalidRequestError(f"query_str: expected a text for the mode {query.mode.value}, got None")
    return words


def _vector(query: VectorStoreQuery) -> list[float]:
    vector: list[float] | None = query.query_embedding
    if vector is None:
        raise InvalidRequestError("query_embedding: expected a vector, got None")
    return vector


def _fetched(top_k: int, options: dict[str, Any]) -> int:
    """Returns the number of candidates of a search by maximal marginal relevance."""
    prefetched = options.get("mmr_prefetch_k")
    if prefetched is not None:
        return max(top_k, check.whole("mmr_prefetch_k", prefetched, 1))
    factor = check.number("mmr_prefetch_factor", options.get("mmr_prefetch_factor", _FETCHED_PER_RESULT))
    return max(top_k, int(top_k * factor))


def _row(node: BaseNode) -> Row:
    stored = node_to_metadata_dict(node, remove_text=True)
    content = json.loads(stored["_node_content"])
    # Text and metadata are columns.
    content["metadata"] = {}
    extra = {"node": content, "type": stored["_node_type"], "ref_doc_id": node.ref_doc_id}
    vector = None if node.embedding is None else as_vector(node.embedding)
    return Row(node.node_id, node.get_content(MetadataMode.NONE), node.metadata, extra, vector)


def _node(row: Row) -> BaseNode:
    extra = row.extra or {}
    content = extra.get("node", {"id_": row.id})
    stored = {"_node_content": json.dumps(content), "_node_type": extra.get("type", "TextNode")}
    node = metadata_dict_to_node(stored, row.content)
    node.metadata = row.meta
    node.embedding = None if row.vector is None else row.vector.tolist()
    return node


def _of_documents(ids: Sequence[str]) -> Condition:
    return Condition(f"coalesce(json_extract(extra, '$.ref_doc_id') IN ({marks(ids)}), 0)", tuple(ids))


# Filters


def condition(filters: MetadataFilters, columns: Mapping[str, str]) -> Condition:
    """Returns metadata filters as SQL; `columns` are the typed metadata. `not` holds where none of them does."""
    parts = [
        condition(part, columns) if isinstance(part, MetadataFilters) else _of_filter(part, columns)
        for part in filters.filters
    ]
    if filters.condition == FilterCondition.OR:
        return some(parts)
    if filters.condition == FilterCondition.NOT:
        return negated(some(parts))
    return every(parts)


_ORDER = {FilterOperator.GT: ">", FilterOperator.GTE: ">=", FilterOperator.LT: "<", FilterOperator.LTE: "<="}


def _of_filter(filter: MetadataFilter, columns: Mapping[str, str]) -> Condition:
    operator, value, keys = filter.operator, filter.value, filter.key.split(".")
    of = field(keys, columns)
    if operator == FilterOperator.IS_EMPTY:
        return is_empty("meta", keys)
    if operator == FilterOperator.EQ:
        return of.equals(value)
    if operator == FilterOperator.NE:
        return negated(of.equals(value))
    if operator in (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL):
        if not isinstance(value, list):
            raise InvalidRequestError(f"filters: {filter.key!r}: {operator.value}: expected a list, got {value!r:.80}")
        if operator == FilterOperator.IN:
            return of.is_one_of(value)
        if operator == FilterOperator.NIN:
            return negated(of.is_one_of(value))
        items = [contains("meta", keys, item) for item in value]
        return some(items) if operator == FilterOperator.ANY else every(items)
    if isinstance(value, list) or value is None:
        raise InvalidRequestError(f"filters: {filter.key!r}: {operator.value}: expected a text or a number, got {value!r:.80}")
    if operator in _ORDER:
        return of.compares(_ORDER[operator], value)
    if operator == FilterOperator.CONTAINS:
        found = contains("meta", keys, value)
        return some([found, of.has_text(value)]) if isinstance(value, str) else found
    if not isinstance(value, str):
        raise InvalidRequestError(f"filters: {filter.key!r}: {operator.value}: expected a text, got {value!r}")
    if operator == FilterOperator.TEXT_MATCH:
        return of.has_text(value)
    return of.has_folded_text(value)

"""The LlamaIndex vector store. LlamaIndex ships no suite; filters are compared with its own store in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.schema import IndexNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from vexact.integrations.llama_index import VexactVectorStore

pytestmark = pytest.mark.anyio

METADATAS: dict[str, dict[str, Any]] = {
    "a": {"page": 1, "name": "Ärger", "tags": ["x", "y"]},
    "b": {"page": 2.5, "name": "bee", "tags": ["y"]},
    "c": {"page": 10, "name": "", "tags": []},
    "d": {"other": None},
    "e": {"page": 3, "name": "BEEr", "tags": ["z", "x"]},
}
VECTORS = {"a": [1.0, 0.0], "b": [1.0, 0.2], "c": [0.0, 1.0], "d": [-1.0, 0.0], "e": [1.0, 1.0]}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def node(id: str) -> TextNode:
    document = RelatedNodeInfo(node_id="doc1" if id in "ab" else "doc2")
    return TextNode(
        id_=id, text=f"text {id}", metadata=METADATAS[id], embedding=VECTORS[id], relationships={NodeRelationship.SOURCE: document}
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VexactVectorStore]:
    store = VexactVectorStore(tmp_path / "app.db")
    assert store.add([node(id) for id in METADATAS]) == list(METADATAS)
    yield store
    store.close()


def found(store: VexactVectorStore, **query: Any) -> list[str]:
    result = store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=query.pop("k", 10), **query))
    return list(result.ids or [])


OPERATORS = [
    ("page", FilterOperator.EQ, 1),
    ("page", FilterOperator.NE, 1),
    ("page", FilterOperator.GT, 1),
    ("page", FilterOperator.GTE, 2.5),
    ("page", FilterOperator.LT, 10),
    ("page", FilterOperator.LTE, 1),
    ("page", FilterOperator.IN, [1, 10]),
    ("page", FilterOperator.NIN, [1, 10]),
    ("name", FilterOperator.EQ, "bee"),
    ("name", FilterOperator.GT, "a"),
    ("name", FilterOperator.IN, ["bee", "Ärger"]),
    ("name", FilterOperator.TEXT_MATCH, "ee"),
    ("name", FilterOperator.TEXT_MATCH_INSENSITIVE, "bEE"),
    ("name", FilterOperator.TEXT_MATCH_INSENSITIVE, "äRG"),
    ("name", FilterOperator.CONTAINS, "ee"),
    ("tags", FilterOperator.CONTAINS, "x"),
    ("tags", FilterOperator.ANY, ["x", "z"]),
    ("tags", FilterOperator.ALL, ["x", "z"]),
    ("tags", FilterOperator.IS_EMPTY, None),
    ("name", FilterOperator.IS_EMPTY, None),
    ("page", FilterOperator.IS_EMPTY, None),
]


@pytest.mark.parametrize(("key", "operator", "value"), OPERATORS, ids=lambda part: str(getattr(part, "value", part)))
@pytest.mark.parametrize("condition", list(FilterCondition), ids=lambda condition: condition.value)
def test_filters_mean_what_llama_index_says(store: VexactVectorStore, key: str, operator: Any, value: Any, condition: Any) -> None:
    filters = MetadataFilters(
        filters=[MetadataFilter(key=key, operator=operator, value=value), MetadataFilter(key="page", operator="<", value=9)],
        condition=condition,
    )
    matches = build_metadata_filter_fn(lambda id: METADATAS[id], filters)
    assert sorted(found(store, filters=filters)) == [id for id in METADATAS if matches(id)]
    assert [node.node_id for node in store.get_nodes(filters=filters)] == [id for id in METADATAS if matches(id)]


def test_filters_may_be_nested(store: VexactVectorStore) -> None:
    cheap = MetadataFilters(filters=[MetadataFilter(key="page", operator="<", value=3), MetadataFilter(key="name", value="BEEr")], condition="or")
    both = MetadataFilters(filters=[cheap, MetadataFilter(key="tags", operator="contains", value="x")])
    assert sorted(found(store, filters=both)) == ["a", "e"]


def test_filters_without_a_meaning_are_refused(store: VexactVectorStore) -> None:
    for operator, value, problem in [("in", "x", "expected a list"), (">", ["x"], "expected a text or a number"), ("text_match", 3, "a text")]:
        filters = MetadataFilters(filters=[MetadataFilter(key="page", operator=operator, value=value)])
        with pytest.raises(ValueError, match=f"filters: 'page': {operator}: .*{problem}"):
            found(store, filters=filters)


def test_queries_are_best_first_with_similarities(store: VexactVectorStore) -> None:
    result = store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=3))
    assert result.ids == ["a", "b", "e"]
    assert result.similarities == pytest.approx([1, 1 / 1.04**0.5, 0.5**0.5])
    assert [node.get_content() for node in result.nodes or []] == ["text a", "text b", "text e"]
    assert found(store, doc_ids=["doc2"]) == ["e", "c", "d"]
    assert found(store, node_ids=["c", "a"]) == ["a", "c"]
    with pytest.raises(ValueError, match="mode: expected default, mmr, text_search, sparse or hybrid, got svm"):
        found(store, mode=VectorStoreQueryMode.SVM)
    with pytest.raises(ValueError, match="query_str: expected a text for the mode sparse, got None"):
        found(store, mode=VectorStoreQueryMode.SPARSE)


def test_marginal_relevance_prefers_what_is_unlike(store: VexactVectorStore) -> None:
    assert found(store, k=2, mode=VectorStoreQueryMode.MMR, mmr_threshold=1.0) == ["a", "b"]
    assert found(store, k=2, mode=VectorStoreQueryMode.MMR, mmr_threshold=0.0) == ["a", "d"]


def test_nodes_come_back_whole(store: VexactVectorStore) -> None:
    made = node("e")
    assert store.get_nodes(["e"]) == [made]
    index = IndexNode(id_="i", text="t", index_id="other", embedding=[0.0, 1.0])
    store.add([index])
    again = store.get_nodes(["i"])[0]
    assert isinstance(again, IndexNode) and again.index_id == "other"
    changed = made.model_copy(update={"metadata": {"page": 77}})
    store.add([changed])
    assert store.get_nodes(["e"])[0].metadata == {"page": 77}
    store.client.execute("UPDATE llama_index_nodes SET meta = '{\"page\": 78}' WHERE id = 'e'")
    assert store.get_nodes(["e"])[0].metadata == {"page": 78}


def test_nodes_are_deleted_by_document_by_id_and_by_filter(store: VexactVectorStore) -> None:
    store.delete("doc1")
    assert sorted(found(store)) == ["c", "d", "e"]
    store.delete_nodes(["c", "missing"])
    assert sorted(found(store)) == ["d", "e"]
    store.delete_nodes()
    assert sorted(found(store)) == ["d", "e"]
    store.delete_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="page", value=3)]))
    assert found(store) == ["d"]
    store.clear()
    assert found(store) == []


async def test_the_asynchronous_methods_do_the_same(store: VexactVectorStore) -> None:
    query = VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=2)
    assert await store.aquery(query) == store.query(query)
    assert await store.aget_nodes(["b"]) == store.get_nodes(["b"])
    await store.async_add([node("a").model_copy(update={"id_": "f"})])
    await store.adelete("doc2")
    await store.adelete_nodes(["a"])
    assert sorted(found(store)) == ["b", "f"]
    await store.aclear()
    assert found(store) == []


def test_an_index_is_made_kept_and_opened_again(tmp_path: Path) -> None:
    model = MockEmbedding(embed_dim=8)
    nodes = [TextNode(text=f"text {n}", metadata={"n": n}) for n in range(5)]
    store = VexactVectorStore(tmp_path / "app.db")
    VectorStoreIndex(nodes, storage_context=StorageContext.from_defaults(vector_store=store), embed_model=model)
    store.close()
    store = VexactVectorStore(tmp_path / "app.db")
    filters = MetadataFilters(filters=[MetadataFilter(key="n", operator=">=", value=3)])
    index = VectorStoreIndex.from_vector_store(store, embed_model=model)
    answer = index.as_retriever(similarity_top_k=5, filters=filters).retrieve("text")
    assert sorted(result.node.metadata["n"] for result in answer) == [3, 4]
    index.delete_nodes([answer[0].node.node_id])
    assert len(index.as_retriever(similarity_top_k=5).retrieve("text")) == 4
    store.close()

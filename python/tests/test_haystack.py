"""The Haystack document store: Haystack's own suites, sync and async, all of them, and what is beyond."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Pipeline
from haystack.dataclasses import ByteStream, Document, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.testing.document_store import (
    CountDocumentsByFilterTest,
    CountUniqueMetadataByFilterTest,
    DocumentStoreBaseExtendedTests,
    GetMetadataFieldMinMaxTest,
    GetMetadataFieldsInfoTest,
    GetMetadataFieldUniqueValuesTest,
)
from haystack.testing.document_store_async import (
    CountDocumentsAsyncTest,
    CountDocumentsByFilterAsyncTest,
    CountUniqueMetadataByFilterAsyncTest,
    DeleteAllAsyncTest,
    DeleteByFilterAsyncTest,
    DeleteDocumentsAsyncTest,
    FilterDocumentsAsyncTest,
    GetMetadataFieldMinMaxAsyncTest,
    GetMetadataFieldsInfoAsyncTest,
    GetMetadataFieldUniqueValuesAsyncTest,
    UpdateByFilterAsyncTest,
    WriteDocumentsAsyncTest,
)
from haystack.utils.filters import document_matches_filter

import vexact
from vexact.integrations.haystack import VexactDocumentStore, VexactEmbeddingRetriever


def kept(document: Document) -> Document:
    """A document as it is stored: its embedding in float32."""
    vector = document.embedding
    return document if vector is None else replace(document, embedding=np.asarray(vector, np.float32).tolist())


@pytest.fixture
def document_store(tmp_path: Path) -> Iterator[VexactDocumentStore]:
    store = VexactDocumentStore(tmp_path / "app.db")
    yield store
    store.close()


class _Suite:
    """The suites compare whole documents: with embeddings as they are stored."""

    @pytest.fixture
    def document_store(self, tmp_path: Path) -> Iterator[VexactDocumentStore]:
        store = VexactDocumentStore(tmp_path / "app.db")
        yield store
        store.close()

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        assert received == [kept(document) for document in expected]


class TestHaystacksOwn(
    _Suite,
    CountDocumentsByFilterTest,
    CountUniqueMetadataByFilterTest,
    GetMetadataFieldMinMaxTest,
    GetMetadataFieldsInfoTest,
    GetMetadataFieldUniqueValuesTest,
    DocumentStoreBaseExtendedTests,
):
    def test_write_documents(self, document_store: VexactDocumentStore) -> None:
        """The policy of a store whose user names none: `FAIL`."""
        documents = [Document(content="test doc")]
        assert document_store.write_documents(documents) == 1
        assert document_store.filter_documents() == documents
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents(documents)


class TestHaystacksOwnAsync(
    _Suite,
    CountDocumentsAsyncTest,
    CountDocumentsByFilterAsyncTest,
    CountUniqueMetadataByFilterAsyncTest,
    DeleteAllAsyncTest,
    DeleteByFilterAsyncTest,
    DeleteDocumentsAsyncTest,
    FilterDocumentsAsyncTest,
    GetMetadataFieldMinMaxAsyncTest,
    GetMetadataFieldsInfoAsyncTest,
    GetMetadataFieldUniqueValuesAsyncTest,
    UpdateByFilterAsyncTest,
    WriteDocumentsAsyncTest,
):
    @pytest.mark.asyncio
    async def test_write_documents_async(self, document_store: VexactDocumentStore) -> None:
        documents = [Document(content="test doc")]
        assert await document_store.write_documents_async(documents) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async(documents)


METAS: list[dict[str, Any]] = [
    {"page": 1, "date": "2024-02-29T12:00:00.000001"},
    {"page": 2.5, "date": "2024-02-29T12:00:00+02:00", "tags": ["x"]},
    {"page": True, "date": "2024-02-29", "name": "n"},
    {"page": None, "date": "2024-02-29T10:00:00Z"},
    {"nested": {"deep": {"er": "yes"}}, "page": 0},
    {},
]


@pytest.mark.parametrize(
    "filters",
    [
        {"field": "meta.page", "operator": operator, "value": value}
        for operator in ("==", "!=", ">", ">=", "<", "<=")
        for value in (0, 1, 2.5, -1, True, None)
    ]
    + [
        {"field": "meta.date", "operator": operator, "value": value}
        for operator in ("==", "!=", ">", ">=", "<", "<=")
        for value in (
            "2024-02-29T12:00:00",
            "2024-02-29T12:00:00.000001",
            "2024-02-29T12:00:00+02:00",
            "2024-02-29T10:00:00+00:00",
            "2024-02-29",
            datetime(2024, 2, 29, 12),
        )
    ]
    + [
        {"field": "meta.nested.deep.er", "operator": "==", "value": "yes"},
        {"field": "meta.nested.deep.er", "operator": "!=", "value": "yes"},
        {"field": "meta.tags", "operator": "==", "value": ["x"]},
        {"field": "meta.nested", "operator": "==", "value": {"deep": {"er": "yes"}}},
        {"field": "name", "operator": "==", "value": "n"},
        {"field": "content", "operator": "==", "value": "c3"},
        {"field": "id", "operator": "in", "value": ["1", "4"]},
        {"field": "meta.page", "operator": "in", "value": [1, None]},
        {"field": "meta.date", "operator": "not in", "value": ["2024-02-29T12:00:00+02:00"]},
        {
            "operator": "NOT",
            "conditions": [
                {"field": "meta.page", "operator": ">", "value": 0},
                {"operator": "OR", "conditions": [{"field": "meta.page", "operator": "<", "value": 2}, {"field": "id", "operator": "==", "value": "1"}]},
            ],
        },
    ],
    ids=lambda filters: "-".join(str(value) for value in filters.values())[:60],
)
def test_filters_mean_what_haystack_says(document_store: VexactDocumentStore, filters: dict[str, Any]) -> None:
    documents = [Document(id=str(n), content=f"c{n}", meta=meta, embedding=[1.0, float(n)]) for n, meta in enumerate(METAS)]
    document_store.write_documents(documents)
    expected = [document.id for document in documents if document_matches_filter(filters, document)]
    assert [document.id for document in document_store.filter_documents(filters)] == expected
    assert document_store.count_documents_by_filter(filters) == len(expected)
    found = document_store.embedding_retrieval([1.0, 0.0], filters=filters)
    assert [document.id for document in found] == expected


def test_every_part_of_a_document_comes_back(document_store: VexactDocumentStore) -> None:
    blob = ByteStream(b"\x00\xff", meta={"k": 1}, mime_type="image/png")
    whole = Document(
        content="text", blob=blob, meta={"list": [1, {"a": None}], "ключ": "é"}, embedding=[0.5, -1.0],
        sparse_embedding=SparseEmbedding([1, 5], [0.5, 0.25]),
    )
    document_store.write_documents([whole, Document(id="bare")])
    assert document_store.filter_documents() == [whole, Document(id="bare")]


def test_retrieval_is_exact_filtered_and_scored(document_store: VexactDocumentStore) -> None:
    vectors = {"a": [1.0, 0.0], "b": [1.0, 1.0], "c": [0.0, 1.0], "d": [-1.0, 0.0]}
    documents = [Document(id=id, meta={"n": n}, embedding=vector) for n, (id, vector) in enumerate(vectors.items())]
    document_store.write_documents([*documents, Document(id="none", meta={"n": 9})])
    hits = document_store.embedding_retrieval([1.0, 0.0], top_k=10)
    assert [(hit.id, round(hit.score or 0, 6)) for hit in hits] == [("a", 1), ("b", 0.707107), ("c", 0), ("d", -1)]
    some = {"field": "meta.n", "operator": ">=", "value": 2}
    assert [hit.id for hit in document_store.embedding_retrieval([1.0, 0.0], filters=some)] == ["c", "d"]
    assert document_store.embedding_retrieval([1.0, 0.0], filters={"field": "meta.n", "operator": "==", "value": 77}) == []
    with_vector = document_store.embedding_retrieval([1.0, 0.0], top_k=1, return_embedding=True)
    assert with_vector[0].embedding == [1.0, 0.0] and hits[0].embedding is None
    with pytest.raises(vexact.EngineError, match="2 components|dimension|got 3"):
        document_store.embedding_retrieval([1.0, 0.0, 0.0])


def test_a_pipeline_retrieves_and_survives_its_text(document_store: VexactDocumentStore, tmp_path: Path) -> None:
    document_store.write_documents([Document(id=str(n), meta={"n": n, "odd": n % 2}, embedding=[1.0, float(n)]) for n in range(4)])
    pipeline = Pipeline()
    odd = {"field": "meta.odd", "operator": "==", "value": 1}
    pipeline.add_component("retriever", VexactEmbeddingRetriever(document_store, filters=odd, top_k=3, filter_policy="merge"))
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["vexact.integrations.haystack"])
    for made in (pipeline, again):
        answer = made.run({"retriever": {"query_embedding": [1.0, 3.0], "filters": {"field": "meta.n", "operator": ">", "value": 1}}})
        assert [document.id for document in answer["retriever"]["documents"]] == ["3"]
        assert [d.id for d in made.run({"retriever": {"query_embedding": [1.0, 0.0]}})["retriever"]["documents"]] == ["1", "3"]
    assert VexactDocumentStore.from_dict(document_store.to_dict()).count_documents() == 4
    with pytest.raises(TypeError, match="database: expected a path"):
        VexactDocumentStore(document_store.connection).to_dict()


def test_what_is_there_already_is_told_and_nothing_is_written(document_store: VexactDocumentStore) -> None:
    document_store.write_documents([Document(id="2")])
    with pytest.raises(DuplicateDocumentError, match="'2', which is there already"):
        document_store.write_documents([Document(id="1"), Document(id="2")], DuplicatePolicy.FAIL)
    assert document_store.count_documents() == 1
    assert document_store.write_documents([Document(id="1"), Document(id="2", content="new")], DuplicatePolicy.SKIP) == 1
    assert [document.content for document in document_store.filter_documents()] == [None, None]


@pytest.mark.parametrize(
    "filters",
    [
        {"field": "meta.n", "operator": "~", "value": 1},
        {"field": "meta.n", "operator": ">", "value": {}},
        {"field": "meta.n", "operator": ">", "value": "2024-13-01"},
        {"field": "embedding", "operator": "==", "value": 1},
        {"operator": "XOR", "conditions": []},
        {"meta.n": 1},
        [1],
    ],
)
def test_filters_without_a_meaning_are_refused(document_store: VexactDocumentStore, filters: Any) -> None:
    with pytest.raises(FilterError, match="filters: "):
        document_store.filter_documents(filters)


def test_all_can_be_dropped_for_embeddings_of_another_dimension(document_store: VexactDocumentStore) -> None:
    document_store.write_documents([Document(id="1", embedding=[1.0, 2.0])])
    with pytest.raises(ValueError, match="document '2': expected a vector of 2 components, got 3"):
        document_store.write_documents([Document(id="2", embedding=[1.0, 2.0, 3.0])])
    document_store.delete_all_documents(recreate_index=True)
    document_store.write_documents([Document(id="2", embedding=[1.0, 2.0, 3.0])])
    assert [document.id for document in document_store.embedding_retrieval([1.0, 2.0, 3.0])] == ["2"]

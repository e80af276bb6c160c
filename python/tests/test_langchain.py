"""The LangChain vector store: LangChain's own suite, and filters, scores and files beyond it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests.vectorstores import VectorStoreIntegrationTests

import vexact
from vexact.integrations.langchain import VexactVectorStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class TestLangChainsOwn(VectorStoreIntegrationTests):
    @pytest.fixture()
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:
        with VexactVectorStore(self.get_embeddings(), tmp_path / "app.db") as store:
            yield store


class Letters(Embeddings):
    """A text's vector counts its letters, so that a closeness is plain."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(text.count(letter)) for letter in "abcd"] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


METADATAS: list[dict[str, Any]] = [
    {"page": 1, "lang": "en", "tags": ["x", "y"], "author": {"name": "Ann"}},
    {"page": 2, "lang": "de", "tags": ["y"], "author": {"name": "Bob"}},
    {"page": 10, "lang": "en", "tags": []},
    {"page": "10", "lang": None, "done": True},
    {"page": 2.5, 'a "b".c': 1, "done": False},
]
IDS = ["a", "b", "c", "d", "e"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VexactVectorStore]:
    with VexactVectorStore(Letters(), tmp_path / "app.db") as store:
        store.add_texts(["a", "ab", "abc", "abcd", "bcd"], METADATAS, ids=IDS)
        yield store


def found(store: VexactVectorStore, filter: Any) -> list[str]:
    return sorted(str(document.id) for document in store.similarity_search("abcd", 10, filter))


@pytest.mark.parametrize(
    ("filter", "ids"),
    [
        ({}, "abcde"),
        ({"page": 2}, "b"),
        ({"page": "10"}, "d"),
        ({"page": {"$gt": 1}}, "bce"),
        ({"page": {"$gt": 1, "$lt": 10}}, "be"),
        ({"page": {"$gte": "1"}}, "d"),
        ({"page": {"$between": [2, 10]}}, "bce"),
        ({"lang": {"$ne": "en"}}, "bde"),
        ({"lang": None}, "de"),
        ({"lang": {"$exists": True}}, "abc"),
        ({"page": {"$in": [1, "10", 2.5]}}, "ade"),
        ({"page": {"$in": []}}, ""),
        ({"page": {"$nin": [1, 2]}}, "cde"),
        ({"tags": {"$contains": "y"}}, "ab"),
        ({"tags": ["x", "y"]}, "a"),
        ({"author": {"name": "Bob"}}, "b"),
        ({"author.name": "Ann"}, "a"),
        ({"author.name": {"$like": "b%"}}, "b"),
        ({"done": True}, "d"),
        ({"done": {"$ne": True}}, "abce"),
        ({"$or": [{"page": 1}, {"lang": "de"}]}, "ab"),
        ({"$and": [{"lang": "en"}, {"page": {"$gt": 1}}]}, "c"),
        ({"$not": {"$or": [{"page": 1}, {"lang": "de"}]}}, "cde"),
        ({"page": {"$not": {"$gt": 1}}}, "ad"),
        ("json_extract(meta, '$.page') > 2 AND content LIKE '%b%'", "cde"),
        ("id IN ('a', 'e')", "ae"),
    ],
)
def test_filters_keep_the_documents_that_they_mean(store: VexactVectorStore, filter: Any, ids: str) -> None:
    assert found(store, filter) == list(ids)


def test_a_key_may_have_any_characters(store: VexactVectorStore) -> None:
    store.add_texts(["dd"], [{'say "hi"': 1, "it's": 2, "ключ": 3}], ids=["odd"])
    for filter in ({'say "hi"': 1}, {"it's": 2}, {"ключ": 3}):
        assert found(store, filter) == ["odd"]


@pytest.mark.parametrize(
    ("filter", "problem"),
    [
        ({"page": {"$near": 1}}, "'page': expected one of"),
        ({"$nor": []}, "expected \\$and, \\$or, \\$not"),
        ({"page": {"$gt": [1]}}, "'page': \\$gt: expected a text or a number, got list"),
        ({"page": {"$in": "abc"}}, "'page': \\$in: expected a list"),
        ({"page": {"$between": [1]}}, "\\$between: expected two values, got 1"),
        ({"$and": {"page": 1}}, "\\$and: expected a list of dicts"),
        (lambda document: True, "filter: expected a dict or SQL"),
        ("no_such_column = 1", "no_such_column"),
    ],
)
def test_a_filter_that_has_no_meaning_is_refused(store: VexactVectorStore, filter: Any, problem: str) -> None:
    with pytest.raises((ValueError, TypeError, vexact.EngineError), match=problem):
        store.similarity_search("a", filter=filter)


def test_searches_equal_the_definition(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((200, 8)).astype(np.float32)

    class Table(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [vectors[int(text)].tolist() for text in texts]

        def embed_query(self, text: str) -> list[float]:
            return vectors[int(text)].tolist()

    for metric in ("cosine", "dot", "l2"):
        with VexactVectorStore(Table(), tmp_path / "app.db", table=metric, metric=metric) as store:
            store.add_texts([str(n) for n in range(200)], [{"even": n % 2 == 0} for n in range(200)], ids=[f"{n:03}" for n in range(200)])
            wide, query = vectors.astype(np.float64), vectors[7].astype(np.float64)
            products, lengths = wide @ query, np.linalg.norm(wide, axis=1)
            scores = {"dot": products, "cosine": 1 - products / lengths / lengths[7], "l2": np.linalg.norm(wide - query, axis=1)}[metric]
            best = [n for n in np.argsort(-scores if metric == "dot" else scores, kind="stable") if n % 2 == 0][:10]
            hits = store.similarity_search_with_score("7", 10, {"even": True})
            assert [document.page_content for document, _ in hits] == [str(n) for n in best]
            np.testing.assert_allclose([score for _, score in hits], scores[best], atol=1e-6)


def test_relevance_is_between_0_and_1_and_larger_for_closer_documents(store: VexactVectorStore) -> None:
    scored = store.similarity_search_with_relevance_scores("ab", 5)
    relevances = [relevance for _, relevance in scored]
    assert relevances == sorted(relevances, reverse=True) and relevances[0] == pytest.approx(1.0)
    assert all(0 <= relevance <= 1 for relevance in relevances)


def test_marginal_relevance_prefers_what_is_unlike(store: VexactVectorStore) -> None:
    near = [document.id for document in store.max_marginal_relevance_search("abc", k=3, lambda_mult=1.0)]
    assert near == [document.id for document in store.similarity_search("abc", 3)]
    unlike = [document.id for document in store.max_marginal_relevance_search("abc", k=2, lambda_mult=0.1)]
    assert unlike == ["c", "a"]
    assert [d.id for d in store.max_marginal_relevance_search("abc", k=9, filter={"lang": "en"})] == ["c", "a"]


async def test_the_asynchronous_methods_give_the_same(store: VexactVectorStore) -> None:
    filter = {"page": {"$lt": 5}}
    assert await store.asimilarity_search("ab", 3, filter=filter) == store.similarity_search("ab", 3, filter=filter)
    assert await store.asimilarity_search_with_score("ab") == store.similarity_search_with_score("ab")
    assert await store.asimilarity_search_by_vector([1, 1, 0, 0]) == store.similarity_search_by_vector([1, 1, 0, 0])
    assert await store.amax_marginal_relevance_search("ab") == store.max_marginal_relevance_search("ab")
    retriever = store.as_retriever(search_kwargs={"k": 2, "filter": filter})
    assert await retriever.ainvoke("ab") == retriever.invoke("ab") == store.similarity_search("ab", 2, filter)


def test_documents_are_there_after_reopening_and_in_plain_sqlite(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "app.db"
    with VexactVectorStore.from_texts(["a", "b"], Letters(), [{"n": 1}, {"n": 2}], ids=["1", "2"], database=path):
        pass
    with sqlite3.connect(path) as plain:
        assert plain.execute("SELECT id, content, meta ->> 'n', length(embedding) FROM langchain_documents").fetchall() == [
            ("1", "a", 1, 16),
            ("2", "b", 2, 16),
        ]
    with VexactVectorStore(Letters(), path) as store:
        assert [document.id for document in store.similarity_search("b", 1)] == ["2"]
        assert [document.metadata for document in store.get_by_ids(["2", "x", "1"])] == [{"n": 2}, {"n": 1}]


def test_stores_of_one_file_share_a_connection_and_keep_apart(tmp_path: Path) -> None:
    first = VexactVectorStore(Letters(), tmp_path / "app.db", table="first")
    second = VexactVectorStore(Letters(), str(tmp_path / "app.db"), table="second")
    assert first.connection is second.connection
    first.add_texts(["a"], ids=["1"])
    assert second.similarity_search("a") == [] and len(first.similarity_search("a")) == 1
    first.close()
    first.close()
    second.add_texts(["b"], ids=["1"])
    assert [document.page_content for document in second.similarity_search("a")] == ["b"]
    connection = second.connection
    del second
    gc.collect()
    with pytest.raises(vexact.EngineError, match="shut down"):
        connection.query("SELECT 1")


def test_a_store_over_a_connection_leaves_it_open_and_sees_what_others_write(tmp_path: Path) -> None:
    with vexact.connect(tmp_path / "app.db") as connection:
        with VexactVectorStore(Letters(), connection, table="docs") as store:
            store.add_texts(["a"], [{"n": 1}], ids=["1"])
            connection.execute("INSERT INTO docs VALUES ('2', 'mine', '{\"n\": 5}', NULL, ?)", [[0.0, 1.0, 0.0, 0.0]])
            assert store.similarity_search("b", 1) == [Document(id="2", page_content="mine", metadata={"n": 5})]
        joined = "SELECT d.id, score FROM vector_search('docs', 'embedding', [0.0, 1.0, 0.0, 0.0], 2) AS d ORDER BY score"
        assert [row["id"] for row in connection.query(joined).to_pylist()] == ["2", "1"]


def test_what_cannot_be_kept_is_refused(store: VexactVectorStore) -> None:
    with pytest.raises(ValueError, match="document 'x': metadata 'at': expected a value that JSON has .* got <object"):
        store.add_texts(["a"], [{"ok": 1, "at": object()}], ids=["x"])
    with pytest.raises(ValueError, match="metadata 'n': expected a value that JSON has .* got nan"):
        store.add_texts(["a"], [{"n": float("nan")}], ids=["x"])
    with pytest.raises(ValueError, match="metadatas: expected 2, one for each text, got 1"):
        store.add_texts(["a", "b"], [{}])
    wider = VexactVectorStore(DeterministicFakeEmbedding(size=6), store.connection)
    with pytest.raises(ValueError, match="expected a vector of 4 components, got 6"):
        wider.add_texts(["a"])
    with pytest.raises(ValueError, match="expected vectors of 6 components, got 4"):
        VexactVectorStore(Letters(), store.connection, dim=6)
    with pytest.raises(ValueError, match="metric: expected one of cosine, dot, l2, got 'manhattan'"):
        VexactVectorStore(Letters(), store.connection, metric="manhattan")
    store.connection.execute("CREATE TABLE other (id INTEGER PRIMARY KEY, content TEXT)")
    with pytest.raises(ValueError, match="table 'other': expected the columns id, content, meta, extra and embedding"):
        VexactVectorStore(Letters(), store.connection, table="other")
    assert found(store, {}) == IDS


def test_a_filter_of_ten_thousand_documents_is_right(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((20_000, 4)).astype(np.float32)
    with vexact.connect(tmp_path / "app.db") as connection:
        store = VexactVectorStore(Letters(), connection, dim=4)
        connection.execute_many(
            "INSERT INTO langchain_documents VALUES (?, '', ?, NULL, ?)",
            [(f"{n:05}", f'{{"n": {n}}}', vector) for n, vector in enumerate(vectors)],
        )
        hits = store.similarity_search_with_score_by_vector([1, 0, 0, 0], 20, {"n": {"$gte": 10_000}})
        cosine = 1 - vectors[10_000:, 0].astype(np.float64) / np.linalg.norm(vectors[10_000:].astype(np.float64), axis=1)
        assert [document.metadata["n"] for document, _ in hits] == (10_000 + np.argsort(cosine, kind="stable")[:20]).tolist()

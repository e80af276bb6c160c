"""Stores of frameworks: text and hybrid search, and typed metadata."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from haystack import Document as HaystackDocument
from haystack import Pipeline
from langchain_core.embeddings import Embeddings
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

import vexact
from vexact.integrations import haystack, langchain, llama_index

pytestmark = pytest.mark.anyio

TEXTS = {
    "a": "a lithium battery for a bicycle",
    "b": "the history of the bicycle",
    "c": "a battery of tests, and another battery",
    "d": "cats and dogs",
    "e": "nothing of the kind",
}
METAS: dict[str, dict[str, Any]] = {
    "a": {"page": 1, "lang": "en", "done": True, "price": 2},
    "b": {"page": 2, "lang": "de", "done": False, "price": 2.5},
    "c": {"page": 3, "lang": "en"},
    "d": {"page": None, "lang": None},
    "e": {"lang": "fr", "price": 9.0},
}
VECTORS = {"a": [0.0, 1.0], "b": [1.0, 0.1], "c": [0.5, 0.5], "d": [1.0, 0.0], "e": [-1.0, 0.0]}
TYPES = {"page": "integer", "lang": "text", "done": "boolean", "price": "real"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Fixed(Embeddings):
    """Documents have the vectors above, and every query points to `d`."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        names = {text: name for name, text in TEXTS.items()}
        return [VECTORS[names[text]] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [1.0, 0.0]


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[langchain.VexactVectorStore]:
    with langchain.VexactVectorStore(Fixed(), tmp_path / "app.db") as store:
        store.add_texts(list(TEXTS.values()), list(METAS.values()), ids=list(TEXTS))
        yield store


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[haystack.VexactDocumentStore]:
    store = haystack.VexactDocumentStore(tmp_path / "app.db")
    store.write_documents([HaystackDocument(id=id, content=TEXTS[id], meta=METAS[id], embedding=VECTORS[id]) for id in TEXTS])
    yield store
    store.close()


@pytest.fixture
def llama(tmp_path: Path) -> Iterator[llama_index.VexactVectorStore]:
    store = llama_index.VexactVectorStore(tmp_path / "app.db")
    store.add([TextNode(id_=id, text=TEXTS[id], metadata=METAS[id], embedding=VECTORS[id]) for id in TEXTS])
    yield store
    store.close()


def fused(words: list[str], vectors: list[str], weight: float = 0.5) -> list[str]:
    """The definition of reciprocal rank fusion: the sum of the weighted reciprocal ranks, ties by id."""
    scores: dict[str, float] = {}
    for share, ranked in ((weight, vectors), (1 - weight, words)):
        for rank, id in enumerate(ranked, 1):
            scores[id] = scores.get(id, 0.0) + 2 * share / (60 + rank)
    return sorted(scores, key=lambda id: (-scores[id], id))


BY_VECTOR = ["d", "b", "c", "a", "e"]
BY_WORDS = ["c", "a"]


def test_the_modes_of_langchain(chain: langchain.VexactVectorStore) -> None:
    def ids(**options: Any) -> list[str | None]:
        return [document.id for document in chain.similarity_search("battery", 10, **options)]

    assert ids() == BY_VECTOR
    assert ids(mode="text") == BY_WORDS
    assert ids(mode="hybrid") == fused(BY_WORDS, BY_VECTOR)
    assert ids(mode="hybrid", weight=0.9) == fused(BY_WORDS, BY_VECTOR, 0.9)
    assert ids(mode="hybrid", filter={"page": {"$lt": 3}}) == fused(["a"], ["b", "a"])
    assert ids(mode="text", filter="id <> 'c' AND id IN (SELECT id FROM langchain_documents)") == ["a"]
    assert ids(mode="hybrid", filter="id = 'nobody'") == []
    retriever = chain.as_retriever(search_kwargs={"k": 2, "mode": "hybrid"})
    assert [document.id for document in retriever.invoke("battery")] == fused(BY_WORDS, BY_VECTOR)[:2]
    for mode in ("text", "hybrid"):
        scored = chain.similarity_search_with_relevance_scores("battery", 10, mode=mode)
        relevances = [relevance for _, relevance in scored]
        assert relevances == sorted(relevances, reverse=True) and all(0 <= relevance <= 1 for relevance in relevances)
    default = langchain.VexactVectorStore(Fixed(), chain.connection, mode="hybrid")
    assert [document.id for document in default.similarity_search("battery", 10)] == fused(BY_WORDS, BY_VECTOR)
    assert [document.id for document in default.similarity_search("battery", 10, mode="vector")] == BY_VECTOR
    for problem in (lambda: chain.similarity_search("x", mode="sparse"), lambda: langchain.VexactVectorStore(Fixed(), chain.connection, mode="sparse")):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="mode: expected one of vector, text, hybrid, got 'sparse'"):
            problem()


async def test_the_modes_of_langchain_without_blocking(chain: langchain.VexactVectorStore) -> None:
    for mode in ("vector", "text", "hybrid"):
        options: dict[str, Any] = {"mode": mode, "filter": {"lang": "en"}}
        assert await chain.asimilarity_search_with_score("battery", 3, **options) == chain.similarity_search_with_score("battery", 3, **options)
        found = chain.similarity_search_with_relevance_scores("battery", 3, **options)
        assert await chain.asimilarity_search_with_relevance_scores("battery", 3, **options) == found


def test_text_follows_what_is_written(chain: langchain.VexactVectorStore) -> None:
    def words(text: str) -> list[str | None]:
        return [document.id for document in chain.similarity_search(text, mode="text")]

    assert words("dogs") == ["d"]
    chain.delete(["d"])
    chain.connection.execute("UPDATE langchain_documents SET content = 'two dogs' WHERE id = 'e'")
    assert words("dogs") == ["e"] and words("lithium") == ["a"]
    english = langchain.VexactVectorStore(Fixed(), chain.connection, tokenizer="porter", mode="text")
    assert [document.id for document in english.similarity_search("dog")] == ["e"]
    with pytest.raises(ValueError, match="tokenizer"):
        langchain.VexactVectorStore(Fixed(), chain.connection, tokenizer="words", mode="text").similarity_search("dog")


def test_the_retrievers_of_haystack(stack: haystack.VexactDocumentStore) -> None:
    words = haystack.VexactBM25Retriever(stack, top_k=5)
    both = haystack.VexactHybridRetriever(stack, top_k=5, weight=0.9, filters={"field": "meta.page", "operator": "<", "value": 9})
    assert [document.id for document in words.run("battery")["documents"]] == BY_WORDS
    assert [document.id for document in stack.hybrid_retrieval("battery", [1.0, 0.0])] == fused(BY_WORDS, BY_VECTOR)
    expected = fused(BY_WORDS, ["b", "c", "a"], 0.9)
    assert [document.id for document in both.run("battery", [1.0, 0.0])["documents"]] == expected
    with_vector = both.run("battery", [1.0, 0.0], top_k=1, return_embedding=True)["documents"]
    assert [document.embedding for document in with_vector] == [pytest.approx(VECTORS[expected[0]])]
    pipeline = Pipeline()
    pipeline.add_component("words", words)
    pipeline.add_component("both", both)
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["vexact.integrations.haystack"])
    answer = again.run({"words": {"query": "bicycle"}, "both": {"query": "battery", "query_embedding": [1.0, 0.0]}})
    assert {document.id for document in answer["words"]["documents"]} == {"a", "b"}
    assert [document.id for document in answer["both"]["documents"]] == expected


async def test_the_retrievers_of_haystack_without_blocking(stack: haystack.VexactDocumentStore) -> None:
    words, both = haystack.VexactBM25Retriever(stack), haystack.VexactHybridRetriever(stack)
    assert await words.run_async("battery") == words.run("battery")
    assert await both.run_async("battery", [1.0, 0.0]) == both.run("battery", [1.0, 0.0])


def test_haystack_finds_text_of_documents_without_embeddings(tmp_path: Path) -> None:
    store = haystack.VexactDocumentStore(tmp_path / "app.db")
    store.write_documents([HaystackDocument(id=id, content=text) for id, text in TEXTS.items()] + [HaystackDocument(id="none")])
    assert [document.id for document in store.bm25_retrieval("battery")] == BY_WORDS
    scores = [document.score for document in store.hybrid_retrieval("battery", [1.0, 0.0])]
    assert scores == [pytest.approx(1 / 61), pytest.approx(1 / 62)]
    # Vectors that come later are added to the replica.
    store.write_documents([HaystackDocument(id="z", content="a battery", embedding=[1.0, 0.0])])
    assert [document.id for document in store.embedding_retrieval([1.0, 0.0])] == ["z"]
    assert {document.id for document in store.hybrid_retrieval("battery", [1.0, 0.0])} == {"z", "c", "a"}
    store.close()


def test_the_modes_of_llama_index(llama: llama_index.VexactVectorStore) -> None:
    def ids(mode: VectorStoreQueryMode, **options: Any) -> list[str]:
        query = VectorStoreQuery(
            query_embedding=[1.0, 0.0], query_str="battery", similarity_top_k=options.pop("k", 10), mode=mode, **options
        )
        return list(llama.query(query).ids or [])

    assert ids(VectorStoreQueryMode.TEXT_SEARCH) == ids(VectorStoreQueryMode.SPARSE) == BY_WORDS
    assert ids(VectorStoreQueryMode.TEXT_SEARCH, sparse_top_k=1) == BY_WORDS[:1]
    assert ids(VectorStoreQueryMode.HYBRID) == fused(BY_WORDS, BY_VECTOR)
    assert ids(VectorStoreQueryMode.HYBRID, alpha=0.9, hybrid_top_k=3) == fused(BY_WORDS, BY_VECTOR, 0.9)[:3]
    assert ids(VectorStoreQueryMode.HYBRID, k=1, sparse_top_k=1) == fused(BY_WORDS[:1], BY_VECTOR[:1])[:1]
    early = MetadataFilters(filters=[MetadataFilter(key="page", operator=FilterOperator.LT, value=3)])
    assert ids(VectorStoreQueryMode.HYBRID, filters=early) == fused(["a"], ["b", "a"])
    with pytest.raises(ValueError, match="query_embedding: expected a vector"):
        llama.query(VectorStoreQuery(query_str="x", mode=VectorStoreQueryMode.HYBRID))


Open = Callable[..., Any]


def _langchain(path: Path, **options: Any) -> Any:
    store = langchain.VexactVectorStore(Fixed(), path, table="docs", **options)
    return store, lambda metas: store.add_texts([TEXTS.get(id, TEXTS["e"]) for id in metas], list(metas.values()), ids=list(metas))


def _haystack(path: Path, **options: Any) -> Any:
    store = haystack.VexactDocumentStore(path, table="docs", **options)
    rows = lambda metas: [HaystackDocument(id=id, content=id, meta=meta, embedding=VECTORS.get(id)) for id, meta in metas.items()]
    return store, lambda metas: store.write_documents(rows(metas))


def _llama_index(path: Path, **options: Any) -> Any:
    store = llama_index.VexactVectorStore(path, table="docs", **options)
    rows = lambda metas: [TextNode(id_=id, text=id, metadata=meta, embedding=VECTORS.get(id, [1.0, 1.0])) for id, meta in metas.items()]
    return store, lambda metas: store.add(rows(metas))


@pytest.mark.parametrize("opening", [_langchain, _haystack, _llama_index])
def test_typed_metadata_are_columns(tmp_path: Path, opening: Open) -> None:
    store, add = opening(tmp_path / "app.db", columns=TYPES)
    add(METAS)
    with sqlite3.connect(tmp_path / "app.db") as plain:
        rows = plain.execute("SELECT id, page, lang, done, price FROM docs ORDER BY id").fetchall()
    assert rows == [("a", 1, "en", 1, 2.0), ("b", 2, "de", 0, 2.5), ("c", 3, "en", None, None), ("d", None, None, None, None), ("e", None, "fr", None, 9.0)]
    for meta in ({"page": "3"}, {"page": 2.5}, {"page": True}, {"page": 2**63}, {"lang": 1}, {"done": 1}, {"price": "9"}):
        key, value = next(iter(meta.items()))
        with pytest.raises(ValueError, match=f"document 'e': metadata '{key}': expected {TYPES[key]}, got {value!r}"):
            add({"e": meta})
    store.close()
    # The table remembers the types, and takes more of them.
    again, add = opening(tmp_path / "app.db", columns={"size": "integer"})
    assert again._documents.columns == {**TYPES, "size": "integer"}
    add({"f": {"lang": "it", "size": 7}})
    assert again._documents.rows(langchain.condition({"size": 7, "lang": "it"}, again._documents.columns))[0].id == "f"
    again.close()
    with pytest.raises(ValueError, match="column 'page': expected the type integer, which it has, got text"):
        opening(tmp_path / "app.db", columns={"page": "text"})


@pytest.mark.parametrize("columns", [None, TYPES, {"page": "integer"}])
def test_typed_metadata_change_no_answer(tmp_path: Path, columns: dict[str, str] | None) -> None:
    with langchain.VexactVectorStore(Fixed(), tmp_path / "app.db", columns=columns) as store:
        store.add_texts(list(TEXTS.values()), list(METAS.values()), ids=list(TEXTS))
        expected: list[tuple[Any, str]] = [
            ({"page": 2}, "b"),
            ({"page": None}, "de"),
            ({"page": {"$ne": 2}}, "acde"),
            ({"page": {"$gt": 1.5}}, "bc"),
            ({"page": {"$lte": "2"}}, ""),
            ({"page": {"$nin": [1, 3, "x"]}}, "bde"),
            ({"page": {"$in": [1, None]}}, "ade"),
            ({"lang": {"$in": ["en", "fr", 4]}}, "ace"),
            ({"lang": {"$gte": "en"}}, "ace"),
            ({"lang": {"$like": "E%"}}, "ac"),
            ({"lang": {"$exists": False}}, "d"),
            ({"done": True}, "a"),
            ({"done": {"$ne": True}}, "bcde"),
            ({"price": {"$between": [2, 2.5]}}, "ab"),
            ({"price": 9}, "e"),
            ({"$not": {"$or": [{"page": {"$lt": 2}}, {"lang": "fr"}]}}, "bcd"),
            ({"$and": [{"page": {"$not": {"$gt": 2}}}, {"price": {"$exists": True}}]}, "abe"),
        ]
        for filter, ids in expected:
            assert sorted(str(document.id) for document in store.similarity_search("x", 10, filter)) == list(ids), filter
            where = langchain.condition(filter, store._documents.columns)
            assert sorted(row.id for row in store._documents.rows(where)) == list(ids), filter
            assert store._documents.count(where) == len(ids), filter


def test_a_filter_of_typed_metadata_reads_no_json(tmp_path: Path) -> None:
    with langchain.VexactVectorStore(Fixed(), tmp_path / "app.db", columns={"page": "integer"}) as store:
        store.add_texts(list(TEXTS.values()), list(METAS.values()), ids=list(TEXTS))
        plans = []
        for columns in (store._documents.columns, {}):
            where = langchain.condition({"page": {"$gt": 1}}, columns)
            explained = store.connection.explain_vector_search(
                "langchain_documents", "embedding", [1.0, 0.0], 2, filter=where.sql, params=list(where.params)
            )
            plans.append("sqlite_filter" in explained)
        assert plans == [False, True]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"page": "int"}, "columns: 'page': expected one of text, integer, real, boolean, got 'int'"),
        ({"Content": "text"}, "expected a key of the metadata that no other column is named by, got 'Content'"),
        ({"a": "text", "A": "text"}, "no other column is named by, got 'A'"),
        ({"author.name": "text"}, "got 'author.name'"),
        (["page"], "columns: expected a mapping of metadata keys to types"),
    ],
)
def test_types_that_cannot_be_are_refused(tmp_path: Path, columns: Any, problem: str) -> None:
    with pytest.raises((ValueError, TypeError), match=problem):
        langchain.VexactVectorStore(Fixed(), tmp_path / "app.db", columns=columns)


def test_what_other_programs_write_may_be_of_another_type(tmp_path: Path) -> None:
    with langchain.VexactVectorStore(Fixed(), tmp_path / "app.db", columns=TYPES, dim=2) as store:
        for id, meta in (("x", '{"page": 10000000000000000000000, "lang": 5, "done": "yes", "price": true}'), ("y", '{"page": 4}')):
            store.connection.execute(
                "INSERT INTO langchain_documents (id, content, meta, embedding) VALUES (?, '', ?, ?)", [id, meta, [1.0, 0.0]]
            )
        assert [document.id for document in store.similarity_search("x", filter={"page": {"$gt": 0}})] == ["y"]
        assert [document.id for document in store.similarity_search("x", filter={"page": None, "lang": None, "done": None, "price": None})] == ["x"]
        assert store.connection.sync_status().tables["langchain_documents"].state == "ready"
        assert isinstance(store.connection, vexact.Connection)

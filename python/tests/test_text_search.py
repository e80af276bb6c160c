"""Text search and hybrid search of sessions and engines, against BM25 and the fusion computed here."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from vexact import Session, TableSchema
from vexact.errors import EngineError, ExecutionError, InvalidRequestError

WORDS = ["amber", "birch", "cedar", "delta", "ember", "of"]


def documents(count: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(WORDS, random.integers(0, 9))) if random.random() > 0.1 else None for _ in range(count)]
    vectors = random.integers(-3, 4, (count, 4)).astype(np.float32)
    return pa.table(
        {
            "id": pa.array(range(count), pa.int64()),
            "body": pa.array(texts, pa.string()),
            "lang": pa.array(random.choice(["en", "de"], count)),
            "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4),
        }
    )


def bm25(texts: list[str | None], terms: list[str]) -> list[tuple[int, float]]:
    """The ordinals and scores of the texts with any of the terms, best first, equal ones in their order."""
    tokens = {at: re.findall(r"\w+", text.lower()) for at, text in enumerate(texts) if text is not None}
    average = sum(map(len, tokens.values())) / len(tokens)
    frequencies = {term: sum(term in words for words in tokens.values()) for term in terms}
    found = []
    for at, words in tokens.items():
        score = 0.0
        for term, frequency in frequencies.items():
            idf = max(math.log((len(tokens) - frequency + 0.5) / (frequency + 0.5)), 0.0) or 1e-6
            count = words.count(term)
            score += idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(words) / average))
        if any(term in words for term in terms):
            found.append((at, score))
    return sorted(found, key=lambda hit: (-hit[1], hit[0]))


def assert_hits(found: pa.Table, expected: list[tuple[int, float]]) -> None:
    assert found["text_rank"].to_pylist() == list(range(1, len(expected) + 1))
    np.testing.assert_allclose(found["text_score"].to_numpy(), [score for _, score in expected], rtol=1e-9)
    scores = dict(expected)
    assert sorted(found["id"].to_pylist()) == sorted(scores)
    np.testing.assert_allclose(found["text_score"].to_numpy(), [scores[id] for id in found["id"].to_pylist()], rtol=1e-9)
    hits = list(zip(-found["text_score"].to_numpy(), found["id"].to_pylist()))
    assert hits == sorted(hits)


@pytest.mark.parametrize("form", ["arrow", "parquet", "memory"])
def test_a_session_searches_text_in_any_table(form: str, tmp_path: Path) -> None:
    table = documents(3000, 7)
    session = Session()
    if form == "parquet":
        pq.write_table(table, tmp_path / "docs.parquet", row_group_size=500)
        session.create_temp_view("docs", session.read_parquet(tmp_path / "docs.parquet"))
    else:
        session.create_temp_view("docs" if form == "arrow" else "loaded", session.create_dataframe_from_arrow(table))
        if form == "memory":
            session.sql("CREATE TABLE docs AS SELECT * FROM loaded")
    for terms in (["amber"], ["birch", "of"], ["absent"]):
        expected = bm25(table["body"].to_pylist(), terms)
        assert_hits(session.text_search("docs", "body", " ".join(terms), None).to_arrow(), expected)
        by_sql = session.sql("SELECT id, text_score, text_rank FROM text_search('docs', 'body', $1, NULL)", [" ".join(terms)])
        assert_hits(by_sql.to_arrow(), expected)
    filtered = session.text_search("docs", "body", "amber birch", 5, filter="lang = $1", params=["de"], columns=["id", "lang"]).to_arrow()
    assert filtered.column_names == ["text_score", "text_rank", "id", "lang"]
    german = {id for id, lang in zip(table["id"].to_pylist(), table["lang"].to_pylist()) if lang == "de"}
    expected_ids = [id for id, _ in bm25(table["body"].to_pylist(), ["amber", "birch"]) if id in german]
    assert filtered["id"].to_pylist() == expected_ids[:5]


def test_an_index_of_a_session_follows_its_table() -> None:
    session = Session()
    session.sql("CREATE TABLE notes (id BIGINT, body VARCHAR)")
    session.sql("INSERT INTO notes VALUES (1, 'solar cell')")
    count = "SELECT count(*) AS n FROM text_search('notes', 'body', 'solar', NULL)"
    assert session.sql(count).to_arrow()["n"].to_pylist() == [1]
    session.sql("INSERT INTO notes VALUES (2, 'solar wind'), (3, NULL)")
    assert session.sql(count).to_arrow()["n"].to_pylist() == [2]
    session.create_temp_view("other", session.create_dataframe_from_arrow(pa.table({"id": [9], "body": ["running"]})))
    assert session.text_search("other", "body", "run").count() == 0
    session.register_text("other", "body", tokenizer="porter")
    assert session.text_search("other", "body", "run").to_arrow()["id"].to_pylist() == [9]
    with pytest.raises(InvalidRequestError, match="tokenizer: expected unicode61, porter or trigram"):
        session.register_text("other", "body", tokenizer="stem")
    with pytest.raises(InvalidRequestError, match="expected one of its text columns"):
        session.text_search("other", "nope", "run")


def reference(vectors: list[int], texts: list[int], rrf_k: float, weight: float) -> list[int]:
    scores: dict[int, float] = {}
    for ranked, share in ((vectors, weight), (texts, 1 - weight)):
        for rank, id in enumerate(ranked, 1):
            scores[id] = scores.get(id, 0.0) + 2 * share / (rrf_k + rank)
    return sorted(scores, key=lambda id: (-scores[id], id))


@pytest.mark.parametrize(("rrf_k", "depth", "weight"), [(60.0, 100, 0.5), (1.0, 10, 0.9), (60.0, None, 0.2)])
def test_a_hybrid_search_of_a_session_is_the_fusion(rrf_k: float, depth: int | None, weight: float) -> None:
    table = documents(500, 11)
    session = Session()
    session.create_temp_view("docs", session.create_dataframe_from_arrow(table))
    query, listed = [1.0, 2.0, -1.0, 0.5], depth or 10**6
    vectors = session.sql(f"SELECT id FROM vector_search('docs', 'v', $1, {listed})", [query]).to_arrow()["id"].to_pylist()
    texts = session.text_search("docs", "body", "amber delta", listed).to_arrow()["id"].to_pylist()
    found = session.hybrid_search(
        "docs", "v", query, 20, text_column="body", text="amber delta", rrf_k=rrf_k, depth=depth, weight=weight, key="id"
    ).to_arrow()
    assert found.column_names == ["id", "body", "lang", "v", "score", "vector_rank", "vector_score", "text_rank", "text_score"]
    assert found["id"].to_pylist() == reference(vectors, texts, rrf_k, weight)[:20]
    with pytest.raises(InvalidRequestError, match="expected key =>"):
        session.hybrid_search("docs", "v", query, text_column="body", text="amber")
    with pytest.raises(ExecutionError, match="no two rows share"):
        session.hybrid_search("docs", "v", query, text_column="body", text="amber", key="lang").to_arrow()
    with pytest.raises(InvalidRequestError, match="text_column and text together"):
        session.hybrid_search("docs", "v", query, text="amber")


@pytest.mark.anyio
async def test_an_engine_filters_by_json_and_the_apps_functions(tmp_path: Path) -> None:
    columns = [("id", "int64"), ("body", "utf8"), ("meta", "utf8"), ("v", "vector(2)")]
    async with await vexact.open(tmp_path / "app.db") as engine:
        await engine.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, body TEXT, meta TEXT, v BLOB)")
        await engine.register_table(TableSchema("docs", columns, pk=["id"]))
        rows = [(at, f"solar {'cell' if at % 2 else 'wind'}", f'{{"page": {at % 5}}}', [1.0, float(at)]) for at in range(50)]
        await engine.execute_many("INSERT INTO docs VALUES (?, ?, ?, ?)", rows)
        await engine.register_text("docs", "body")
        assert engine.text_columns() == [("docs", "body", "unicode61")]
        await engine.create_function("is_even", 1, lambda value: value % 2 == 0, deterministic=True)
        for filter, params, expected in [
            ("json_extract(meta, '$.page') = 3", None, range(3, 50, 5)),
            ("json_extract(meta, '$.page') = ?", [4], range(4, 50, 5)),
            ("is_even(id) AND id < 10", None, range(0, 10, 2)),
            ("text_match(body, 'cell') AND json_extract(meta, '$.page') = 0", None, range(5, 50, 10)),
        ]:
            found = await engine.vector_search("docs", "v", [1.0, 0.0], 100, "l2", filter=filter, params=params, fresh=True)
            assert found[0]["id"].to_pylist() == list(expected)
        found = await engine.text_search("docs", "body", "cell", 3, filter="is_even(id) OR id = 7", columns="body", fresh=True)
        assert pa.Table.from_batches(found).to_pydict() == {
            "id": [7], "text_score": [pytest.approx(found[0]["text_score"][0].as_py())], "text_rank": [1], "body": ["solar cell"]
        }  # fmt: skip
        hybrid = await engine.hybrid_search("docs", "v", [1.0, 0.0], "body", "cell", 2, "l2", columns=["body"])
        assert hybrid[0].schema.names == ["id", "score", "vector_rank", "vector_score", "text_rank", "text_score", "body"]
        with pytest.raises(EngineError, match="has no text index"):
            await engine.text_search("docs", "meta", "page")
        await engine.unregister_text("docs")
        assert engine.text_columns() == []

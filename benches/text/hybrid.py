"""Hybrid search of WordNet's definitions by reciprocal rank fusion: vexact beside LanceDB and DuckDB
(full text and vectors).

    python benches/text/hybrid.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

import vexact
from glosses import RRF_K, Glosses, Reference, alternating, glosses, timed, words

K, DEPTH = 10, 100
Ask = Callable[[int], list[int]]


def of_vexact(data: Glosses, folder: Path) -> Ask:
    connection = vexact.connect(folder / "app.db")
    connection.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, gloss TEXT, embedding BLOB)")
    connection.execute_many("INSERT INTO docs VALUES (?, ?, ?)", zip(data.ids, data.texts, data.vectors))
    connection.register_table(vexact.TableSchema("docs", [("id", "int64"), ("gloss", "utf8"), ("embedding", "vector(384)")], ["id"]), initial_sync=True)
    connection.register_text("docs", "gloss")

    def ask(number: int) -> list[int]:
        vector, text = data.query_vectors[number], data.queries[number]
        found = connection.hybrid_search("docs", "embedding", vector, "gloss", text, K, depth=DEPTH)
        return [row["id"] for row in found.to_pylist()]

    return ask


def of_lancedb(data: Glosses, folder: Path) -> Ask:
    import lancedb
    from lancedb.index import FTS
    from lancedb.rerankers import RRFReranker

    table = lancedb.connect(folder / "lance").create_table("docs", _table(data))
    index = FTS(base_tokenizer="simple", stem=False, remove_stop_words=False, ascii_folding=True, with_position=False)
    table.create_index("gloss", config=index)
    reranker = RRFReranker(K=RRF_K)

    def ask(number: int) -> list[int]:
        search = table.search(query_type="hybrid").vector(data.query_vectors[number]).text(" ".join(words(data.queries[number])))
        # It fuses lists as long as its limit.
        found = search.distance_type("cosine").rerank(reranker).limit(DEPTH).select(["id"]).to_arrow()
        return found["id"].to_pylist()[:K]

    return ask


def of_duckdb(data: Glosses, folder: Path) -> Ask:
    import duckdb
    from duckdb_extensions import import_extension

    import_extension("fts")
    connection = duckdb.connect(str(folder / "docs.duckdb"))
    connection.execute("LOAD fts")
    connection.register("given", _table(data))
    connection.execute("CREATE TABLE docs AS SELECT id, gloss, embedding::FLOAT[384] AS embedding FROM given")
    connection.execute("PRAGMA create_fts_index('docs', 'id', 'gloss', stemmer = 'none', stopwords = 'none', ignore = '[^a-z0-9]+')")
    sql = f"""
        WITH v AS (SELECT id, row_number() OVER (ORDER BY d, id) AS r FROM (
                SELECT id, array_cosine_distance(embedding, $vector::FLOAT[384]) AS d FROM docs ORDER BY d, id LIMIT {DEPTH})),
            t AS (SELECT id, row_number() OVER (ORDER BY s DESC, id) AS r FROM (
                SELECT id, fts_main_docs.match_bm25(id, $text) AS s FROM docs WHERE s IS NOT NULL ORDER BY s DESC, id LIMIT {DEPTH}))
        SELECT id FROM v FULL JOIN t USING (id)
        ORDER BY coalesce(1 / ({RRF_K} + v.r), 0) + coalesce(1 / ({RRF_K} + t.r), 0) DESC, id LIMIT {K}"""

    def ask(number: int) -> list[int]:
        rows = connection.execute(sql, {"vector": data.query_vectors[number].tolist(), "text": data.queries[number]}).fetchall()
        return [row[0] for row in rows]

    return ask


def _table(data: Glosses) -> pa.Table:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(data.vectors.reshape(-1)), data.vectors.shape[1])
    return pa.table({"id": data.ids, "gloss": data.texts, "embedding": vectors})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    data = glosses()
    numbers = list(range(len(data.queries)))
    reference = Reference(data)
    expected = [reference.fused(number, K, DEPTH) for number in numbers]
    with tempfile.TemporaryDirectory() as name:
        programs: dict[str, Ask] = {}
        built = {}
        for peer, make in {"vexact": of_vexact, "LanceDB": of_lancedb, "DuckDB": of_duckdb}.items():
            built[peer], programs[peer] = timed(lambda: make(data, Path(name)))
        same, shared = {}, {}
        for peer, ask in programs.items():
            answers = [ask(number) for number in numbers]
            same[peer] = sum(answer == right for answer, right in zip(answers, expected))
            shared[peer] = sum(len(set(answer) & set(right)) for answer, right in zip(answers, expected)) / (K * len(numbers))
        assert same["vexact"] == len(numbers), f"vexact: {same['vexact']} of {len(numbers)} answers are the reference's"
        times = alternating(programs, numbers, arguments.rounds)
    for peer in programs:
        line = {
            "peer": peer,
            "rows": len(data.ids),
            "build_s": round(built[peer], 1),
            "query_ms": round(times[peer], 2),
            "ratio": round(times[peer] / times["vexact"], 2),
            "same_answers": f"{same[peer]} of {len(numbers)}",
            "shared_ids": round(shared[peer], 3),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()

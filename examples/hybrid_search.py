"""Text and vectors together: WordNet's glosses in SQLite, searched by words, by meaning, and by both."""

import asyncio
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import vexact
from vexact import TableSchema

DATA = Path(__file__).parent / "data"
SCHEMA = TableSchema(
    "glosses",
    [("id", "int64"), ("word", "utf8"), ("domain", "utf8"), ("gloss", "utf8"), ("meta", "utf8"), ("embedding", "vector(384)")],
    pk=["id"],
)
CREATE = "CREATE TABLE glosses (id INTEGER PRIMARY KEY, word TEXT, domain TEXT, gloss TEXT, meta TEXT, embedding BLOB)"
INSERT = "INSERT INTO glosses VALUES (?, ?, ?, ?, json_object('length', ?), ?)"

# The fusion by its definition: two ranked lists, a FULL JOIN, the sum of the reciprocal ranks.
BY_HAND = """
WITH v AS (SELECT id, word, row_number() OVER (ORDER BY score, id) AS rank FROM vector_search('glosses', 'embedding', $1, 100)),
     t AS (SELECT id, word, text_rank AS rank FROM text_search('glosses', 'gloss', $2, 100))
SELECT coalesce(v.id, t.id) AS id, coalesce(v.word, t.word) AS word,
       coalesce(1.0 / (60 + v.rank), 0) + coalesce(1.0 / (60 + t.rank), 0) AS score
FROM v FULL JOIN t ON v.id = t.id ORDER BY score DESC, id LIMIT 5
"""


def show(title: str, batches: list[pa.RecordBatch]) -> None:
    print(f"\n{title}")
    for row in pa.Table.from_batches(batches).to_pylist():
        print("   ", ", ".join(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))


async def main(folder: Path) -> None:
    rows = pq.read_table(DATA / "wordnet-sample-4k-minilm-384.parquet").to_pylist()
    queries = {row["text"]: row["embedding"] for row in pq.read_table(DATA / "wordnet-queries-minilm-384.parquet").to_pylist()}
    words = "a young dog"
    query = queries[words]

    async with await vexact.open(folder / "app.db") as engine:
        await engine.execute(CREATE)
        await engine.register_table(SCHEMA)
        values = [(row["id"], row["word"], row["domain"], row["gloss"], len(row["gloss"]), row["embedding"]) for row in rows]
        await engine.execute_many(INSERT, values)
        await engine.sync_all()
        started = time.perf_counter()
        await engine.register_text("glosses", "gloss", tokenizer="porter")
        print(f"{len(rows)} glosses indexed in {(time.perf_counter() - started) * 1e3:.0f} ms")

        show("by words", await engine.text_search("glosses", "gloss", words, 3, columns=["word", "gloss"]))
        show("by meaning", await engine.vector_search("glosses", "embedding", query, 3, columns=["word", "gloss"]))
        hybrid = await engine.hybrid_search("glosses", "embedding", query, "gloss", words, 5, columns=["word"])
        show("by both: key, score, rank and score in each list", hybrid)

        # The definition gives the same rows, also with a filter on JSON that SQLite evaluates.
        by_hand = pa.Table.from_batches(await engine.query(BY_HAND, [query, words]))
        assert by_hand["id"].to_pylist() == pa.Table.from_batches(hybrid)["id"].to_pylist()
        short = "json_extract(meta, '$.length') < 40"
        found = await engine.hybrid_search("glosses", "embedding", query, "gloss", words, 3, filter=short, columns=["gloss"])
        show("by both, short glosses only", found)

        # Text, vectors and SQL see one version: a row that is written now is in every answer after the sync.
        row = (1_000_000, "vexpup", "animal", "a young dog of this example", 27, query)
        await engine.execute(INSERT, row)
        found = await engine.hybrid_search("glosses", "embedding", query, "gloss", words, 1, columns=["word"], fresh=True)
        show("after a write", found)
        assert pa.Table.from_batches(found)["word"].to_pylist() == ["vexpup"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))

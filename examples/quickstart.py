"""The main job: ask a table of dictionary entries questions in plain language, three ways, and check the answers.

Run by `make demo`. Writes the explain of a search as a page, `explain.html`, into a temporary folder.
"""

import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

import vexact

DATA = Path(__file__).parent / "data"
QUERIES = ["a young dog", "a sour yellow fruit", "a vehicle that travels under water", "the loss of memory"]

# 1. Load. Arrow data is searched without a copy; a Parquet file could be searched directly, too.
session = vexact.Session()
docs = session.create_dataframe_from_arrow(pq.read_table(DATA / "wordnet-sample-4k-minilm-384.parquet"))
session.create_temp_view("docs", docs)
queries = {row["text"]: row for row in pq.read_table(DATA / "wordnet-queries-minilm-384.parquet").to_pylist()}
print(f"{docs.count()} WordNet entries with embeddings of 384 components; {len(queries)} queries with known answers\n")


def check(ids: list[int], query: dict, count: int) -> None:
    expected = query["sample_top10"][:count]
    assert ids == expected, f"{query['text']!r}: expected {expected}, got {ids}"


# 2. The Python call.
for text in QUERIES:
    query = queries[text]
    started = time.perf_counter()
    found = session.vector_search("docs", "embedding", query["embedding"], top_k=5, columns=["id", "word", "gloss"])
    rows = found.to_arrow()
    micros = (time.perf_counter() - started) * 1e6
    print(f"vector_search: {text!r} ({micros:.0f} microseconds)")
    found.show()
    check(rows["id"].to_pylist(), query, 5)

# 3. The SQL table function, with a WHERE of SQL (after the search) and a prefilter (before it).
query = queries["an animal that eats both plants and meat"]
print("SQL table function: the best 10, of which animals")
found = session.sql(
    "SELECT id, word, domain, round(score, 4) AS score, gloss FROM vector_search('docs', 'embedding', $1, 10)"
    " WHERE domain = 'animal'",
    params=[query["embedding"]],
)
found.show()
best = session.sql("SELECT id FROM vector_search('docs', 'embedding', $1, 10)", params=[query["embedding"]])
check(best.to_arrow()["id"].to_pylist(), query, 10)
print("... and the best 5 animals, filtered before the search")
session.sql(
    "SELECT word, round(score, 4) AS score, gloss FROM vector_search('docs', 'embedding', $1, 5, 'cosine', 'domain = ''animal''')",
    params=[query["embedding"]],
).show()

# 4. Plain SQL: the optimizer turns ORDER BY distance LIMIT k into the same search.
query = queries["a building where people worship"]
statement = "SELECT id, word, gloss FROM docs WHERE frequency > 5 ORDER BY cosine_distance(embedding, $1) LIMIT 5"
print("plain SQL: ORDER BY cosine_distance ... LIMIT, with a WHERE")
session.sql(statement, params=[query["embedding"]]).show()
unfiltered = statement.replace("WHERE frequency > 5 ", "")
check(session.sql(unfiltered, params=[query["embedding"]]).to_arrow()["id"].to_pylist(), query, 5)

# 5. The explain: three sections.
explain = session.explain_sql(statement, params=[query["embedding"]])
print(explain)
executed = session.explain_vector_search("docs", "embedding", query["embedding"], filter="frequency > 5")
print("\nthe strategy of a search, as executed")
print(executed.strategy)
page = Path(tempfile.mkdtemp(prefix="vexact-")) / "explain.html"
page.write_text(executed.to_html(), encoding="utf-8")

# 6. All queries at once, checked against the exact answers that came with the data.
batch = [row["embedding"] for row in queries.values()]
started = time.perf_counter()
answers = session.vector_search("docs", "embedding", batch, top_k=10, columns="id").to_arrow().to_pylist()
millis = (time.perf_counter() - started) * 1e3
for number, query in enumerate(queries.values()):
    found_rows = [row for row in answers if row["query_id"] == number]
    check([row["id"] for row in found_rows], query, 10)
    for row, distance in zip(found_rows, query["sample_top10_cosine"]):
        assert abs(row["score"] - distance) < 1e-12, (row["score"], distance)
print(f"\nall {len(queries)} queries in one batch: {millis:.1f} ms; ids and distances equal the known answers")
print(f"explain page: {page}")

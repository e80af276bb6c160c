"""Vector search in every form: calls, filters, query batches, hybrid search, SQL, joins, a radius
and explains.

Asks 4 000 dictionary entries in plain language, and compares the answers with numpy, which computes every distance. Run by `make examples`.
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import vexact

DATA = Path(__file__).parent / "data"
questions = pq.read_table(DATA / "wordnet-queries-minilm-384.parquet").to_pylist()
by_text = {question["text"]: np.array(question["embedding"]) for question in questions}

session = vexact.Session()
entries = pq.read_table(DATA / "wordnet-sample-4k-minilm-384.parquet")
session.create_temp_view("entries", session.create_dataframe_from_arrow(entries))          # no copy

# The reference: all distances in float64, sorted; equal ones by position.
vectors = np.stack(entries["embedding"].to_numpy(zero_copy_only=False)).astype(np.float64)
domains, words = np.array(entries["domain"].to_pylist()), entries["word"].to_pylist()


def cosine_distances(query: np.ndarray) -> np.ndarray:
    return 1 - vectors @ query / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query))


def nearest(distances: np.ndarray, count: int, among: np.ndarray | None = None) -> list[int]:
    order = np.argsort(distances, kind="stable")
    return [int(row) for row in order if among is None or among[row]][:count]


def title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


# 1. A call: the closest rows, best first.
title("a vehicle that travels under water")
query = by_text["a vehicle that travels under water"]
found = session.vector_search("entries", "embedding", query, top_k=3, columns=["word", "gloss"])
found.show()
assert found.to_arrow()["row_id"].to_pylist() == nearest(cosine_distances(query), 3)

# 2. A filter is applied before the search: three animals come back, not the animals among the best three.
title("an animal that eats both plants and meat: among animals, by l2")
query = by_text["an animal that eats both plants and meat"]
found = session.vector_search("entries", "embedding", query, 3, "l2", filter="domain = 'animal'", columns=["word", "gloss"])
found.show()
l2 = np.linalg.norm(vectors - query, axis=1)
assert found.to_arrow()["row_id"].to_pylist() == nearest(l2, 3, among=domains == "animal")

# 3. A query batch: each row of vectors is read once for all queries.
title(f"{len(questions)} questions at once")
batch = np.stack(list(by_text.values()))
answers = session.vector_search("entries", "embedding", batch, top_k=10, columns="word").to_arrow().to_pylist()
for number, text in enumerate(list(by_text)[:5]):
    best = next(row for row in answers if row["query_id"] == number)
    print(f"  {text:40} {best['word']:15} {best['score']:.3f}")
for number, query in enumerate(batch):
    rows = [row["row_id"] for row in answers if row["query_id"] == number]
    assert rows == nearest(cosine_distances(query), 10)

# 4. Hybrid search: all columns, and only rows that are close enough.
title("a sour yellow fruit: closer than 0.55, no more than 5")
query = by_text["a sour yellow fruit"]
hybrid = session.hybrid_search("entries", "embedding", query, 5, score_threshold=0.55, filter="pos = 'noun'")
close = hybrid.to_pandas()[["word", "domain", "vector_score"]]
print(close.to_string(index=False))
assert len(close) == min(5, int((cosine_distances(query) <= 0.55)[np.array(entries["pos"].to_pylist()) == "noun"].sum())) and close["vector_score"].is_monotonic_increasing and close["vector_score"].max() <= 0.55

# 5. SQL: a search is a table, which is joined and aggregated as any other.
title("the loss of memory: what kind of words are the 100 closest?")
query = by_text["the loss of memory"]
kinds = session.sql(
    "SELECT domain, count(*) AS n, round(min(score), 3) AS closest FROM vector_search('entries', 'embedding', $query, 100)"
    " GROUP BY domain ORDER BY n DESC, domain LIMIT 4",
    {"query": query},
)
kinds.show()
hundred = nearest(cosine_distances(query), 100)
for row in kinds.to_arrow().to_pylist():
    assert row["n"] == int((domains[hundred] == row["domain"]).sum())

# 6. Plain SQL: a sort by distance with a limit is the same search; the query may be another row's vector.
row = words.index("planet")
title(f"more like {words[row]!r}")
more = session.sql(
    "SELECT word, gloss FROM entries WHERE id <> $1"
    " ORDER BY cosine_distance(embedding, (SELECT embedding FROM entries WHERE id = $1)) LIMIT 3",
    [entries["id"][row].as_py()],
)
more.show()
assert more.to_arrow()["word"].to_pylist() == [words[other] for other in nearest(cosine_distances(vectors[row]), 4)[1:]]

# 7. Everything within a radius, and pairs of rows within one.
title("entries that say nearly the same")
pairs = session.sql(
    "SELECT word, entries_word, round(score, 3) AS score FROM"
    " vector_join('entries', 'embedding', 'entries', 'embedding', NULL, 'cosine', 0.12) WHERE id < entries_id ORDER BY score, word"
)
pairs.show(5)
unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
assert pairs.count() == int((np.triu(1 - unit @ unit.T, k=1) <= 0.12)[np.triu_indices(len(unit), k=1)].sum())

# 8. The explain.
title("the strategy of the second search, as it was executed")
explain = session.explain_vector_search("entries", "embedding", query, 3, "l2", filter="domain = 'animal'")
strategy = explain.strategies()[0]
print("\n".join(f"  {key:24} {strategy[key]}" for key in ("mode", "input_rows", "candidate_rows", "selectivity", "bytes_read", "backend")))
assert int(strategy["candidate_rows"]) == int((domains == "animal").sum())
print("\nall answers equal numpy's")

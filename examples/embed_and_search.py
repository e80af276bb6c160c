"""Text in a SQLite file, vectors by a function: filled once, followed as the texts change, and searched by words.

The engine has blocking methods here, so there is no `await`.
"""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import vexact

SAMPLE = Path(__file__).parent / "data/wordnet-sample-4k-minilm-384.parquet"
DIM = 256


def hashed_words(texts: list[str]) -> np.ndarray:
    """A stand-in for a model, without a download: each word of a text adds a random direction of its own."""
    rows = np.zeros((len(texts), DIM), np.float32)
    for row, text in zip(rows, texts):
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
            row += np.random.default_rng(seed).standard_normal(DIM, dtype=np.float32)
    return rows


glosses = pq.read_table(SAMPLE, columns=["id", "gloss"]).slice(0, 1000).to_pylist()
with tempfile.TemporaryDirectory() as folder, vexact.connect(Path(folder) / "app.db") as db:
    db.execute(f"CREATE TABLE glosses (id INTEGER PRIMARY KEY, body TEXT, embedding F32_BLOB({DIM}))")
    db.execute_many("INSERT INTO glosses(id, body) VALUES (?, ?)", [(row["id"], row["gloss"]) for row in glosses])
    print(db.register_table("glosses"))

    db.register_embedding("words", hashed_words, dim=DIM, batch=200)
    filled = db.embed_column("glosses", "body", "embedding", with_="words", progress=lambda done, total: print(f"{done} of {total}"))
    db.sync_all()

    nearest = "SELECT body, score FROM vector_search('glosses', 'embedding', embed('words', $1), 3) ORDER BY score"
    db.query(nearest, ["a small domestic animal"]).show()

    # Another program changes a text: its vector is cleared, and the next call fills it.
    db.execute("UPDATE glosses SET body = 'a very small domestic animal' WHERE id = ?", [glosses[0]["id"]])
    again = db.embed_column("glosses", "body", "embedding", with_="words")
    db.sync_all()
    found = db.query(nearest, ["a very small domestic animal"]).to_pylist()
    print(f"{filled} filled, then {again}; nearest now: {found[0]['body']}")
    assert (filled, again, found[0]["body"]) == (1000, 1, "a very small domestic animal")

"""The data of the comparisons (definitions of WordNet with their vectors, and queries) and the
reference of hybrid search."""

from __future__ import annotations

import math
import re
import statistics
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
FULL = ROOT.parent / "shared/data/wordnet-nouns-minilm-384.parquet"
SAMPLE = ROOT / "examples/data/wordnet-sample-4k-minilm-384.parquet"
QUERIES = ROOT / "examples/data/wordnet-queries-minilm-384.parquet"
RRF_K = 60


@dataclass
class Glosses:
    ids: list[int]
    texts: list[str]
    vectors: np.ndarray[Any, np.dtype[np.float32]]
    queries: list[str]
    query_vectors: np.ndarray[Any, np.dtype[np.float32]]


def glosses(rows: int | None = None) -> Glosses:
    """Returns all 82 115 nouns where the full file is there, else the sample of 4 000."""
    table = pq.read_table(FULL if FULL.is_file() else SAMPLE)
    table = table if rows is None else table.slice(0, rows)
    asked = pq.read_table(QUERIES)
    return Glosses(
        table["id"].to_pylist(), table["gloss"].to_pylist(), matrix(table["embedding"]), asked["text"].to_pylist(), matrix(asked["embedding"])
    )


def matrix(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.float32]]:
    array = column.combine_chunks()
    return array.flatten().to_numpy().reshape(len(array), -1).astype(np.float32)


def words(text: str) -> list[str]:
    """Splits a text as the tokenizer `unicode61` does: letters and digits, without case and diacritics."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))
    return re.findall(r"[^\W_]+", plain)


class Reference:
    """Reciprocal rank fusion as it is defined: of all cosines in float64, and of BM25 (k1 = 1.2,
    b = 0.75) of all texts."""

    def __init__(self, data: Glosses) -> None:
        self.data = data
        self.counts = [Counter(words(text)) for text in data.texts]
        self.lengths = np.array([sum(count.values()) for count in self.counts], np.float64)
        self.holders: dict[str, list[int]] = {}
        for row, count in enumerate(self.counts):
            for word in count:
                self.holders.setdefault(word, []).append(row)
        self.wide = data.vectors.astype(np.float64)
        self.wide /= np.linalg.norm(self.wide, axis=1, keepdims=True)

    def text(self, query: str) -> list[int]:
        scores: dict[int, float] = {}
        for word in words(query):
            rows = self.holders.get(word, [])
            rarity = math.log((len(self.counts) - len(rows) + 0.5) / (len(rows) + 0.5))
            # As SQLite does: a word that most texts have counts for little, and never against them.
            rarity = max(rarity, 1e-6)
            for row in rows:
                often = self.counts[row][word]
                norm = 1.2 * (1 - 0.75 + 0.75 * self.lengths[row] / self.lengths.mean())
                scores[row] = scores.get(row, 0.0) + rarity * often * 2.2 / (often + norm)
        return sorted(scores, key=lambda row: (-scores[row], self.data.ids[row]))

    def fused(self, number: int, k: int, depth: int = 100) -> list[int]:
        """Returns the ids of the `k` best rows for a query."""
        query = self.data.query_vectors[number].astype(np.float64)
        cosines = self.wide @ (query / np.linalg.norm(query))
        by_vector = sorted(np.argpartition(-cosines, 2 * depth)[: 2 * depth], key=lambda row: (-cosines[row], self.data.ids[row]))[:depth]
        scores: dict[int, float] = {}
        for ranked in (by_vector, self.text(self.data.queries[number])[:depth]):
            for rank, row in enumerate(ranked, 1):
                scores[int(row)] = scores.get(int(row), 0.0) + 1 / (RRF_K + rank)
        best = sorted(scores, key=lambda row: (-scores[row], self.data.ids[row]))[:k]
        return [self.data.ids[row] for row in best]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the seconds of a piece of work, and what it gave."""
    start = time.perf_counter()
    made = work()
    return time.perf_counter() - start, made


def alternating(programs: dict[str, Callable[[int], Any]], numbers: list[int], rounds: int) -> dict[str, float]:
    """Runs each query on each program in turn; returns the median over the queries of each one's
    fastest round, in milliseconds."""
    fastest = {name: [math.inf] * len(numbers) for name in programs}
    for _ in range(rounds):
        for place, number in enumerate(numbers):
            for name, ask in programs.items():
                seconds, _ = timed(lambda: ask(number))
                fastest[name][place] = min(fastest[name][place], seconds)
    return {name: statistics.median(times) * 1000 for name, times in fastest.items()}

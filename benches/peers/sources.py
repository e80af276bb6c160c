"""The data: synthetic normal vectors with a fixed seed, and the WordNet glosses embedded with MiniLM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from protocol import Dataset
from terms import BUCKETS

SEED = 20_240_917
PROJECT_ROOT = Path(__file__).resolve().parents[2]
SHARED_DATA = PROJECT_ROOT.parent / "shared" / "data"
FULL = SHARED_DATA / "wordnet-nouns-minilm-384.parquet"
SAMPLE_NAME = "wordnet-sample-4k-minilm-384.parquet"
QUERIES_NAME = "wordnet-queries-minilm-384.parquet"
TRUTH_K = 10
"""Length of the ground truth shipped with the real queries."""


@dataclass(frozen=True)
class GroundTruth:
    """For each text query (the first rows of `Dataset.queries`): its best rows by cosine, as row numbers."""

    rows: list[np.ndarray]


def human(count: int) -> str:
    """1000000 -> `1M`, 100000 -> `100k`, 82115 -> `82115`."""
    for unit, suffix in ((1_000_000, "M"), (1_000, "k")):
        if count % unit == 0:
            return f"{count // unit}{suffix}"
    return str(count)


def _buckets(rows: int) -> np.ndarray:
    """A random filter column, independent of the vectors."""
    return np.random.default_rng(SEED + 1).integers(0, BUCKETS, rows, dtype=np.int32)


def synthetic(rows: int, dim: int, queries: int) -> Dataset:
    """Independent normal vectors and queries: the distribution on which bounds prune worst."""
    rng = np.random.default_rng((SEED, rows, dim))
    vectors = rng.standard_normal((rows, dim), dtype=np.float32)
    asked = rng.standard_normal((queries, dim), dtype=np.float32)
    return Dataset(f"synthetic {human(rows)} x {dim}", vectors, _buckets(rows), asked)


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A FixedSizeList column without NULLs as a (rows, dim) float32 matrix."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    return np.ascontiguousarray(array.flatten().to_numpy().reshape(len(array), array.type.list_size), dtype=np.float32)


def _find(name: str) -> Path | None:
    """A real data file, in the shared folder or among the examples."""
    for folder in (SHARED_DATA, PROJECT_ROOT / "examples" / "data"):
        if (folder / name).is_file():
            return folder / name
    return None


def real(queries: int) -> tuple[Dataset, GroundTruth] | str:
    """The real embeddings and the shipped ground truth, or a sentence that says which file is missing.

    The queries are the natural-language ones; when more are asked for, normalised midpoints of a text query and a
    random row are added, which keeps them close to the data without being in it.
    """
    queries_path = _find(QUERIES_NAME)
    path, truth_column = (FULL, "nouns_top10") if FULL.is_file() else (_find(SAMPLE_NAME), "sample_top10")
    if queries_path is None or path is None:
        return f"real data is missing: {QUERIES_NAME} and {FULL.name} or {SAMPLE_NAME}"

    table = pq.read_table(path, columns=["id", "embedding"])
    asked = pq.read_table(queries_path, columns=["embedding", truth_column])
    vectors, texts = _matrix(table["embedding"]), _matrix(asked["embedding"])

    ids = table["id"].to_numpy()
    order = np.argsort(ids)
    truth = [order[np.searchsorted(ids, best, sorter=order)] for best in asked[truth_column].to_pylist()]

    rng = np.random.default_rng(SEED + 2)
    extra = max(queries - len(texts), 0)
    middle = texts[np.arange(extra) % len(texts)] + vectors[rng.integers(0, len(vectors), extra)]
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    data = Dataset(f"wordnet {human(len(vectors))} x {vectors.shape[1]}", vectors, _buckets(len(vectors)),
                   np.concatenate([texts, middle])[:max(queries, len(texts))])
    return data, GroundTruth(truth)

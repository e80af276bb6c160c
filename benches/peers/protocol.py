"""What a benchmark is made of: a data set, a workload, and the protocol that every measured system implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from terms import BUCKETS

Ids = Sequence[np.ndarray] | np.ndarray
"""One array of row numbers per query, best first."""


@dataclass(frozen=True)
class Dataset:
    """Vectors to search (rows x dim, float32, C order), a filter column, and queries; a row's id is its position."""

    name: str
    vectors: np.ndarray
    buckets: np.ndarray
    queries: np.ndarray

    @property
    def rows(self) -> int:
        """Number of stored vectors."""
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """Components of a vector."""
        return self.vectors.shape[1]

    def selection(self, max_bucket: int | None) -> np.ndarray:
        """Row numbers that pass `bucket < max_bucket`; all of them for None."""
        if max_bucket is None:
            return np.arange(self.rows)
        return np.flatnonzero(self.buckets < max_bucket)

    def arrow_table(self) -> pa.Table:
        """The table `(id int64, bucket int32, embedding FixedSizeList<float32>[dim])`; the vectors are not copied."""
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(self.vectors.reshape(-1)), self.dim)
        return pa.table({"id": np.arange(self.rows), "bucket": self.buckets, "embedding": embedding})


@dataclass(frozen=True)
class Workload:
    """One kind of search: `batch` queries at once, the best `k` by `metric`, among rows with `bucket < max_bucket`."""

    metric: str
    batch: int
    k: int
    max_bucket: int | None = None

    def label(self, data: Dataset) -> str:
        """The row heading in reports, e.g. `synthetic 100k x 384, cosine, 1 query, 10 %`."""
        queries = "1 query" if self.batch == 1 else f"{self.batch} queries"
        share = 100 if self.max_bucket is None else 100 * self.max_bucket // BUCKETS
        return f"{data.name}, {self.metric}, k={self.k}, {queries}, {share} %"


class Peer(ABC):
    """A system under measurement, vexact included: `prepare` once per data set, then `run` as often as wanted.

    The constructor imports the system's package, so a missing one is an ImportError there and nowhere else.
    What `prepare` builds, and what the first `run` with another metric rebuilds, is never timed.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    """Distributions whose versions belong into the record."""
    returns_ids: ClassVar[bool] = True
    """False for a floor, which does a part of the work (sgemm without top k): nothing to check, nothing to lose."""

    @abstractmethod
    def __init__(self, threads: int) -> None:
        """Import the package and limit it to `threads` threads."""

    def declines(self, workload: Workload) -> str | None:
        """Why this system cannot do the workload; None if it can."""
        return None

    @abstractmethod
    def prepare(self, data: Dataset) -> None:
        """Load the data set in the system's own best form."""

    @abstractmethod
    def run(self, queries: np.ndarray, k: int, metric: str, max_bucket: int | None) -> Ids:
        """Search; `queries` is (batch, dim) float32. Returns each query's row numbers, best first."""

    @abstractmethod
    def close(self) -> None:
        """Release what `prepare` built."""


class StatementPeer(Peer):
    """A system whose unit of work is one SQL statement with one query; a query batch would only be a loop over it."""

    def declines(self, workload: Workload) -> str | None:
        return None if workload.batch == 1 else "one query per statement"

    def run(self, queries: np.ndarray, k: int, metric: str, max_bucket: int | None) -> Ids:
        return [self.run_one(query, k, metric, max_bucket) for query in queries]

    @abstractmethod
    def run_one(self, query: np.ndarray, k: int, metric: str, max_bucket: int | None) -> np.ndarray:
        """Row numbers of the best k for one query of shape (dim,), best first."""


def predicate(max_bucket: int | None, keyword: str) -> str:
    """The filter as SQL behind `keyword` (`WHERE`, `AND`, or nothing); empty without a filter."""
    return "" if max_bucket is None else f"{keyword} bucket < {max_bucket}".strip()

"""The exact answer in float64, and the comparison of every system's answer with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocol import Dataset, Ids
from terms import METRICS

TOLERANCE = 1e-5
"""Where ids differ, distances must agree to this, relatively: float32 systems may swap what rounding makes equal."""
_CHUNK_ROWS = 16_384
_SPARE = 8
"""Candidates kept beyond k before distances are recomputed by their defining formula."""


@dataclass(frozen=True)
class Answer:
    """The best rows of one query, best first, and their distances (for `dot`: similarities)."""

    rows: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class Verdict:
    """How a system's answer compares: `same` ids, `ties` (ids differ, distances agree), or `wrong` with the reason."""

    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


def distances(vectors: np.ndarray, query: np.ndarray, metric: str) -> np.ndarray:
    """Distances by definition, in float64; `vectors` is (rows, dim)."""
    x, q = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "l2":
        return np.sqrt(np.square(x - q).sum(axis=1))
    dot = x @ q
    return dot if metric == "dot" else 1.0 - dot / np.sqrt(np.square(x).sum(axis=1) * (q @ q))


def _keys(dot: np.ndarray, norms: np.ndarray, metric: str) -> np.ndarray:
    """Values whose ascending order is best first; `dot` is (queries, rows), `norms` the rows' squared lengths."""
    if metric == "l2":
        return norms - 2.0 * dot
    return -dot if metric == "dot" else -dot / np.sqrt(norms)


class Reference:
    """Exact answers for one data set, kept per (filter, k); at least `least_queries` are computed at a time."""

    def __init__(self, data: Dataset, least_queries: int) -> None:
        self._data, self._least_queries = data, least_queries
        self._solved: dict[tuple[int | None, int], dict[str, list[Answer]]] = {}

    def answers(self, queries: int, k: int, metric: str, max_bucket: int | None) -> list[Answer]:
        """The exact answers to the first `queries` queries of the data set."""
        known = self._solved.get((max_bucket, k))
        if known is None or len(known[metric]) < queries:
            known = self._solved[(max_bucket, k)] = self._solve(max(queries, self._least_queries), k, max_bucket)
        return known[metric][:queries]

    def _solve(self, queries: int, k: int, max_bucket: int | None) -> dict[str, list[Answer]]:
        """One pass over the selected rows in float64, keeping a few more than k candidates per query and metric."""
        asked = self._data.queries[:queries].astype(np.float64)
        selected = self._data.selection(max_bucket)
        keep = min(k + _SPARE, len(selected))
        best: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for start in range(0, len(selected), _CHUNK_ROWS):
            rows = selected[start:start + _CHUNK_ROWS]
            chunk = self._data.vectors[rows].astype(np.float64)
            dot, norms = asked @ chunk.T, np.square(chunk).sum(axis=1)
            for metric in METRICS:
                keys, ids = _keys(dot, norms, metric), np.broadcast_to(rows, dot.shape)
                if metric in best:
                    keys = np.concatenate([best[metric][0], keys], axis=1)
                    ids = np.concatenate([best[metric][1], ids], axis=1)
                order = np.argpartition(keys, min(keep, keys.shape[1]) - 1, axis=1)[:, :keep]
                best[metric] = np.take_along_axis(keys, order, 1), np.take_along_axis(ids, order, 1)
        return {metric: [self._answer(self._data.queries[i], ids, k, metric) for i, ids in enumerate(best[metric][1])]
                for metric in METRICS}

    def _answer(self, query: np.ndarray, candidates: np.ndarray, k: int, metric: str) -> Answer:
        """Order candidates by (distance, row) with the distance's defining formula."""
        exact = distances(self._data.vectors[candidates], query, metric)
        order = np.lexsort((candidates, -exact if metric == "dot" else exact))[:k]
        return Answer(candidates[order], exact[order])

    def check(self, got: Ids, first_query: int, k: int, metric: str, max_bucket: int | None) -> Verdict:
        """Judge the answers `got` to consecutive queries of the data set, the first being number `first_query`."""
        expected = self.answers(first_query + len(got), k, metric, max_bucket)[first_query:]
        kind = "same"
        for number, (ids, answer) in enumerate(zip(got, expected, strict=True), start=first_query):
            verdict = self._check_one(np.asarray(ids), answer, self._data.queries[number], metric, max_bucket)
            if verdict.kind == "wrong":
                return Verdict("wrong", f"query {number}: {verdict.detail}")
            if verdict.kind == "ties":
                kind = "ties"
        return Verdict(kind)

    def _check_one(self, ids: np.ndarray, answer: Answer, query: np.ndarray, metric: str,
                   max_bucket: int | None) -> Verdict:
        if np.array_equal(ids, answer.rows):
            return Verdict("same")
        if len(ids) != len(answer.rows) or len(np.unique(ids)) != len(ids):
            return Verdict("wrong", f"{len(np.unique(ids))} distinct ids, expected {len(answer.rows)}")
        if ids.min() < 0 or ids.max() >= self._data.rows:
            return Verdict("wrong", f"ids outside 0..{self._data.rows}")
        if max_bucket is not None and (self._data.buckets[ids] >= max_bucket).any():
            return Verdict("wrong", "a row that the filter excludes")
        off = np.abs(distances(self._data.vectors[ids], query, metric) - answer.distances)
        worst = float((off / np.maximum(np.abs(answer.distances), np.finfo(np.float64).tiny)).max())
        if worst > TOLERANCE:
            return Verdict("wrong", f"distance off by {worst:.1e} (relative)")
        return Verdict("ties")

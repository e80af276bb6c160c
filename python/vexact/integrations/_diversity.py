"""Maximal marginal relevance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def diverse(query: Any, vectors: Sequence[Any], k: int, weight: float) -> list[int]:
    """Returns the positions of `k` vectors by maximal marginal relevance: each is the one of the greatest
    `weight * cosine to the query - (1 - weight) * greatest cosine to those before it`; ties by position."""
    if not vectors or k <= 0:
        return []
    matrix = _unit(np.asarray(vectors, np.float64))
    relevance = matrix @ _unit(np.asarray(query, np.float64)[None])[0]
    chosen = [int(np.argmax(relevance))]
    nearest = matrix @ matrix[chosen[0]]
    while len(chosen) < min(k, len(vectors)):
        scores = weight * relevance - (1 - weight) * nearest
        scores[chosen] = -np.inf
        best = int(np.argmax(scores))
        chosen.append(best)
        nearest = np.maximum(nearest, matrix @ matrix[best])
    return chosen


def _unit(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: np.ndarray[Any, Any] = rows / np.where(lengths == 0, 1, lengths)
    return unit

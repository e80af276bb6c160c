"""The definition of a search, in numpy and float64: what every answer of the engine is compared with.

Sums run in component order, multiply then add; cosine is 1 - dot / (sqrt(xx) * sqrt(qq)), clamped to [0, 2]; ties are broken by
position; a NULL vector, one with a NULL or non-finite component, and under cosine one of zero length are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

METRICS = ("cosine", "dot", "l2")

Hits = list[tuple[int, float]]


def scores(metric: str, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The score of each row; NaN for one that cannot be compared."""
    wide, query = rows.astype(np.float64), np.asarray(query, np.float64)
    found = np.zeros(len(wide))
    squares, query_squares = np.zeros(len(wide)), np.float64(0)
    with np.errstate(all="ignore"):
        for component in range(wide.shape[1]):
            x, q = wide[:, component], query[component]
            if metric == "l2":
                found += (x - q) * (x - q)
            else:
                found += x * q
                squares += x * x
                query_squares += q * q
        if metric == "l2":
            found = np.sqrt(found)
        if metric == "cosine":
            found = np.clip(1.0 - found / (np.sqrt(squares) * np.sqrt(query_squares)), 0.0, 2.0)
            found[squares == 0] = np.nan
    found[~np.isfinite(wide).all(axis=1)] = np.nan
    return found


def search(metric: str, rows: np.ndarray, query: np.ndarray, k: int, selection: np.ndarray | None = None) -> Hits:
    """The k best of the selected rows as (position, score), best first."""
    found = scores(metric, rows, query)
    comparable = ~np.isnan(found)
    if selection is not None:
        comparable &= selection
    positions = np.flatnonzero(comparable)
    key = -found[positions] if metric == "dot" else found[positions]
    positions = positions[np.argsort(key, kind="stable")][:k]
    return [(int(position), float(found[position])) for position in positions]


def vectors(rows: np.ndarray, nulls: np.ndarray | None = None) -> pa.Array:
    """Rows as a column of vectors; `nulls` marks those that are NULL."""
    values = pa.array(np.ascontiguousarray(rows).reshape(-1))
    mask = None if nulls is None else pa.array(nulls)
    return pa.FixedSizeListArray.from_arrays(values, rows.shape[1], mask=mask)


def awkward_rows(rng: np.random.Generator, count: int, dim: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Random rows, some equal to each other, some zero, some not finite; and a mask of those to be NULL.

    In the matrix, a NULL row is NaN, so that the reference leaves it out.
    """
    rows = rng.standard_normal((count, dim)).astype(dtype)
    if count == 0:
        return rows, np.zeros(0, bool)
    pick = lambda share: rng.random(count) < share  # noqa: E731
    rows[pick(0.2)] = rows[rng.integers(count)]
    rows[pick(0.05)] = 0
    spoiled = pick(0.05)
    rows[spoiled, rng.integers(dim, size=spoiled.sum())] = rng.choice([np.nan, np.inf, -np.inf], size=spoiled.sum())
    nulls = pick(0.05)
    rows[nulls] = np.nan
    return rows, nulls


def chunked(rng: np.random.Generator, table: pa.Table) -> pa.Table:
    """The table, cut at random places, empty chunks included."""
    cuts = np.sort(rng.integers(table.num_rows + 1, size=4))
    edges = [0, *cuts.tolist(), table.num_rows]
    pieces = [table.slice(start, end - start).combine_chunks().to_batches() for start, end in zip(edges, edges[1:])]
    return pa.Table.from_batches([batch for piece in pieces for batch in piece], table.schema)


def hits(frame: Any) -> Hits:
    """The answer to one query as (row_id, score)."""
    table = frame.to_arrow()
    return list(zip(table["row_id"].to_pylist(), table["score"].to_pylist()))


def hits_of(frame: Any, query_id: int) -> Hits:
    """The answer to one query of a query batch."""
    table = frame.to_arrow().to_pylist()
    return [(row["row_id"], row["score"]) for row in table if row["query_id"] == query_id]

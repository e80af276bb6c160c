"""Late interaction: `ORDER BY max_sim(...) DESC NULLS LAST LIMIT k` is a search that computes few rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import vexact

ROWS, DIM = 400, 16
RNG = np.random.default_rng(5)
TOKENS = [None if at % 50 == 3 else RNG.normal(size=(at % 9, DIM)).astype(np.float32) for at in range(ROWS)]
TOKENS[77] = np.full((2, DIM), np.nan, np.float32)
TOKENS[78] = np.vstack([np.zeros(DIM), np.full(DIM, 1e30)]).astype(np.float32)
TOKENS[200:240] = [TOKENS[199]] * 40
QUERY = RNG.normal(size=(5, DIM))


@pytest.fixture(scope="module")
def session() -> vexact.Session:
    made = vexact.Session()
    kind = pa.list_(pa.list_(pa.float32(), DIM))
    values = pa.array([None if row is None else [list(map(float, token)) for token in row] for row in TOKENS], kind)
    table = pa.table({"id": range(ROWS), "year": [at % 4 for at in range(ROWS)], "tokens": values})
    pieces = pa.concat_tables([table.slice(at, 90) for at in range(0, ROWS, 90)])
    made.create_temp_view("docs", made.create_dataframe_from_arrow(pieces))
    return made


def score(row: np.ndarray | None) -> float | None:
    if row is None or not len(row) or not np.isfinite(row).all():
        return None
    total = 0.0
    for query in QUERY:
        dots = []
        for token in row.astype(np.float64):
            dot = 0.0
            for x, q in zip(token, query, strict=True):
                dot += x * q
            dots.append(dot)
        total += max(dots)
    return total


SCORES = [score(row) for row in TOKENS]
ORDER = sorted(range(ROWS), key=lambda at: (SCORES[at] is None, -(SCORES[at] or 0.0), at))


@pytest.mark.parametrize("query", [QUERY, QUERY.tolist(), [list(map(float, row)) for row in QUERY]], ids=["array", "lists", "rows"])
@pytest.mark.parametrize("k", [1, 10, 150, ROWS + 5])
def test_the_search_returns_the_reference(session: vexact.Session, query: object, k: int) -> None:
    sql = f"SELECT id, max_sim(tokens, $1) AS score FROM docs ORDER BY score DESC NULLS LAST LIMIT {k}"
    assert "MaxSimTopKExec" in session.explain_sql(sql, [query]).physical
    found = session.sql(sql, [query]).to_arrow()
    assert found["id"].to_pylist() == ORDER[:k]
    assert found["score"].to_pylist() == [SCORES[at] for at in ORDER[:k]]


def test_filters_come_first_and_other_orders_are_plain(session: vexact.Session) -> None:
    sql = "SELECT id FROM docs WHERE year = 2 ORDER BY max_sim(tokens, $1) {order} LIMIT 7"
    filtered = [at for at in ORDER if at % 4 == 2]
    assert session.sql(sql.format(order="DESC NULLS LAST"), [QUERY]).to_arrow()["id"].to_pylist() == filtered[:7]
    for order in ("DESC", "ASC", "DESC NULLS LAST, id DESC"):
        assert "MaxSimTopKExec" not in session.explain_sql(sql.format(order=order), [QUERY]).physical
    worst = [at for at in filtered if SCORES[at] is not None][::-1]
    assert session.sql(sql.format(order="ASC"), [QUERY]).to_arrow()["id"].to_pylist() == worst[:7]


def test_bad_queries_are_named(session: vexact.Session) -> None:
    sql = "SELECT id FROM docs ORDER BY max_sim(tokens, $1) DESC NULLS LAST LIMIT 3"
    with pytest.raises(vexact.InvalidRequestError, match=f"expected {DIM} components, got 3"):
        session.sql(sql, [[[1.0, 2.0, 3.0]]]).to_arrow()
    with pytest.raises(vexact.VexactError, match="max_sim: expected lists of vectors"):
        session.sql(sql, [[1.0] * DIM]).to_arrow()

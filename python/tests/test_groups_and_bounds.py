"""`min_score` bounds the score from below, `group_by` asks for the best rows of each group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from reference import METRICS, Hits, scores, vectors

import vexact

N, DIM = 2000, 4
RNG = np.random.default_rng(11)
# Small whole numbers, so that many rows are of one score, and some are zero.
ROWS = RNG.integers(-2, 3, (N, DIM)).astype(np.float32)
QUERY = np.array([1.0, 2.0, -1.0, 0.5])
NULLS = RNG.random(N) < 0.05
YEARS = RNG.integers(0, 10, N)
GROUPS: dict[str, list[Any]] = {
    "text": [None if at == 0 else f"g{at}" for at in RNG.integers(0, 7, N)],
    "zeros": [[0.0, -0.0, None, 1.5][at] for at in RNG.integers(0, 4, N)],
    "many": [int(at) for at in RNG.integers(0, 900, N)],
}
TABLE = pa.table({"id": range(N), "year": YEARS, **GROUPS, "words": pa.array(GROUPS["text"]).dictionary_encode(), "e": vectors(ROWS, NULLS)})


def expected(metric: str, k: int, least: float | None, selection: np.ndarray, group: str | None) -> Hits:
    found = scores(metric, ROWS, QUERY)
    chosen = selection & ~NULLS & ~np.isnan(found)
    if least is not None:
        chosen &= found >= least
    positions = np.flatnonzero(chosen)
    key = -found[positions] if metric == "dot" else found[positions]
    ranked = positions[np.argsort(key, kind="stable")]
    if group is None:
        return [(int(at), float(found[at])) for at in ranked[:k]]
    counts: dict[Any, int] = {}
    hits = []
    for at in ranked:
        value = GROUPS["text" if group == "words" else group][at]
        counts[value] = counts.get(value, 0) + 1
        if counts[value] <= k:
            hits.append((int(at), float(found[at])))
    return hits


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> vexact.Session:
    made = vexact.Session()
    path = tmp_path_factory.mktemp("groups") / "t.parquet"
    pyarrow.parquet.write_table(TABLE, path, row_group_size=170)
    pieces = [TABLE.slice(at, 37) for at in range(0, N, 37)]
    made.create_temp_view("one", made.create_dataframe_from_arrow(TABLE))
    made.create_temp_view("many", made.create_dataframe_from_arrow(pa.concat_tables(pieces, promote_options="default")))
    made.create_temp_view("file", made.read_parquet(path))
    made.sql("CREATE VIEW seen AS SELECT *, year + 0 AS computed FROM one WHERE id >= 0")
    return made


def hits(frame: vexact.DataFrame, row: str = "row_id", score: str = "score") -> Hits:
    found = frame.to_arrow()
    return list(zip(found[row].to_pylist(), found[score].to_pylist(), strict=True))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("table", ["one", "many", "file", "seen"])
def test_the_best_rows_of_each_group_are_found_in_every_table(session: vexact.Session, table: str, metric: str) -> None:
    for k, least, filter, group in [
        (1, None, None, "text"),
        (3, 0.5, "year < 4", "words"),
        (2, 0.0, None, "zeros"),
        (N, 1e-9, "year < 7", "many"),
        (2, None, "year = 3", "many"),
        (4, 0.3, "year < 9", None),
    ]:
        selection = np.ones(N, bool) if filter is None else {"year < 4": YEARS < 4, "year < 7": YEARS < 7, "year = 3": YEARS == 3, "year < 9": YEARS < 9}[filter]
        reference = expected(metric, k, least, selection, group)
        search = (table, "e", QUERY, k, metric)
        options: dict[str, Any] = {"filter": filter, "min_score": least, "group_by": group}
        found = session.vector_search(*search, **options)
        assert hits(found) == reference, options
        assert found.to_arrow().schema.names == ["row_id", "score", *([group] if group else [])]
        assert hits(session.hybrid_search(*search, **options), "id", "vector_score") == reference
        for partitions in (1, 3):
            session.sql(f"SET datafusion.execution.target_partitions = {partitions}")
            for rewrite in ("true", "false"):
                session.sql(f"SET vexact.rewrite = {rewrite}")
                sql = f"SELECT id, score FROM vector_search('{table}', 'e', $q, {k}, '{metric}', filter => $$${filter or 'true'}$$$, group_by => {repr(group) if group else 'NULL'}"
                bound = "" if least is None else f", min_score => {least}"
                assert hits(session.sql(f"{sql.replace('$$$', chr(39))}{bound})", {"q": list(QUERY)}), "id") == reference, sql
    session.sql("SET vexact.rewrite = true")


@pytest.mark.parametrize("metric", METRICS)
def test_numbering_the_rows_of_each_group_finds_the_same(session: vexact.Session, metric: str) -> None:
    distance = {"cosine": "cosine_distance(e, $q)", "dot": "-inner_product(e, $q)", "l2": "l2_distance(e, $q)"}[metric]
    for table in ("one", "file"):
        for order in (distance, {"cosine": "e <=> $q", "dot": "e <#> $q", "l2": "e <-> $q"}[metric]):
            numbered = f"SELECT id, row_number() OVER (PARTITION BY text ORDER BY {order}) AS place FROM {table} WHERE e IS NOT NULL AND l2_norm(e) > 0"
            found = session.sql(f"SELECT id FROM ({numbered}) WHERE place <= 2", {"q": list(QUERY)}).to_arrow()
            nonzero = (ROWS != 0).any(axis=1)
            assert sorted(found["id"].to_pylist()) == sorted(at for at, _ in expected(metric, 2, None, nonzero, "text"))


def test_a_query_batch_answers_as_its_queries_alone(session: vexact.Session) -> None:
    batch = np.stack([QUERY, -QUERY, QUERY * 2])
    for options in ({"min_score": 0.4}, {"group_by": "text"}, {"group_by": "many", "min_score": 0.1, "columns": ["id"]}):
        together = session.vector_search("one", "e", batch, 2, **options).to_arrow()
        alone = [session.vector_search("one", "e", query, 2, **options).to_arrow() for query in batch]
        assert together.drop_columns("query_id").to_pylist() == pa.concat_tables(alone).to_pylist()
        assert together["query_id"].to_pylist() == [at for at, found in enumerate(alone) for _ in range(found.num_rows)]


def test_explain_says_what_bounds_and_groups(session: vexact.Session) -> None:
    strategy = session.explain_vector_search("one", "e", QUERY, 2, group_by="text", min_score=0.25).strategy.splitlines()
    assert {"group_by=text", "min_score=0.25", "top_k=2", "acceleration=flat-buffer+group-topk"} <= set(strategy)
    sql = "SELECT id FROM vector_search('one', 'e', [1, 2, 3, 4], 2, group_by => 'text', min_score => 0.25)"
    explain = session.explain_sql(sql)
    assert "group_by=text" in explain.strategy and "group_by=text" in explain.physical
    assert "0.25" in explain.physical


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("'one', 'e', [1, 2, 3, 4], 2, group_by => 'nope'", "group_by: column \"nope\" not found in table one"),
        ("'one', 'e', [1, 2, 3, 4], 2, min_score => 'x'", "min_score: expected a number"),
        ("'one', 'e', [1, 2, 3, 4], 2, nope => 1", "expected an argument of \\[table, column, query, k, metric, filter, min_score, group_by\\]"),
        ("'one', 'e', [1, 2, 3, 4], 2, k => 1", "expected argument \"k\" once"),
        ("'one', 'e', [1, 2, 3, 4], k => 2, 'l2'", "expected a name before argument 'l2'"),
        ("'one', 'e', [1, 2, 3, 4], 0, group_by => 'text'", "k: expected a whole number of at least 1, got 0"),
        ("'one', 'e', [0, 0, 0, 0], 2, group_by => 'text'", "zero"),
        ("'one', 'e', [1], 2, group_by => 'text'", "expected 4 components, got 1"),
    ],
)
def test_bad_arguments_are_named(session: vexact.Session, call: str, problem: str) -> None:
    with pytest.raises(vexact.InvalidRequestError, match=problem):
        session.sql(f"SELECT * FROM vector_search({call})").to_arrow()


def test_bad_arguments_of_calls_are_named(session: vexact.Session) -> None:
    with pytest.raises(vexact.InvalidRequestError, match='group_by: column "nope" not found in table "one"'):
        session.vector_search("one", "e", QUERY, group_by="nope")
    with pytest.raises(vexact.InvalidRequestError, match="min_score"):
        session.vector_search("one", "e", QUERY, min_score=float("nan"))
    for name, value in [("min_score", "1"), ("group_by", 1)]:
        with pytest.raises(TypeError, match=name):
            session.vector_search("one", "e", QUERY, **{name: value})


def test_a_lateral_search_points_at_the_join(session: vexact.Session) -> None:
    for sql in [
        "SELECT * FROM one, LATERAL vector_search('one', 'e', one.e, 1)",
        "SELECT one.id FROM one, LATERAL (SELECT many.id FROM many ORDER BY cosine_distance(many.e, one.e) LIMIT 1) AS f",
    ]:
        with pytest.raises(vexact.InvalidRequestError, match="vector_join"):
            session.sql(sql).to_arrow()


@pytest.mark.anyio
async def test_an_engine_finds_the_best_rows_of_each_group_by_key(tmp_path: Path) -> None:
    async with await vexact.open(tmp_path / "a.db") as engine:
        await engine.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, lang TEXT, e BLOB)")
        schema = vexact.TableSchema("docs", {"id": "int64", "lang": "utf8", "e": "vector(2)"}, "id")
        await engine.register_table(schema)
        for at in range(40):
            await engine.execute("INSERT INTO docs VALUES (?, ?, ?)", [39 - at, [None, "de", "en"][at % 3], [1.0, float(at // 10)]])
        await engine.sync_all()
        found = pa.Table.from_batches(await engine.vector_search("docs", "e", [1.0, 0.0], 2, "l2", group_by="lang"))
        assert found.schema.names == ["id", "score", "lang"]
        # Rows of one score by key.
        assert found["id"].to_pylist() == [30, 31, 32, 33, 34, 35]
        bounded = pa.Table.from_batches(await engine.vector_search("docs", "e", [1.0, 0.0], 2, "l2", min_score=1.0, group_by="LANG"))
        assert bounded["score"].to_pylist() == [1.0] * 6 and bounded["id"].to_pylist() == [20, 21, 22, 23, 24, 25]
        sql = "SELECT id FROM vector_search('docs', 'e', [1.0, 0.0], 2, 'l2', group_by => 'lang')"
        assert pa.Table.from_batches(await engine.query_olap(sql))["id"].to_pylist() == [30, 31, 32, 33, 34, 35]


@pytest.mark.parametrize("table", ["one", "many", "file"])
def test_conditions_on_the_distance_of_a_search_change_no_answer(session: vexact.Session, table: str) -> None:
    conditions = [
        "cosine_distance(e, $q) < 0.5",
        "cosine_distance(e, $q) >= 0.25 AND year < 6",
        "1 - cosine_distance(e, $q) > 0.3",
        "cosine_distance(e, $q) > 0.1 AND cosine_distance(e, $q) <= 0.8 AND l2_distance(e, $q) < 3",
        "NOT cosine_distance(e, $q) < 0.2",
    ]
    for condition in conditions:
        sql = f"SELECT id, cosine_distance(e, $q) AS d FROM {table} WHERE {condition} ORDER BY d LIMIT 12"
        found = []
        for rewrite in ("true", "false"):
            session.sql(f"SET vexact.rewrite = {rewrite}")
            found.append(session.sql(sql, {"q": list(QUERY)}).to_arrow().to_pylist())
        session.sql("SET vexact.rewrite = true")
        assert [row["d"] for row in found[0]] == [row["d"] for row in found[1]], condition
        assert len(found[0]) == 12

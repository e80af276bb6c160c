"""The door into the PyPI package `datafusion`: functions, replicas and snapshots in its contexts."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import anyio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from reference import vectors

datafusion = pytest.importorskip("datafusion")

ROWS = 500
DIM = 8


def stored() -> np.ndarray:
    return np.random.default_rng(11).standard_normal((ROWS, DIM)).astype(np.float32)


def table() -> pa.Table:
    langs = ["en", "de", "fr"]
    return pa.table({"id": range(ROWS), "lang": [langs[i % 3] for i in range(ROWS)], "embedding": vectors(stored())})


@pytest.fixture(params=["memory", "parquet"])
def ctx(request: pytest.FixtureRequest, tmp_path: Path):
    """A context with the table `docs`, in memory or in two Parquet files, and our functions."""
    context = datafusion.SessionContext()
    if request.param == "memory":
        context.register_record_batches("docs", [table().to_batches(max_chunksize=100)])
    else:
        pq.write_table(table().slice(0, 300), tmp_path / "a.parquet")
        pq.write_table(table().slice(300), tmp_path / "b.parquet")
        context.register_parquet("docs", str(tmp_path))
    vexact.register(context)
    return context


def distances(query: np.ndarray) -> np.ndarray:
    return np.sqrt(((stored().astype(np.float64) - query.astype(np.float64)) ** 2).sum(axis=1))


def literal(query: np.ndarray) -> str:
    return str([float(x) for x in query])


def column(frame, name: str) -> list:
    return [value for batch in frame.collect() for value in batch.column(batch.schema.get_field_index(name)).to_pylist()]


def test_a_search_in_a_foreign_context_equals_numpy_and_our_session(ctx) -> None:
    query = stored()[42] + np.float32(0.1)
    found = ctx.sql(f"SELECT id, score FROM vector_search('docs', 'embedding', '{literal(query)}', 10, 'l2')")
    expected = np.argsort(distances(query), kind="stable")[:10]
    assert column(found, "id") == list(expected)
    np.testing.assert_allclose(column(found, "score"), distances(query)[expected], rtol=1e-12)
    session = vexact.Session()
    session.create_temp_view("docs", session.create_dataframe_from_arrow(table()))
    ours = session.vector_search("docs", "embedding", query, top_k=10, metric="l2", columns=["id"]).to_arrow()
    assert ours["score"].to_pylist() == column(found, "score")


def test_a_search_is_part_of_larger_queries(ctx) -> None:
    query = stored()[3]
    search = f"vector_search('docs', 'embedding', '{literal(query)}', 50, 'l2', 'id % 2 = 0')"
    near = [i for i in np.argsort(distances(query), kind="stable") if i % 2 == 0][:50]
    counts = ctx.sql(f"SELECT lang, count(*) AS n FROM {search} GROUP BY lang ORDER BY lang")
    expected = [sum(1 for i in near if i % 3 == k) for k in (1, 0, 2)]
    assert column(counts, "n") == expected
    joined = ctx.sql(f"SELECT d.id FROM {search} s JOIN docs d ON d.id = s.id + 1 ORDER BY d.id")
    assert column(joined, "id") == sorted(int(i) + 1 for i in near if i + 1 < ROWS)
    assert column(ctx.sql(f"SELECT count(*) AS n FROM {search}"), "n") == [50]
    assert column(ctx.sql(f"SELECT id FROM {search} LIMIT 3"), "id") == [int(i) for i in near[:3]]
    assert column(ctx.sql(f"SELECT id FROM {search} WHERE score > 1e9"), "id") == []


def test_the_helper_takes_values(ctx) -> None:
    query = stored()[7]
    found = vexact.vector_search(ctx, "docs", "embedding", query, 5, metric="l2", filter="lang = 'en'")
    expected = [i for i in np.argsort(distances(query), kind="stable") if i % 3 == 0][:5]
    assert column(found, "id") == [int(i) for i in expected]
    grouped = vexact.vector_search(ctx, "docs", "embedding", query.tolist(), 1, metric="l2", group_by="lang")
    assert sorted(column(grouped, "lang")) == ["de", "en", "fr"]
    least = vexact.vector_search(ctx, "docs", "embedding", query, 3, metric="l2", min_score=1.0)
    assert min(column(least, "score")) >= 1.0
    queries = pa.table({"q": range(3), "v": vectors(stored()[:3])})
    ctx.register_record_batches("queries", [queries.to_batches()])
    joined = vexact.vector_join(ctx, "queries", "v", "docs", "embedding", 1, metric="l2")
    assert sorted(zip(column(joined, "q"), column(joined, "id"), strict=True)) == [(0, 0), (1, 1), (2, 2)]


def test_distances_are_functions_of_the_context(ctx) -> None:
    query = stored()[9]
    found = ctx.sql(f"SELECT l2_distance(embedding, {literal(query)}) AS d, l2_norm(embedding) AS n, vector_dims(embedding) AS dims FROM docs ORDER BY id")
    np.testing.assert_allclose(column(found, "d"), distances(query), rtol=1e-12)
    np.testing.assert_allclose(column(found, "n"), np.linalg.norm(stored().astype(np.float64), axis=1), rtol=1e-12)
    assert set(column(found, "dims")) == {DIM}
    nearest = ctx.sql(f"SELECT id FROM docs ORDER BY l2_distance(embedding, {literal(query)}) LIMIT 4")
    assert column(nearest, "id") == [int(i) for i in np.argsort(distances(query), kind="stable")[:4]]


def test_errors_are_ours(ctx) -> None:
    for sql, expected in {
        "SELECT * FROM vector_search('nowhere', 'embedding', '[1]', 1)": "nowhere",
        "SELECT * FROM vector_search('docs', 'lang', '[1]', 1)": "expected vectors",
        "SELECT * FROM vector_search('docs', 'embedding', '[1, 2]', 1)": f"expected {DIM} components",
        "SELECT * FROM vector_search('docs', 'embedding', '[1]')": "got 3 arguments",
        f"SELECT * FROM vector_search('docs', 'embedding', '{[0.0] * DIM}', 1, 'l3')": "l3",
        f"SELECT * FROM vector_search('docs', 'embedding', '{[0.0] * DIM}', 1, 'l2', 'nope = 1')": "nope",
        f"SELECT * FROM vector_search('docs', 'embedding', $1, 1)": r"vexact\.vector_search\(ctx",
    }.items():
        with pytest.raises(Exception, match=expected):
            ctx.sql(sql).collect()
    assert column(ctx.sql("SELECT 1 AS x"), "x") == [1]
    with pytest.raises(TypeError, match=r"component 1: expected a number, got str"):
        vexact.vector_search(ctx, "docs", "embedding", [1.0, "x"])
    with pytest.raises(TypeError, match="ctx: expected a datafusion.SessionContext, got Session"):
        vexact.register(vexact.Session())


def test_another_major_version_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    other = types.ModuleType("datafusion")
    other.__version__ = "54.1.0"
    monkeypatch.setitem(sys.modules, "datafusion", other)
    with pytest.raises(ImportError, match=r"vexact fits datafusion 55: .* got 54\.1\.0"):
        vexact.register(object())
    monkeypatch.setitem(sys.modules, "datafusion", None)
    with pytest.raises(vexact.MissingDependencyError, match=r"vexact\[datafusion\]"):
        vexact.register(object())


async def app(path: Path) -> vexact.HtapEngine:
    engine = await vexact.open(str(path))
    await engine.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, lang TEXT, embedding BLOB)")
    columns = [("id", "int64"), ("lang", "text"), ("embedding", f"vector({DIM})")]
    await engine.register_table(vexact.TableSchema("docs", columns, ["id"]))
    rows = zip(table()["id"].to_pylist(), table()["lang"].to_pylist(), stored(), strict=True)
    await engine.execute_many("INSERT INTO docs VALUES (?, ?, ?)", list(rows))
    await engine.sync_all()
    return engine


def test_a_live_replica_is_a_table_of_a_foreign_context(tmp_path: Path) -> None:
    async def check() -> None:
        async with await app(tmp_path / "app.db") as engine:
            ctx = datafusion.SessionContext()
            vexact.register(ctx)
            replica = engine.table("docs")
            assert replica.schema.names == ["id", "lang", "embedding"]
            assert pa.table(replica).num_rows == ROWS
            ctx.register_table("docs", replica)
            assert column(ctx.sql("SELECT count(*) AS n FROM docs WHERE id IN (3, 5, 1000)"), "n") == [2]
            query = stored()[5]
            found = vexact.vector_search(ctx, "docs", "embedding", query, 3, metric="l2")
            assert column(found, "id") == [int(i) for i in np.argsort(distances(query), kind="stable")[:3]]
            await engine.execute("DELETE FROM docs WHERE id < 100")
            await engine.sync_all()
            assert column(ctx.sql("SELECT count(*) AS n FROM docs"), "n") == [ROWS - 100]
            with pytest.raises(vexact.EngineError, match=r'table "nope" not found: expected one of \[docs\]'):
                engine.table("nope")

    anyio.run(check)


def test_a_snapshot_is_one_version_of_all_tables(tmp_path: Path) -> None:
    async def check() -> None:
        async with await app(tmp_path / "app.db") as engine:
            ctx = datafusion.SessionContext()
            vexact.register(ctx)
            snapshot = engine.snapshot()
            assert snapshot.tables() == ["docs"] and snapshot.table("docs").schema.names == ["id", "lang", "embedding"]
            ctx.register_catalog_provider("app", snapshot)
            ctx.register_table("live", engine.table("docs"))
            await engine.execute("DELETE FROM docs WHERE id >= 10")
            await engine.sync_all()
            counts = ctx.sql("SELECT (SELECT count(*) FROM app.public.docs) AS then, (SELECT count(*) FROM live) AS now")
            assert (column(counts, "then"), column(counts, "now")) == ([ROWS], [10])
            query = stored()[400]
            found = vexact.vector_search(ctx, "app.public.docs", "embedding", query, 1, metric="l2")
            assert column(found, "id") == [400]
            assert pa.table(snapshot.table("docs")).num_rows == ROWS
        # The engine is closed; the snapshot still has its version.
        assert column(ctx.sql("SELECT count(*) AS n FROM app.public.docs"), "n") == [ROWS]

    anyio.run(check)


def test_a_replica_without_its_tables_rows_is_refused(tmp_path: Path) -> None:
    async def check() -> None:
        async with await vexact.open(str(tmp_path / "app.db")) as engine:
            await engine.execute("CREATE TABLE t(id INTEGER PRIMARY KEY)")
            await engine.execute("INSERT INTO t VALUES (1)")
            with pytest.warns(UserWarning):
                await engine.register_table(vexact.TableSchema("t", [("id", "int64")], ["id"]))
            with pytest.raises(vexact.EngineError, match="initial_sync"):
                engine.table("t")
            await engine.initial_sync("t")
            assert engine.table("t").to_arrow()["id"].to_pylist() == [1]

    anyio.run(check)

"""DuckDB as the OLAP backend. Without the cargo feature `duckdb-backend` only that it says so; `make test-duckdb` has the feature."""

import numpy as np
import pyarrow as pa
import pytest

import vexact
from vexact import EngineError, HtapConfig, TableSchema

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


def has_duckdb():
    try:
        HtapConfig(olap_backend="duckdb")
    except ValueError:
        return False
    return True


needs_duckdb = pytest.mark.skipif(not has_duckdb(), reason="the extension was built without duckdb-backend: make test-duckdb")

SCHEMA = TableSchema("docs", [("id", "int64"), ("lang", "utf8"), ("score", "float32"), ("v", "vector(2)")], ["id"])


async def opened(path, rows=10):
    engine = await vexact.open(path / "own.db", olap_backend="duckdb")
    await engine.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, lang TEXT, score REAL, v BLOB)")
    await engine.register_table(SCHEMA)
    values = [[key, [None, "de", "en"][key % 3], key / 4, np.array([key, 1], dtype=np.float32)] for key in range(rows)]
    await engine.execute_many("INSERT INTO docs VALUES (?, ?, ?, ?)", values)
    await engine.sync_all()
    return engine


@pytest.mark.skipif(has_duckdb(), reason="the extension was built with duckdb-backend")
def test_without_the_feature_the_error_names_it():
    with pytest.raises(ValueError, match='needs a build with the cargo feature duckdb-backend: expected "datafusion"'):
        HtapConfig(olap_backend="duckdb")


@needs_duckdb
def test_another_backend_is_a_value_error():
    with pytest.raises(ValueError, match=r"expected one of \[datafusion, duckdb\], got \"sqlite\""):
        HtapConfig(olap_backend="sqlite")


@needs_duckdb
async def test_answers_have_the_types_of_datafusion(tmp_path):
    async with await opened(tmp_path) as engine:
        sql = "SELECT lang, count(*) AS n, sum(id) AS s, max(score) AS top FROM docs GROUP BY lang ORDER BY lang"
        found = pa.Table.from_batches(await engine.query(sql))
        assert found.equals(engine.session().sql(sql).to_arrow())
        assert found.to_pylist() == [
            {"lang": None, "n": 4, "s": 18, "top": 2.25},
            {"lang": "de", "n": 3, "s": 12, "top": 1.75},
            {"lang": "en", "n": 3, "s": 15, "top": 2.0},
        ]
        assert found.schema.types == [pa.string(), pa.int64(), pa.int64(), pa.float32()]
        empty = pa.Table.from_batches(await engine.query("SELECT v, count(*) AS n FROM docs WHERE id < 0 GROUP BY v"))
        assert empty.num_rows == 0 and empty.schema.field("v").type == pa.list_(pa.float32(), 2)
        found = await engine.query("SELECT count(*) AS n FROM docs WHERE lang = ? AND id > ?", ["en", 2])
        assert pa.Table.from_batches(found).to_pylist() == [{"n": 2}]
        plan = pa.Table.from_batches(await engine.query("EXPLAIN SELECT count(*) FROM docs")).to_pydict()
        assert any("VEXACT_REPLICA" in text for column in plan.values() for text in column)


@needs_duckdb
async def test_search_is_still_ours_and_nothing_is_written(tmp_path):
    async with await opened(tmp_path) as engine:
        found = await engine.vector_search("docs", "v", [7, 1], top_k=1, metric="l2", columns=["lang"])
        assert pa.Table.from_batches(found).to_pylist() == [{"id": 7, "score": 0.0, "lang": "de"}]
        by_sql = "SELECT id FROM docs ORDER BY l2_distance(v, ?) LIMIT 1"
        assert pa.Table.from_batches(await engine.query(by_sql, [[3.0, 1.0]])).to_pylist() == [{"id": 3}]
        (tmp_path / "secret.csv").write_text("a\n1\n")
        for sql in ("DELETE FROM docs", "COPY docs TO 'x.csv'", f"SELECT count(*) FROM read_csv('{tmp_path}/secret.csv')"):
            with pytest.raises(EngineError):
                await engine.query_olap(sql)
        with pytest.raises(EngineError, match="DuckDB: Conversion Error"):
            await engine.query_olap("SELECT CAST('x' || count(*) AS INT) FROM docs")
        await engine.execute("DELETE FROM docs WHERE id > 4")
        await engine.sync_now()
        found = await engine.query("SELECT count(*) AS n FROM docs")
        assert pa.Table.from_batches(found).to_pylist() == [{"n": 5}]

"""The replication engine through its public API, under asyncio and trio."""

import inspect
import subprocess
import sys
import warnings

import numpy as np
import pyarrow as pa
import pytest

import vexact
from vexact import EngineError, HtapConfig, HtapEngine, TableSchema

pytestmark = pytest.mark.anyio

DOCS = TableSchema("docs", [("id", "int64"), ("Title", "utf8"), ("price", "float64"), ("v", "vector(3)")], ["id"])
CREATE = "CREATE TABLE docs (id INTEGER PRIMARY KEY, Title TEXT, price REAL, v BLOB)"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
async def engine(tmp_path):
    async with await vexact.open(tmp_path / "app.db") as engine:
        yield engine


def rows(batches):
    return pa.Table.from_batches(batches).to_pylist()


async def filled(engine):
    await engine.execute(CREATE)
    await engine.register_table(DOCS)
    vectors = {1: [1.0, 0.0, 0.0], 2: [0.0, 1.0, 0.0], 3: [0.9, 0.1, 0.0]}
    await engine.execute_many(
        "INSERT INTO docs VALUES (?, ?, ?, ?)", [(i, f"t{i}", i / 2, vector) for i, vector in vectors.items()]
    )
    return await engine.sync_now()


async def test_what_is_written_is_searched_after_a_sync(engine):
    result = await filled(engine)
    assert repr(result) == "SyncResult(events_processed=3, rows_inserted=3, rows_updated=0, rows_deleted=0, pruned_count=3)"
    found = await engine.vector_search("docs", "v", [1, 0, 0], top_k=2, columns=["Title"])
    assert found[0].schema.names == ["id", "score", "Title"]
    assert [row["id"] for row in rows(found)] == [1, 3]
    assert rows(found)[0]["score"] == 0.0
    sql = "SELECT id FROM vector_search('docs', 'v', [1.0, 0.0, 0.0], 2) ORDER BY score"
    assert [row["id"] for row in rows(await engine.query(sql))] == [1, 3]
    await engine.execute("UPDATE docs SET v = ? WHERE id = 2", [np.array([1, 0, 0], dtype=np.float32)])
    await engine.execute("DELETE FROM docs WHERE id = 1")
    stale = await engine.vector_search("docs", "v", [1, 0, 0], top_k=1)
    assert rows(stale)[0]["id"] == 1
    fresh = await engine.vector_search("docs", "v", [1, 0, 0], top_k=1, fresh=True)
    assert rows(fresh)[0]["id"] == 2
    filtered = await engine.vector_search("docs", "v", [1, 0, 0], filter="price > 1", columns="*")
    assert [row["id"] for row in rows(filtered)] == [3]
    explain = await engine.explain_vector_search("docs", "v", [1, 0, 0])
    assert "VectorTopKExec" in explain.physical and "metric=cosine" in explain.strategy


async def test_both_routes_return_one_type(engine):
    await filled(engine)
    plain = await engine.query("SELECT id, Title, price, v FROM docs WHERE id = ?", [2])
    analytic = await engine.query("SELECT DISTINCT id, title, PRICE, v FROM DOCS WHERE id = ?", [2])
    assert plain[0].schema.types == analytic[0].schema.types
    assert plain[0].schema.types == [pa.int64(), pa.string(), pa.float64(), pa.list_(pa.float32(), 3)]
    assert [list(row.values()) for row in rows(plain)] == [list(row.values()) for row in rows(analytic)]
    assert engine.explain_route("SELECT id FROM docs").startswith("sqlite: ")
    assert engine.explain_route("SELECT count(*) FROM docs").startswith("olap: ")
    empty = await engine.query("SELECT count(*) AS n, max(price) AS p FROM docs GROUP BY id HAVING count(*) > 5")
    assert empty[0].num_rows == 0 and empty[0].schema.names == ["n", "p"]
    empty = await engine.query("SELECT id, v FROM docs WHERE id = 99")
    assert empty[0].num_rows == 0 and empty[0].schema.field("v").type == pa.list_(pa.float32(), 3)


async def test_null_sorts_first_and_like_is_case_sensitive_on_both_routes(engine):
    await engine.execute(CREATE)
    await engine.register_table(DOCS)
    await engine.execute("INSERT INTO docs(id, Title) VALUES (1, 'b'), (2, NULL), (3, 'A')")
    await engine.sync_all()
    for sql in ["SELECT Title FROM docs ORDER BY Title", "SELECT DISTINCT Title FROM docs ORDER BY Title"]:
        assert [row["Title"] for row in rows(await engine.query(sql))] == [None, "A", "b"]
    for sql in ["SELECT id FROM docs WHERE Title LIKE 'a%'", "SELECT DISTINCT id FROM docs WHERE Title LIKE 'a%'"]:
        assert (await engine.query(sql))[0].num_rows == 0


async def test_an_unreplicated_table_is_sqlites_whatever_the_query(engine):
    await filled(engine)
    await engine.execute("CREATE TABLE other (id INTEGER PRIMARY KEY, n INTEGER)")
    await engine.execute("INSERT INTO other VALUES (1, 5), (2, 6)")
    found = await engine.query("SELECT docs.id, n FROM docs JOIN other USING (id) ORDER BY n")
    assert rows(found) == [{"id": 1, "n": 5}, {"id": 2, "n": 6}]
    with pytest.raises(EngineError, match="not replicated"):
        await engine.query("SELECT o.id FROM other o, vector_search('docs', 'v', [1.0,0.0,0.0], 1) s WHERE s.id = o.id")


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM docs",
        "DELETE FROM docs RETURNING id",
        "UPDATE docs SET price = 1",
        "INSERT INTO docs(id) VALUES (9)",
        "DROP TABLE docs",
        "CREATE TABLE x (a)",
        "PRAGMA user_version = 5",
        "EXPLAIN ANALYZE DELETE FROM docs WHERE id IN (SELECT id FROM docs)",
        "WITH d AS (SELECT 1) DELETE FROM docs",
        "SELECT 1; DELETE FROM docs",
        "COPY docs TO 'x.parquet'",
        "",
    ],
)
async def test_queries_never_write(engine, sql):
    await filled(engine)
    for query in (engine.query, engine.query_olap):
        with pytest.raises(RuntimeError):
            await query(sql)
    assert rows(await engine.query("SELECT count(*) AS n FROM docs")) == [{"n": 3}]
    assert rows(await engine.query("SELECT id FROM docs ORDER BY id")) == [{"id": 1}, {"id": 2}, {"id": 3}]


async def test_olap_reads_no_files(engine, tmp_path):
    await filled(engine)
    path = tmp_path / "x.csv"
    path.write_text("a\n1\n")
    with pytest.raises(RuntimeError):
        await engine.query_olap(f"SELECT * FROM '{path}'")
    with pytest.raises(RuntimeError):
        await engine.query_olap(f"CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{path}'")


async def test_execute_refuses_before_any_effect(engine):
    await filled(engine)
    for sql in ["SELECT 1", "INSERT INTO docs(id) VALUES (7) RETURNING id", "BEGIN", "COMMIT", "SAVEPOINT a"]:
        with pytest.raises(EngineError):
            await engine.execute(sql)
    with pytest.raises(EngineError, match="docs.price: expected float64"):
        await engine.execute("INSERT INTO docs(id, price) VALUES (8, 'dear')")
    with pytest.raises(EngineError, match="vector"):
        await engine.execute("INSERT INTO docs(id, v) VALUES (8, ?)", ["[1,2,3]"])
    with pytest.raises(EngineError, match="docs.*v|v.*docs"):
        await engine.execute("INSERT INTO docs(id, v) VALUES (8, ?)", [[1.0, 2.0]])
    assert rows(await engine.query("SELECT id FROM docs WHERE id > 3")) == []


async def test_a_batch_is_all_or_nothing(engine):
    await engine.execute(CREATE)
    with pytest.raises(EngineError, match="2"):
        await engine.execute_batch(["INSERT INTO docs(id) VALUES (1)", "INSERT INTO nowhere VALUES (1)"])
    assert (await engine.query("SELECT id FROM docs"))[0].num_rows == 0
    with pytest.raises(TypeError):
        await engine.execute_batch("INSERT INTO docs(id) VALUES (1)")
    with pytest.raises(EngineError):
        await engine.execute_many("INSERT INTO docs(id) VALUES (?)", [(1,), (1,)])
    assert (await engine.query("SELECT id FROM docs"))[0].num_rows == 0


async def test_parameters_of_every_kind(engine):
    await engine.execute("CREATE TABLE p (a, b, c, d, e, f, g NUMERIC, h)")
    values = [None, True, 5, 0.5, "text", b"\x00\xff", 2**70, [1.0, 2.0]]
    await engine.execute("INSERT INTO p VALUES (?,?,?,?,?,?,?,?)", values)
    vector = np.array([1, 2], dtype="<f4").tobytes()
    (row,) = rows(await engine.query("SELECT a, b, c, d, e, f, h, typeof(g) AS t FROM p"))
    assert row == {"a": None, "b": 1, "c": 5, "d": 0.5, "e": "text", "f": b"\x00\xff", "h": vector, "t": "real"}
    for bad in [object(), {"a": 1}, [[1.0]]]:
        with pytest.raises((TypeError, ValueError), match="parameter 1"):
            await engine.execute("INSERT INTO p(a) VALUES (?)", [bad])
    with pytest.raises(TypeError, match="sequence"):
        await engine.execute("INSERT INTO p(a) VALUES (?)", "x")


async def test_registration(engine):
    await engine.execute(CREATE)
    await engine.execute("INSERT INTO docs(id) VALUES (1), (2)")
    with pytest.warns(UserWarning, match="has 2 rows that its replica lacks"):
        await engine.register_table(DOCS)
    with pytest.raises(RuntimeError, match="already registered"):
        await engine.register_table(DOCS)
    status = await engine.sync_status()
    assert status.tables["docs"].state == "not-loaded" and status.last_synced_seq is None
    assert await engine.initial_sync("docs") == 2
    assert (await engine.sync_status()).tables["docs"].state == "ready"
    with pytest.raises(RuntimeError, match="not registered"):
        await engine.initial_sync("other")
    with pytest.raises(RuntimeError, match="no such table"):
        await engine.register_table(TableSchema("nowhere", [("id", "int64")], ["id"]))
    await engine.execute("CREATE TABLE bad (id INTEGER PRIMARY KEY, n)")
    await engine.execute("INSERT INTO bad VALUES (1, 300), (2, 'x')")
    with pytest.raises(RuntimeError, match="300"):
        await engine.register_table(TableSchema("bad", [("id", "int64"), ("n", "int8")], ["id"]), initial_sync=True)
    assert set((await engine.sync_status()).tables) == {"docs"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await engine.execute("DELETE FROM bad")
        await engine.register_table(TableSchema("bad", [("id", "int64"), ("n", "int8")], ["id"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("t", [("a", "int64"), ("a", "utf8")], ["a"]), "a"),
        (("t", [("a", "int63")], ["a"]), "unknown type: int63"),
        (("t", [("a", "int64")], []), "key"),
        (("t", [("a", "int64")], ["b"]), "b"),
        (("t", [], ["b"]), "column"),
        (("t", [("a", "int64"), ("_valid_to", "int64")], ["a"]), "_valid_to"),
        (("t", [("a", "vector(0)")], ["a"]), "dimension"),
    ],
)
def test_bad_schemas_are_value_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        TableSchema(*arguments)


@pytest.mark.parametrize(
    "settings",
    [
        {"sync_mode": "mirror"},
        {"olap_backend": "duckdb"},
        {"olap_backend": "x"},
        {"storage_mode": "disk"},
        {"storage_mode": "parquet"},
        {"storage_path": "x"},
        {"sync_batch_size": 0},
        {"read_pool_size": 0},
        {"sync_batch_size": 1.5},
    ],
)
def test_bad_settings_are_value_errors(settings):
    (name,) = settings
    with pytest.raises(ValueError, match="storage_path" if name == "storage_mode" and settings[name] == "parquet" else name):
        HtapConfig(**settings)


def test_names_and_defaults_are_the_contracts():
    def defaults(call):
        return {
            name: parameter.default
            for name, parameter in inspect.signature(call).parameters.items()
            if parameter.default is not inspect.Parameter.empty
        }

    expected = dict(
        oltp_path="vexact.db",
        sync_mode="destructive",
        olap_backend="datafusion",
        storage_mode="inmemory",
        storage_path=None,
        prune_after_sync=True,
        sync_batch_size=1000,
        read_pool_size=4,
        sidecar_source=None,
        sidecar_tables=None,
        sidecar_poll_batch_size=500,
        sidecar_delete_detection="disabled",
        sidecar_enable_oltp=False,
        log_limit=None,
        tier="auto",
    )
    assert defaults(vexact.open) == expected
    assert defaults(HtapConfig) == expected
    assert list(inspect.signature(HtapConfig).parameters)[:5] == [
        "oltp_path", "prune_after_sync", "sync_batch_size", "read_pool_size", "sync_mode",
    ]  # fmt: skip
    config = vexact.TimestampTableConfig("t", ["id"])
    assert (config.created_at_column, config.updated_at_column, config.columns) == ("created_at", "updated_at", [])


def other_process(path, *statements):
    """Runs statements in one transaction of Python's sqlite3, in a process of its own; what it says on failure."""
    program = "import sqlite3, sys\nwith sqlite3.connect(sys.argv[1]) as other:\n    for sql in sys.argv[2:]: other.execute(sql)"
    return subprocess.run([sys.executable, "-c", program, path, *statements], capture_output=True, text=True).stderr


async def test_writers_in_other_processes_are_captured(engine, tmp_path):
    await filled(engine)
    changes = ["REPLACE INTO docs VALUES (2, 'other', 9.5, NULL)", "DELETE FROM docs WHERE id = 3"]
    assert other_process(tmp_path / "app.db", *changes) == ""
    result = await engine.sync_now()
    assert (result.rows_updated, result.rows_deleted) == (1, 1)
    found = rows(await engine.query_olap("SELECT id, title FROM docs ORDER BY id"))
    assert [row["id"] for row in found] == [1, 2] and list(found[1].values()) == [2, "other"]
    refused = other_process(tmp_path / "app.db", "INSERT INTO docs VALUES (4, 'x', 'dear', NULL)")
    assert "sqlite3.IntegrityError" in refused and "docs" in refused



async def test_history(tmp_path):
    async with await vexact.open(tmp_path / "app.db", sync_mode="temporal") as engine:
        await filled(engine)
        await engine.execute("UPDATE docs SET Title = 'new' WHERE id = 1")
        await engine.execute("DELETE FROM docs WHERE id = 2")
        await engine.sync_all()
        history = rows(await engine.query("SELECT id, _operation AS o, _valid_to AS t, count(*) AS n FROM docs GROUP BY 1, 2, 3"))
        assert sorted((row["id"], row["o"], row["t"] is None) for row in history) == [
            (1, "I", False), (1, "U", True), (2, "D", False), (2, "I", False), (3, "I", True),
        ]  # fmt: skip
        now = rows(await engine.query("SELECT id, Title FROM as_of('docs', 9000000000000000) ORDER BY id"))
        assert [list(row.values()) for row in now] == [[1, "new"], [3, "t3"]]
        assert rows(await engine.query("SELECT id FROM as_of('docs', 1)")) == []


async def test_columns_come_and_go(engine):
    await filled(engine)
    await engine.execute("ALTER TABLE docs ADD COLUMN age INTEGER DEFAULT 7")
    await engine.add_column("docs", "age", "int32")
    await engine.execute("UPDATE docs SET age = 8 WHERE id = 1")
    await engine.sync_all()
    found = await engine.query_olap("SELECT age, count(*) AS n FROM docs GROUP BY age ORDER BY age")
    assert rows(found) == [{"age": 7, "n": 2}, {"age": 8, "n": 1}] and found[0].schema.types[0] == pa.int32()
    with pytest.raises(RuntimeError, match="key"):
        await engine.drop_column("docs", "id")
    await engine.drop_column("docs", "age")
    assert "age" not in (await engine.query_olap("SELECT * FROM docs"))[0].schema.names
    with pytest.raises(ValueError, match="unknown type: x"):
        await engine.add_column("docs", "y", "x")


async def test_a_session_joins_files_with_replicas(engine):
    await filled(engine)
    session = engine.session()
    session.create_temp_view("names", session.create_dataframe_from_arrow(pa.table({"id": [1, 3], "name": ["a", "b"]})))
    joined = session.sql("SELECT names.name, price FROM names JOIN docs USING (id) ORDER BY name").to_arrow()
    assert joined.to_pylist() == [{"name": "a", "price": 0.5}, {"name": "b", "price": 1.5}]
    assert rows(await engine.query("SELECT name FROM names WHERE id = 1")) == [{"name": "a"}]
    with pytest.raises(ValueError):
        session.sql("DELETE FROM docs")


async def test_the_background_sync_runs_and_stops(engine):
    import anyio

    await filled(engine)
    engine.start_sync(0.001)
    await engine.execute("INSERT INTO docs(id) VALUES (10)")
    with anyio.fail_after(30):
        while (await engine.sync_status()).lag:
            await anyio.sleep(0.001)
    engine.stop_sync()
    engine.stop_sync()
    for interval in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="interval_seconds"):
            engine.start_sync(interval)


async def test_the_event_loop_goes_on_while_the_engine_works(engine):
    import anyio

    await filled(engine)
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await anyio.sleep(0)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await engine.query("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT max(i) FROM n, docs")
        group.cancel_scope.cancel()
    assert ticks > 5


async def test_a_reopened_database_has_its_replicas(tmp_path):
    path = tmp_path / "app.db"
    async with await vexact.open(path) as engine:
        await filled(engine)
        await engine.execute("UPDATE docs SET price = 100 WHERE id = 1")
    async with await vexact.open(path) as engine:
        assert rows(await engine.query("SELECT max(price) AS m FROM docs")) == [{"m": 100.0}]
        await engine.register_table(DOCS)
        other = TableSchema("docs", [("id", "int64")], ["id"])
    async with await vexact.open(path) as engine:
        with pytest.raises(RuntimeError, match="another schema"):
            await engine.register_table(other)


async def test_after_the_end_calls_are_errors(tmp_path):
    engine = await HtapEngine.create(HtapConfig(oltp_path=tmp_path / "app.db"))
    await filled(engine)
    engine.shutdown()
    engine.shutdown()
    for call in (
        engine.execute("DELETE FROM docs"),
        engine.query("SELECT id FROM docs"),
        engine.sync_now(),
        engine.sync_status(),
    ):
        with pytest.raises(RuntimeError, match="shut down"):
            await call


def test_the_blocking_constructor(tmp_path):
    engine = HtapEngine(HtapConfig(oltp_path=str(tmp_path / "app.db")))
    engine.shutdown()
    with pytest.raises(RuntimeError):
        HtapEngine(HtapConfig(oltp_path=tmp_path / "no" / "folder" / "app.db"))


async def test_explain_says_which_side_answers(engine):
    await filled(engine)
    explained = {row["plan_type"]: row["plan"] for row in rows(await engine.query("EXPLAIN SELECT count(*) FROM docs"))}
    assert explained["route"] == "olap: the query has the aggregate count"
    assert "physical_plan" in explained


async def test_what_only_sqlite_can_plan_is_sqlites(engine):
    await filled(engine)
    found = await engine.query("SELECT group_concat(Title, '+') AS t, strftime('%Y', 0, 'unixepoch') AS y FROM docs")
    assert rows(found) == [{"t": "t1+t2+t3", "y": "1970"}]


async def test_a_vector_beyond_float32_is_refused_and_not_stored_as_infinity(engine):
    await engine.execute(CREATE)
    with pytest.raises(ValueError, match="parameter 1: component 1: expected a number within float32, got 1e39"):
        await engine.execute("INSERT INTO docs(v) VALUES (?)", [[0.0, 1e39, 1.0]])
    await engine.execute("INSERT INTO docs(v) VALUES (?)", [[float("inf"), 3.4e38, 1.0]])
    assert rows(await engine.query("SELECT count(*) AS n FROM docs"))[0]["n"] == 1


@pytest.mark.parametrize("sync_mode", ["destructive", "temporal"])
async def test_ties_in_a_replica_go_by_key_whatever_was_written_last(tmp_path, sync_mode):
    async with await vexact.open(tmp_path / "app.db", sync_mode=sync_mode) as engine:
        await engine.execute(CREATE)
        await engine.register_table(DOCS)
        insert = "INSERT INTO docs VALUES (?, ?, ?, ?)"
        await engine.execute_many(insert, [(id, "same", 1.0, [1.0, 0.0, 0.0]) for id in range(20, 0, -1)])
        await engine.sync_all()
        await engine.execute("UPDATE docs SET price = 2 WHERE id IN (1, 7)")
        await engine.execute("UPDATE docs SET v = ? WHERE id = 3", [[2.0, 0.0, 0.0]])
        await engine.sync_all()
        current = "_valid_to IS NULL" if sync_mode == "temporal" else None
        found = await engine.vector_search("docs", "v", [1, 0, 0], top_k=5, filter=current)
        assert [row["id"] for row in rows(found)] == [1, 2, 3, 4, 5]
        where = f"WHERE {current}" if current else ""
        nearest = f"SELECT id FROM docs {where} ORDER BY l2_distance(v, [1.0, 0.0, 0.0]) LIMIT 4 OFFSET 1"
        assert [row["id"] for row in rows(await engine.query_olap(nearest))] == [2, 4, 5, 6]


async def test_a_search_that_cannot_be_done_says_why(engine):
    await filled(engine)
    with pytest.raises(EngineError, match="top_k: expected a whole number of at least 1, got 0"):
        await engine.vector_search("docs", "v", [1, 0, 0], top_k=0)
    with pytest.raises(EngineError, match="expected one of"):
        await engine.vector_search("docs", "v", [1, 0, 0], metric="minkowski")
    with pytest.raises(EngineError, match="got a query batch"):
        await engine.vector_search("docs", "v", [[1, 0, 0], [0, 1, 0]])
    with pytest.raises(EngineError, match="not replicated"):
        await engine.vector_search("nowhere", "v", [1, 0, 0])
    found = await engine.vector_search("docs", "v", [1, 0, 0], top_k=10**30, columns="title")
    assert found[0].schema.names == ["id", "score", "Title"]


async def test_wrong_parameter_counts_are_errors_on_both_routes(engine):
    await filled(engine)
    for sql in ["SELECT id FROM docs WHERE id = ?", "SELECT count(*) FROM docs WHERE id = ?"]:
        for params in ([], [1, 2]):
            with pytest.raises(EngineError):
                await engine.query(sql, params)


@pytest.mark.parametrize("storage_mode", ["arrow_ipc", "parquet"])
@pytest.mark.parametrize("sync_mode", ["destructive", "temporal"])
async def test_replicas_in_files_outlive_the_process(tmp_path, storage_mode, sync_mode):
    path, folder = tmp_path / "app.db", tmp_path / "replicas"
    settings = {"storage_mode": storage_mode, "storage_path": folder, "sync_mode": sync_mode}
    async with await vexact.open(path, **settings) as engine:
        await filled(engine)
        await engine.execute("UPDATE docs SET price = 9 WHERE id = 1")
        await engine.sync_now()
        with pytest.raises(RuntimeError):
            await vexact.open(path, **settings)
        history = rows(await engine.query_olap("SELECT * FROM docs ORDER BY id, price"))
    async with await vexact.open(path, **settings) as engine:
        assert (await engine.sync_status()).lag == 0
        assert rows(await engine.query_olap("SELECT * FROM docs ORDER BY id, price")) == history
        await engine.execute("DELETE FROM docs WHERE id = 2")
        result = await engine.sync_now()
        assert (result.events_processed, result.rows_deleted) == (1, 1)
        found = await engine.vector_search("docs", "v", [0, 1, 0], top_k=1, filter="price < 9")
        assert found[0].num_rows == 1
    other = {"arrow_ipc": "parquet", "parquet": "arrow_ipc"}[storage_mode]
    with pytest.raises(RuntimeError, match=storage_mode):
        await vexact.open(path, **{**settings, "storage_mode": other})
    other = {"destructive": "temporal", "temporal": "destructive"}[sync_mode]
    with pytest.raises((RuntimeError, ValueError), match="sync_mode"):
        await vexact.open(path, **{**settings, "sync_mode": other})

"""The ADBC driver in the extension's file, with the real driver manager, pandas and polars."""

from __future__ import annotations

import datetime
import decimal
import gc
import multiprocessing
import threading
import uuid
from pathlib import Path

import adbc_driver_manager
import adbc_driver_manager.dbapi as adbc
import anyio
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
import vexact.dbapi
from reference import vectors

ROWS = 200
DIM = 4


def random_vectors() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((ROWS, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the replicated table `docs` of 200 rows: id, lang, embedding."""
    path = tmp_path_factory.mktemp("adbc") / "app.db"

    async def make() -> None:
        async with await vexact.open(str(path)) as engine:
            await engine.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, lang TEXT, embedding BLOB)")
            columns = [("id", "int64"), ("lang", "text"), ("embedding", f"vector({DIM})")]
            await engine.register_table(vexact.TableSchema("docs", columns, ["id"]))
            rows = [(i, "en" if i % 2 else "de", vector) for i, vector in enumerate(random_vectors())]
            await engine.execute_many("INSERT INTO docs VALUES (?, ?, ?)", rows)

    anyio.run(make)
    return path


@pytest.fixture
def engine(app: Path):
    with vexact.dbapi.connect(app) as connection:
        yield connection


@pytest.fixture
def files():
    """A session without tables."""
    with vexact.dbapi.connect() as connection:
        yield connection


def best(query: np.ndarray, k: int) -> list[int]:
    """The ids of the rows closest to the query under L2, by numpy."""
    return [int(i) for i in np.argsort(((random_vectors().astype(np.float64) - query) ** 2).sum(axis=1))[:k]]


def rows(connection, sql: str, parameters=None) -> list[tuple]:
    with connection.cursor() as cursor:
        return cursor.execute(sql, parameters).fetchall()


# --- the driver manager's own connect


def test_the_extension_is_a_driver_with_its_entrypoint(app: Path) -> None:
    driver, kwargs = vexact._native.__file__, {"uri": str(app)}
    with adbc.connect(driver=driver, entrypoint="AdbcVexactInit", db_kwargs=kwargs, autocommit=True) as connection:
        assert rows(connection, "SELECT count(*) FROM docs") == [(ROWS,)]
        info = connection.adbc_get_info()
        assert info["vendor_name"] == "vexact" and info["vendor_version"] == vexact.__version__
        assert info["driver_adbc_version"] == 1_001_000


def test_transactions_over_statements_are_refused_with_the_reason(app: Path) -> None:
    driver, kwargs = vexact._native.__file__, {"uri": str(app)}
    with pytest.warns(Warning, match="Cannot disable autocommit"):
        connection = adbc.connect(driver=driver, entrypoint="AdbcVexactInit", db_kwargs=kwargs)
    with connection:
        with pytest.raises(adbc.NotSupportedError, match="each statement, and each executemany, is a transaction"):
            connection.adbc_connection.set_autocommit(False)
        with pytest.raises(adbc.ProgrammingError, match="commit: expected a transaction, got autocommit"):
            connection.adbc_connection.commit()


# --- the DB-API


def test_the_module_has_what_the_db_api_names() -> None:
    module = vexact.dbapi
    assert (module.apilevel, module.threadsafety, module.paramstyle) == ("2.0", 1, "qmark")
    assert issubclass(module.InterfaceError, module.Error) and issubclass(module.DatabaseError, module.Error)
    for name in ("DataError", "OperationalError", "IntegrityError", "InternalError", "ProgrammingError", "NotSupportedError"):
        assert issubclass(getattr(module, name), module.DatabaseError)
    assert module.Binary(bytearray(b"a")) == b"a" and module.Date(2026, 12, 1) == datetime.date(2026, 12, 1)
    assert module.NUMBER == pa.int64() and module.STRING == pa.string() and module.NUMBER != pa.string()
    assert all(hasattr(module, name) for name in module.__all__)


def test_a_cursor_reads_rows_one_by_one_many_and_all(engine) -> None:
    with engine.cursor() as cursor:
        with pytest.raises(vexact.dbapi.ProgrammingError, match="before execute"):
            cursor.fetchone()
        assert cursor.description is None
        cursor.execute("SELECT id, lang FROM docs ORDER BY id LIMIT 5")
        assert [column[0] for column in cursor.description] == ["id", "lang"]
        assert cursor.description[0][1] == vexact.dbapi.NUMBER and cursor.rowcount == -1
        assert cursor.fetchone() == (0, "de") and cursor.fetchmany(2) == [(1, "en"), (2, "de")]
        assert cursor.fetchall() == [(3, "en"), (4, "de")]
        assert cursor.fetchone() is None and cursor.fetchall() == []
        assert list(cursor.execute("VALUES (1), (2)")) == [(1,), (2,)]
        cursor.setinputsizes([1])
        cursor.setoutputsize(1)
        engine.commit()
        engine.rollback()


def test_writes_report_their_rows_and_are_found_by_the_next_search(tmp_path: Path) -> None:
    with vexact.dbapi.connect(tmp_path / "new.db") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        assert cursor.fetchall() == []
        cursor.execute("INSERT INTO t VALUES (?, ?)", (1, "one"))
        assert cursor.rowcount == 1
        cursor.executemany("INSERT INTO t VALUES (?, ?)", [(2, "two"), (3, "three")])
        assert cursor.rowcount == 2
        cursor.execute("INSERT INTO t VALUES (4, 'four') RETURNING id, name")
        assert cursor.fetchall() == [(4, "four")] and cursor.rowcount == 1
        with pytest.raises(vexact.dbapi.IntegrityError, match="UNIQUE") as caught:
            cursor.executemany("INSERT INTO t VALUES (?, ?)", [(5, "five"), (6, "one")])
        assert caught.value.sqlstate == "23000" and (b"sqlite_extended_code", b"2067") in caught.value.details
        assert rows(connection, "SELECT count(*), max(id) FROM t") == [(4, 4)]
        cursor.execute("UPDATE t SET name = name || '!' WHERE id > :least", {"least": 2})
        assert cursor.rowcount == 2
        cursor.execute("PRAGMA user_version = 7")
        assert rows(connection, "PRAGMA user_version") == [(7,)]
        assert rows(connection, "SELECT name FROM t WHERE id IN (?)", ([1, 3],)) == [("one",), ("three!",)]


def test_a_search_finds_what_was_committed_before_it(tmp_path: Path, app: Path) -> None:
    path = tmp_path / "copy.db"
    path.write_bytes(app.read_bytes())
    far = [100.0] * DIM
    search = "SELECT id FROM vector_search('docs', 'embedding', ?, 1, 'l2')"
    with vexact.dbapi.connect(path) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO docs VALUES (?, ?, ?)", (1000, "en", far))
        assert rows(connection, search, (far,)) == [(1000,)]
    with vexact.dbapi.connect(path, fresh=False) as connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM docs WHERE id = 1000")
        assert rows(connection, search, (far,)) == [(1000,)]
        assert rows(connection, "SELECT count(*) FROM docs WHERE id = 1000 AND lang = 'en'") in ([(0,)], [(1,)])


# --- parameters


@pytest.mark.parametrize("kind", ["list", "numpy", "List", "FixedSizeList", "LargeList", "text"])
def test_vectors_are_parameters_in_any_arrow_form(engine, kind: str) -> None:
    query = random_vectors()[17] + np.float32(0.01)
    arrow = {
        "List": pa.list_(pa.float32()),
        "FixedSizeList": pa.list_(pa.float32(), DIM),
        "LargeList": pa.large_list(pa.float64()),
    }
    match kind:
        case "list":
            parameters = ([float(x) for x in query],)
        case "numpy":
            parameters = (query,)
        case "text":
            parameters = (str([float(x) for x in query]),)
        case _:
            column = pa.array([[float(x) for x in query]], arrow[kind])
            parameters = pa.record_batch({"q": column})
    for sql in (
        "SELECT id FROM vector_search('docs', 'embedding', $1, 5, 'l2')",
        "SELECT id FROM docs ORDER BY l2_distance(embedding, $1) LIMIT 5",
    ):
        assert [row[0] for row in rows(engine, sql, parameters)] == best(query.astype(np.float64), 5)


def test_parameters_of_all_types_reach_sqlite_and_return(tmp_path: Path) -> None:
    values = {
        "none": (None, None),
        "true": (True, 1),
        "integer": (2**63 - 1, 2**63 - 1),
        "real": (0.1, 0.1),
        "text": ("å\u20ac", "å\u20ac"),
        "bytes": (b"\x00\xff", b"\x00\xff"),
        "date": (datetime.date(2026, 12, 1), "2026-12-01"),
        "time": (datetime.datetime(2026, 12, 1, 9, 30), "2026-12-01 09:30:00"),
        "fraction": (datetime.datetime(2026, 12, 1, 9, 30, 0, 1500), "2026-12-01 09:30:00.001500"),
        "decimal": (decimal.Decimal("1.50"), "1.50"),
    }
    with vexact.dbapi.connect(tmp_path / "types.db") as connection, connection.cursor() as cursor:
        for name, (given, stored) in values.items():
            cursor.execute("CREATE TABLE IF NOT EXISTS t(name TEXT, value)")
            cursor.execute("INSERT INTO t VALUES (?, ?)", (name, given))
            kind = "text" if given is None or isinstance(stored, str) else type(stored).__name__
            found = rows(connection, "SELECT value IS ? FROM t WHERE name = ?", (stored, name))
            assert found == [(1,)], (name, kind, found)
        with pytest.raises(vexact.dbapi.ProgrammingError, match=r"parameter 1: component 1: expected a number, got NULL"):
            cursor.execute("INSERT INTO t VALUES (?, 1)", ([1.0, None],))
        with pytest.raises(vexact.dbapi.ProgrammingError, match=r"component 0: expected a number within float32, got 1e300"):
            cursor.execute("INSERT INTO t VALUES (?, 1)", ([1e300],))
        big = pa.record_batch({"v": pa.array([2**64 - 1], pa.uint64())})
        cursor.execute("INSERT INTO t VALUES ('big', ?)", big)
        assert rows(connection, "SELECT value FROM t WHERE name = 'big'")[0][0] in (str(2**64 - 1), str(2**64 - 1).encode())


def test_sessions_take_positions_names_and_several_rows(files) -> None:
    assert rows(files, "SELECT ? + ?", (1, 2)) == [(3,)]
    assert rows(files, "SELECT $2 AS y, $1 AS x", ("a", "b")) == [("b", "a")]
    assert rows(files, "SELECT $x * 2", {"x": 21}) == [(42,)]
    many = pa.record_batch({"x": pa.array([1, 2, 3])})
    assert rows(files, "SELECT $1 * 10 AS y", many) == [(10,), (20,), (30,)]
    with files.cursor() as cursor:
        cursor.execute("CREATE TABLE t(a BIGINT, b TEXT)")
        cursor.execute("INSERT INTO t VALUES ($1, $2)", (1, "x"))
        assert cursor.rowcount == 1
        cursor.executemany("INSERT INTO t VALUES ($1, $2)", [(2, "y"), (3, "z")])
        assert cursor.rowcount == 2
        assert rows(files, "SELECT * FROM t ORDER BY a") == [(1, "x"), (2, "y"), (3, "z")]


def test_the_schemas_of_results_and_parameters_are_known_before_execution(engine, files) -> None:
    for connection in (engine, files):
        with connection.cursor() as cursor:
            schema = cursor.adbc_execute_schema("SELECT 1 AS a, 'x' AS b;")
            assert schema.names == ["a", "b"]
            assert len(cursor.adbc_prepare("SELECT ?, ?2")) == 2
            assert cursor.adbc_prepare("SELECT $one, $two").names == ["one", "two"]
            assert cursor.adbc_execute_schema("CREATE TABLE never(a INT)").names == []
            with pytest.raises(vexact.dbapi.Error):
                cursor.execute("SELECT * FROM never")
    with engine.cursor() as cursor:
        schema = cursor.adbc_execute_schema("SELECT id, embedding FROM docs -- the end")
        assert schema.field("embedding").type == pa.list_(pa.float32(), DIM)


# --- pandas, polars, DuckDB


def test_pandas_reads_and_writes(engine, tmp_path: Path) -> None:
    frame = pd.read_sql("SELECT lang, count(*) AS n FROM docs GROUP BY lang ORDER BY lang", engine)
    assert frame.to_dict("list") == {"lang": ["de", "en"], "n": [ROWS // 2, ROWS // 2]}
    with vexact.dbapi.connect(tmp_path / "pandas.db") as connection:
        frame.to_sql("langs", connection, index=False)
        pd.testing.assert_frame_equal(pd.read_sql("SELECT * FROM langs", connection), frame)
        with pytest.raises(ValueError, match="exists"):
            frame.to_sql("langs", connection, index=False)
        frame.to_sql("langs", connection, index=False, if_exists="append")
        assert rows(connection, "SELECT count(*) FROM langs") == [(4,)]


def test_polars_reads_vectors_as_arrays(engine, tmp_path: Path) -> None:
    frame = pl.read_database("SELECT id, embedding FROM docs ORDER BY id", engine)
    assert frame.schema["embedding"] == pl.Array(pl.Float32, shape=(DIM,))
    np.testing.assert_array_equal(frame["embedding"].to_numpy(), random_vectors())
    with vexact.dbapi.connect(tmp_path / "polars.db") as connection:
        assert frame.write_database("docs", connection, engine="adbc") == ROWS
        assert rows(connection, "SELECT count(*), min(length(embedding)) FROM docs") == [(ROWS, 4 * DIM)]


def test_duckdb_reads_the_stream(engine) -> None:
    duckdb = pytest.importorskip("duckdb")
    with engine.cursor() as cursor:
        reader = cursor.execute("SELECT id FROM docs").fetch_record_batch()
        assert duckdb.sql("SELECT sum(id) FROM reader").fetchall() == [(ROWS * (ROWS - 1) // 2,)]


# --- files


def test_a_data_file_is_a_session_with_its_table(tmp_path: Path) -> None:
    table = pa.table({"id": range(ROWS), "embedding": vectors(random_vectors())})
    pq.write_table(table, tmp_path / "docs.parquet")
    (tmp_path / "langs.csv").write_text("code,name\nen,English\n")
    query = random_vectors()[3]
    with vexact.dbapi.connect(tmp_path / "docs.parquet", tables={"langs": tmp_path / "langs.csv"}) as connection:
        found = rows(connection, "SELECT id FROM vector_search('docs', 'embedding', ?, 4, 'l2')", (query,))
        assert [row[0] for row in found] == best(query.astype(np.float64), 4)
        assert rows(connection, "SELECT name FROM langs") == [("English",)]
        assert connection.adbc_get_table_schema("langs").names == ["code", "name"]


def test_a_long_result_is_streamed_and_does_not_fill_the_memory(files) -> None:
    with files.cursor() as cursor:
        cursor.execute("SELECT value, repeat('x', 1000) AS text FROM generate_series(1, 10000000)")
        reader = cursor.fetch_record_batch()
        first = reader.read_next_batch()
        assert first.num_rows > 0 and first.num_rows < 1_000_000
        assert pa.total_allocated_bytes() < 1 << 30
        reader.close()


# --- errors


@pytest.mark.parametrize(
    ("sql", "error", "text"),
    [
        ("SELEC 1", "ProgrammingError", "SELEC"),
        ("SELECT * FROM nowhere", "ProgrammingError", "nowhere"),
        ("SELECT 1; SELECT 2", "ProgrammingError", "expected one"),
        ("", "ProgrammingError", "expected"),
    ],
)
def test_errors_have_a_status_and_our_text(engine, files, sql: str, error: str, text: str) -> None:
    for connection in (engine, files):
        with pytest.raises(getattr(vexact.dbapi, error), match=text):
            rows(connection, sql)
        assert rows(connection, "SELECT 1") == [(1,)]


def test_wrong_options_are_named(tmp_path: Path) -> None:
    def connect(**options: str):
        return vexact.dbapi.connect(options=options)

    with pytest.raises(vexact.dbapi.NotSupportedError, match='unknown option "vexact.wrong" of a database: expected uri'):
        connect(**{"vexact.wrong": "1"})
    with pytest.raises(vexact.dbapi.ProgrammingError, match='vexact.timeout_seconds: expected a number of seconds above 0, got "-1"'):
        connect(**{"vexact.timeout_seconds": "-1"})
    with pytest.raises(vexact.dbapi.ProgrammingError, match='option vexact.fresh: expected "true" or "false", got "maybe"'):
        vexact.dbapi.connect(tmp_path / "x.db", options={"vexact.fresh": "maybe"})
    with pytest.raises(vexact.dbapi.ProgrammingError, match="expected none without a SQLite file"):
        connect(**{"vexact.sync_mode": "temporal"})
    with pytest.raises(vexact.dbapi.ProgrammingError, match="sync_mode"):
        vexact.dbapi.connect(tmp_path / "x.db", options={"vexact.sync_mode": "none"})
    with pytest.raises(vexact.dbapi.ProgrammingError, match="postgresql://"):
        vexact.dbapi.connect("postgresql://host/db")
    with pytest.raises(vexact.dbapi.Error, match="no_such_folder"):
        vexact.dbapi.connect(tmp_path / "no_such_folder" / "x.db")
    with pytest.raises(vexact.dbapi.ProgrammingError, match="not found") as caught:
        vexact.dbapi.connect(tables={"t": tmp_path / "missing.csv"})
    assert caught.value.status_code == adbc_driver_manager.AdbcStatusCode.NOT_FOUND


def test_a_failure_in_the_midst_of_a_query_is_a_data_error(files) -> None:
    with pytest.raises(vexact.dbapi.DataError, match="(?i)divide by zero"):
        rows(files, "SELECT 1 / (value - 3) FROM generate_series(1, 5)")


def test_a_read_only_connection_refuses_changes(app: Path) -> None:
    with vexact.dbapi.connect(app, read_only=True) as connection, connection.cursor() as cursor:
        with pytest.raises(vexact.dbapi.ProgrammingError, match="read-only"):
            cursor.execute("DELETE FROM docs")
        with pytest.raises(vexact.dbapi.ProgrammingError, match="read-only"):
            cursor.adbc_ingest("t", pa.table({"a": [1]}))
        assert rows(connection, "SELECT count(*) FROM docs") == [(ROWS,)]


# --- threads, cancellation, closing

ENDLESS = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 10000000) b WHERE (a.value * b.value) % 7 = 8"


def test_a_statement_is_cancelled_from_another_thread(files) -> None:
    with files.cursor() as cursor:
        canceller = threading.Timer(0.2, cursor.adbc_cancel)
        canceller.start()
        with pytest.raises(vexact.dbapi.OperationalError, match="cancelled") as caught:
            cursor.execute(ENDLESS)
        canceller.join()
        assert caught.value.status_code == adbc_driver_manager.AdbcStatusCode.CANCELLED
        assert cursor.execute("SELECT 2").fetchall() == [(2,)]


def test_a_statement_ends_at_its_time_limit(files) -> None:
    with files.cursor(adbc_stmt_kwargs={"vexact.timeout_seconds": "0.2"}) as cursor:
        with pytest.raises(vexact.dbapi.OperationalError, match="within 200ms") as caught:
            cursor.execute(ENDLESS)
        assert caught.value.status_code == adbc_driver_manager.AdbcStatusCode.TIMEOUT


def test_threads_share_a_database(app: Path) -> None:
    found, failures = [], []
    with vexact.dbapi.connect(app) as shared:

        def search(seed: int) -> None:
            try:
                query = random_vectors()[seed]
                with shared.cursor() as cursor:
                    cursor.execute("SELECT id FROM vector_search('docs', 'embedding', ?, 3, 'l2')", (query,))
                    found.append((seed, [row[0] for row in cursor.fetchall()]))
            except Exception as error:  # noqa: BLE001
                failures.append(error)

        threads = [threading.Thread(target=search, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert all(ids == best(random_vectors()[seed].astype(np.float64), 3) for seed, ids in found) and len(found) == 8


def test_what_is_closed_in_any_order_stays_closed(app: Path) -> None:
    connection = vexact.dbapi.connect(app)
    cursor = connection.cursor()
    reader = cursor.execute("SELECT id FROM docs").fetch_record_batch()
    connection.close()
    connection.close()
    cursor.close()
    with pytest.raises(Exception, match="."):
        cursor.execute("SELECT 1")
    del reader, cursor, connection
    gc.collect()
    # The file is free again: another engine opens it.
    with vexact.dbapi.connect(app) as connection:
        assert rows(connection, "SELECT count(*) FROM docs") == [(ROWS,)]


def in_child(connection, answers) -> None:
    try:
        rows(connection, "SELECT 1")
        answers.put("an answer")
    except Exception as error:  # noqa: BLE001
        answers.put(f"{type(error).__name__}: {error}")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="the system has no fork")
def test_a_fork_does_not_use_its_parents_database(engine) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=in_child, args=(engine, answers))
    child.start()
    answer = answers.get(timeout=60)
    child.join()
    assert "opened by another process" in answer
    assert rows(engine, "SELECT 1") == [(1,)]


def test_values_of_other_types_are_refused(engine) -> None:
    with pytest.raises(Exception, match="."):
        rows(engine, "SELECT ?", (object(),))
    interval = pa.record_batch({"v": pa.array([pa.scalar((1, 2, 3), pa.month_day_nano_interval()).as_py()], pa.month_day_nano_interval())})
    with pytest.raises(vexact.dbapi.ProgrammingError, match="parameter 1: expected NULL, booleans, numbers"):
        rows(engine, "SELECT ?", interval)
    assert isinstance(uuid.uuid4(), uuid.UUID)

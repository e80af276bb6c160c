"""No statement, argument or file kills, fills or freezes the process: it is answered, or refused with a typed error."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from vexact import TableSchema

VECTORS = pa.array([[1.0, 2.0]] * 5, pa.list_(pa.float32(), 2))


def session(**options: Any) -> vexact.Session:
    made = vexact.Session(**options)
    made.create_temp_view("t", made.create_dataframe_from_arrow(pa.table({"id": range(5), "s": list("abcde"), "v": VECTORS})))
    return made


def conditions(terms: int) -> dict[str, str]:
    return {
        "or": " OR ".join(f"id = {i}" for i in range(terms)),
        "and": " AND ".join(f"id <> {i + 9}" for i in range(terms)),
        "in": f"id IN ({', '.join(map(str, range(terms)))})",
        "not in": f"id NOT IN ({', '.join(str(i + 9) for i in range(terms))})",
    }


def chains(terms: int) -> dict[str, str]:
    return {
        "plus": "id < " + " + ".join(["1"] * terms) + " + 5",
        "concat": "s <= " + " || ".join(["'x'"] * terms),
        "case": "id < CASE " + " ".join(f"WHEN id = {i} THEN {i + 1}" for i in range(terms)) + " END",
    }


def on_small_thread(work: Callable[[], Any]) -> Any:
    """Runs it on a thread with a stack of 512 KiB."""
    result: list[Any] = []

    def caught() -> None:
        try:
            result.append(work())
        except BaseException as error:
            result.append(error)

    before = threading.stack_size(512 << 10)
    try:
        thread = threading.Thread(target=caught)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


@pytest.mark.parametrize("kind", conditions(1))
def test_conditions_of_10_000_terms_are_answered(kind: str) -> None:
    condition = conditions(10_000)[kind]
    made = session()
    assert made.sql(f"SELECT id FROM t WHERE {condition}").count() == 5
    assert "Filter" in made.explain_sql(f"SELECT id FROM t WHERE {condition}").logical or kind in ("or", "in")
    assert made.vector_search("t", "v", [1.0, 2.0], 5, "l2", filter=condition).count() == 5
    text = condition.replace("'", "''")
    assert made.sql(f"SELECT count(*) FROM vector_search('t', 'v', [1.0, 2.0], 5, 'l2', '{text}')").to_arrow()[0][0].as_py() == 5
    assert on_small_thread(lambda: made.sql(f"SELECT id FROM t WHERE {condition}").to_arrow().num_rows) == 5


@pytest.mark.parametrize("kind", chains(1))
def test_chains_of_2_000_operators_are_answered(kind: str) -> None:
    condition = chains(2_000)[kind]
    assert session().sql(f"SELECT id FROM t WHERE {condition}").count() == 5


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + " + ".join(["1"] * 100_000),
        "SELECT id FROM t WHERE " + " OR ".join(f"id = {i}" for i in range(100_000)),
        " EXCEPT ".join(["SELECT 1"] * 20_000),
        "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
        "SELECT " + "- " * 20_000 + "1",
        "SELECT 1" + "::int" * 20_000,
        "SELECT " + "NOT " * 20_000 + "true",
    ],
    ids=["plus", "or", "except", "parentheses", "minus", "cast", "not"],
)
def test_what_is_too_deep_is_refused(sql: str) -> None:
    made = session()
    for call in (made.sql, made.explain_sql, lambda text: on_small_thread(lambda: made.sql(text))):
        with pytest.raises(vexact.VexactError, match="expected|nested"):
            call(sql)
    assert made.sql("SELECT 1").count() == 1


def test_a_union_of_2_250_queries_is_answered() -> None:
    assert session().sql(" UNION ALL ".join(f"SELECT id + {i} FROM t" for i in range(2_250))).count() == 11_250


def test_views_within_views_are_answered_or_refused() -> None:
    made = session()
    made.create_temp_view("v0", made.sql("SELECT id FROM t"))
    for i in range(800):
        made.create_temp_view(f"v{i + 1}", made.sql(f"SELECT id + 1 AS id FROM v{i}"))
    assert on_small_thread(lambda: made.sql("SELECT min(id) FROM v800").to_arrow()[0][0].as_py()) == 800
    # Each names the one before twice.
    made.create_temp_view("w0", made.sql("SELECT id FROM t"))
    with pytest.raises(vexact.InvalidRequestError, match="expected a plan of at most"):
        for i in range(100):
            made.create_temp_view(f"w{i + 1}", made.sql(f"SELECT a.id FROM w{i} a JOIN w{i} b ON a.id = b.id"))


def test_streams_and_engines_answer_long_conditions(tmp_path: Path) -> None:
    made = vexact.Session()
    stream = made.create_stream_from_arrow(pa.table({"id": range(5)}))
    made.create_temp_view("events", stream)
    for condition in [conditions(10_000)["or"], chains(2_000)["plus"]]:
        made.stream_sql(f"SELECT id FROM events WHERE {condition}")
    with pytest.raises(vexact.VexactError, match="expected an expression of at most"):
        made.stream_sql("SELECT " + " + ".join(["1"] * 100_000) + " FROM events")

    async def engine() -> None:
        async with await vexact.open(tmp_path / "a.db") as engine:
            await engine.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
            await engine.register_table(TableSchema("t", [("id", "int64")], pk=["id"]))
            await engine.execute_many("INSERT INTO t VALUES (?)", [(i,) for i in range(5)])
            await engine.sync_all()
            for kind in ("or", "in", "and"):
                batches = await engine.query_olap("SELECT id FROM t WHERE " + conditions(10_000)[kind])
                assert sum(batch.num_rows for batch in batches) == 5
                assert engine.session().sql("SELECT id FROM t WHERE " + conditions(10_000)[kind]).count() == 5

    asyncio.run(engine())


def test_json_nested_deeply_after_the_sample_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n' * 2000 + '{"a": ' + "[" * 50_000 + "]" * 50_000 + "}\n")
    with pytest.raises(vexact.InvalidRequestError, match="line 2001.*at most 127 lists and objects"):
        vexact.Session().read_json(path).to_arrow()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT repeat('x', 100000000000000)",
        "SELECT repeat(s, 1000000000) FROM t",
        "SELECT array_repeat(1, 9223372036854775807)",
        "SELECT lpad('x', 2147483647)",
        "SELECT rpad('x', 2147483647, 'é')",
        "SELECT generate_series(1, 9223372036854775807)",
        "SELECT range(DATE '0001-01-01', DATE '9999-01-01', INTERVAL '1 nanosecond')",
        "SELECT array_resize([1], 9223372036854775807)",
        "SELECT replace(repeat('a', 1000000), 'a', repeat('b', 1000000))",
        "SELECT CAST(NULL AS VECTOR(2147483647))",
        "SELECT arrow_cast(NULL, 'FixedSizeList(2147483647, Float32)')",
        "SELECT approx_percentile_cont(id, 0.5, 1000000000000) FROM t",
        "SELECT approx_percentile_cont(id, 0.5, 9223372036854775807) FROM t",
        "SELECT * FROM generate_series(1, 9223372036854775807)",
        "WITH RECURSIVE r AS (SELECT 1 AS n, repeat('x', 1000) AS s UNION ALL SELECT n + 1, s || s FROM r) SELECT sum(n) FROM r",
        "SELECT a.s || b.s FROM (SELECT repeat('x', 100000) AS s FROM t) a, (SELECT 'y' AS s FROM generate_series(1, 100000)) b",
    ],
)
def test_what_needs_more_memory_than_there_is_is_refused(sql: str) -> None:
    made = session(memory_limit_bytes=100_000_000)
    with pytest.raises(vexact.VexactError):
        made.sql(sql).to_arrow()
    assert made.sql("SELECT lpad('x', 3), repeat('ab', 2), range(0, 3)").count() == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("datafusion.execution.batch_size", 10**12),
        ("datafusion.execution.batch_size", 0),
        ("datafusion.execution.target_partitions", 10**6),
        ("datafusion.optimizer.max_passes", 10**9),
        ("datafusion.sql_parser.recursion_limit", 10**9),
    ],
)
def test_settings_have_bounds(name: str, value: int) -> None:
    made = session()
    with pytest.raises(vexact.VexactError, match=f"{name}.*got {value}|{value}"):
        made.sql(f"SET {name} = {value}")
    assert made.sql("SELECT id FROM t").count() == 5


def test_target_partitions_has_a_bound() -> None:
    with pytest.raises(vexact.InvalidRequestError, match="target_partitions: expected at most 1024, got 1000000"):
        vexact.Session(target_partitions=10**6)


LONG = {
    "join": "SELECT count(*) FROM n a, n b, n c, n d, n e, n f, n g, n h WHERE a.i + b.i + c.i + d.i + e.i + f.i + g.i <> h.i",
    "recursive": "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
    "series": "SELECT sum(value) FROM generate_series(1, 9223372036854775807)",
    "sort": "SELECT max(x) FROM (SELECT a.value * b.value AS x FROM generate_series(1, 10000000) a, generate_series(1, 10000000) b)",
}


def numbers() -> vexact.Session:
    made = vexact.Session()
    made.create_temp_view("n", made.create_dataframe_from_arrow(pa.table({"i": range(1000)})))
    return made


@pytest.mark.parametrize("kind", LONG)
def test_a_timeout_ends_every_query(kind: str) -> None:
    made = numbers()
    made.sql("SET vexact.timeout = '200ms'")
    began = time.monotonic()
    with pytest.raises(vexact.QueryTimeoutError, match="200ms"):
        made.sql(LONG[kind]).to_arrow()
    assert time.monotonic() - began < 5
    assert made.sql("SELECT count(*) FROM n").to_arrow()[0][0].as_py() == 1000
    with pytest.raises(vexact.QueryTimeoutError):
        numbers().sql(LONG[kind], timeout=0.1).to_arrow()


@pytest.mark.parametrize("write", ["write_csv", "write_parquet"])
def test_a_timeout_ends_a_write_and_leaves_no_file(write: str, tmp_path: Path) -> None:
    frame = vexact.Session().sql("SELECT * FROM generate_series(1, 9223372036854775807)", timeout=0.2)
    with pytest.raises(vexact.QueryTimeoutError):
        getattr(frame, write)(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


INTERRUPTED = """
import sys, threading, time, vexact, pyarrow as pa
def tell():
    begun = time.process_time()
    while time.process_time() - begun < 0.2:
        time.sleep(0.01)
    print("ready", flush=True)
made = vexact.Session()
made.create_temp_view("n", made.create_dataframe_from_arrow(pa.table({"i": range(1000)})))
how, sql, path = sys.argv[1:]
threading.Thread(target=tell, daemon=True).start()
try:
    frame = made.sql(sql)
    frame.to_arrow() if how == "to_arrow" else getattr(frame, how)(path)
except KeyboardInterrupt:
    print("interrupted", made.sql("SELECT 1").count(), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("how", "sql"),
    [*(("to_arrow", sql) for sql in LONG.values()), ("write_csv", LONG["series"].replace("sum(value)", "value")), ("write_parquet", LONG["series"].replace("sum(value)", "value"))],
)
def test_ctrl_c_ends_every_query_and_the_process(how: str, sql: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, how, sql, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        # It has computed for a while.
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        try:
            assert child.communicate(timeout=20)[0] == "interrupted 1\n"
        finally:
            child.kill()
    assert child.returncode == 0


CANCELLED = """
import asyncio, sys, vexact
async def main():
    async with await vexact.open(sys.argv[1]) as engine:
        for _ in range(3):
            try:
                await asyncio.wait_for(engine.query_olap(sys.argv[2]), 0.2)
            except asyncio.TimeoutError:
                print("timeout", flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["recursive", "series", "sort"])
def test_a_cancelled_read_of_an_engine_ends_with_its_threads(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", CANCELLED, str(tmp_path / "a.db"), LONG[kind]]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "timeout\n" * 3), ended.stderr


LEFT = """
import threading, time, vexact
def work():
    try:
        vexact.Session().sql("SELECT sum(value) FROM generate_series(1, 9223372036854775807)").to_arrow()
    except vexact.VexactError as error:
        print("ended", flush=True)
begun = time.process_time()
threading.Thread(target=work).start()
while time.process_time() - begun < 0.2:
    time.sleep(0.01)
"""


READS_PYARROW = """
import threading, numpy as np, pyarrow as pa, vexact
rows = np.random.default_rng(0).standard_normal(384 * 40_000, dtype=np.float32)
table = pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(rows), 384)})
session = vexact.Session()
session.create_temp_view("t", session.create_dataframe_from_arrow(table))
del table
begun = threading.Event()
def work():
    begun.set()
    try:
        session.vector_search("t", "v", np.ones((400, 384)), top_k=10).to_arrow()
    except vexact.VexactError:
        pass
threading.Thread(target=work).start()
begun.wait()
"""


def test_the_exit_waits_until_a_cancelled_query_reads_no_more_of_pyarrow() -> None:
    ended = subprocess.run([sys.executable, "-c", READS_PYARROW], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_interpreter_exits_while_a_thread_waits_for_a_query() -> None:
    ended = subprocess.run([sys.executable, "-c", LEFT], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "ended\n"), ended.stderr


PANIC_CASES = [
    "SELECT (SELECT FROM t)",
    "SELECT DISTINCT ON (id) id FROM t ORDER BY id, s, s, s, s, s, s",
    "SELECT FROM t",
]


@pytest.mark.parametrize("sql", PANIC_CASES)
def test_what_panicked_is_answered_or_refused(sql: str, capfd: pytest.CaptureFixture[str]) -> None:
    made = session()
    for call in (lambda: made.sql(sql).to_arrow(), lambda: made.explain_sql(sql)):
        try:
            call()
        except vexact.VexactError as error:
            assert "panicked" not in str(error)
    assert made.sql("SELECT 1").count() == 1
    if "RUST_BACKTRACE" not in os.environ:
        assert "panicked" not in capfd.readouterr().err


def files_by_sql(folder: Path) -> list[str]:
    (folder / "a.csv").write_text("id\n1\n")
    return [
        f"COPY (SELECT 1 AS a) TO '{folder / 'copied.csv'}'",
        f"COPY (SELECT 1 AS a) TO '{folder / 'copied.parquet'}' STORED AS PARQUET",
        f"CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{folder / 'a.csv'}'",
        f"CREATE TABLE y USING csv OPTIONS (path '{folder / 'a.csv'}')",
        f"SELECT * FROM '{folder / 'a.csv'}'",
        f"SELECT * FROM \"{folder / 'a.csv'}\"",
        f"INSERT INTO '{folder / 'a.csv'}' VALUES (2)",
        f"EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{folder / 'copied.csv'}'",
    ]


def test_a_session_reads_and_writes_files_by_sql(tmp_path: Path) -> None:
    made = vexact.Session()
    copy, copy_parquet, external, using, *_ = files_by_sql(tmp_path)
    for sql in (copy, copy_parquet, external, using):
        made.sql(sql)
    assert made.sql("SELECT x.id FROM x JOIN y ON x.id = y.id").to_arrow().num_rows == 1
    assert made.read(tmp_path / "copied.csv").count() == made.read(tmp_path / "copied.parquet").count() == 1


def test_the_queries_of_an_engine_and_of_streams_reach_no_file(tmp_path: Path) -> None:
    statements = files_by_sql(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())

    async def engine() -> None:
        async with await vexact.open(tmp_path / "a.db") as engine:
            await engine.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
            await engine.register_table(TableSchema("t", [("id", "int64"), ("v", "vector(2)")], pk=["id"]), initial_sync=True)
            for sql in statements:
                for query in (engine.query, engine.query_olap):
                    with pytest.raises(vexact.EngineError):
                        await query(sql)
                with pytest.raises(vexact.VexactError):
                    await engine.vector_search("t", "v", [1.0, 2.0], filter=f"id IN ({sql})")

    asyncio.run(engine())
    made = vexact.Session()
    made.create_temp_view("s", made.create_stream_from_arrow(pa.table({"id": [1]})))
    for sql in statements:
        with pytest.raises(vexact.VexactError):
            made.stream_sql(sql)
    left = [path.name for path in tmp_path.iterdir() if not path.name.startswith("a.db")]
    assert sorted(left) == before


def test_a_filtered_search_of_a_file_leaves_row_groups_out_and_keeps_row_ids(tmp_path: Path) -> None:
    rows = 10_000
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([float(i * 7919 % rows) for i in range(rows)], pa.float32()), 1)
    table = pa.table({"id": range(rows), "f": [float(i) for i in range(rows)], "s": [f"{i:05}" for i in range(rows)], "v": vectors})
    made = vexact.Session()
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=2_500, data_page_size=512, write_page_index=True, use_dictionary=False)
    made.create_temp_view("file", made.read_parquet(path))
    made.create_temp_view("memory", made.create_dataframe_from_arrow(table))
    for condition in (
        "id < 1000",
        "id BETWEEN 2600 AND 2700 OR id = 9999",
        "id > 7400 AND f < 7600",
        "s >= '04990' AND s < '05010'",
        "f < 100",
        "id + 1 < 50",
        "id < 0",
        "id IN (1, 5000, 9998)",
    ):
        for query in ([4321.0], [[4321.0], [17.0]]):
            arguments = dict(top_k=50, metric="l2", filter=condition, columns=["id"])
            found, expected = (made.vector_search(name, "v", query, **arguments).to_arrow() for name in ("file", "memory"))
            assert found.to_pydict() == expected.to_pydict(), condition
            assert found["row_id"].to_pylist() == found["id"].to_pylist(), condition
    read = made.explain_vector_search("file", "v", [1.0], 5, "l2", filter="id < 1000").strategy
    assert "input_rows=10000" not in read, read
    # A file that is large enough for several threads.
    rows, dim = 60_000, 64
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(range(rows * dim), pa.float32()), dim)
    pq.write_table(pa.table({"id": range(rows), "v": vectors}), path, row_group_size=10_000, use_dictionary=False)
    assert path.stat().st_size > 10 << 20
    made.create_temp_view("large", made.read_parquet(path))
    search = ("large", "v", [0.0] * dim, 3, "l2")
    assert "input_rows=10000" in made.explain_vector_search(*search, filter="id >= 50000").strategy.splitlines()
    assert made.vector_search(*search, filter="id >= 50000").to_arrow()["row_id"].to_pylist() == [50_000, 50_001, 50_002]

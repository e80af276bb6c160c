"""CREATE TABLE over files and in memory, INSERT into both, and what is refused."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from reference import hits, search, vectors


def rows(session: vexact.Session, query: str) -> list[list[object]]:
    return session.sql(query).to_rows()["rows"]


@pytest.mark.parametrize(
    "options",
    ["path: '{}', delimiter: ';'", "path '{}', delimiter ';'", "PATH = '{}', Delimiter = ';',"],
)
def test_the_three_spellings_of_options(session: vexact.Session, write, options: str) -> None:
    path = write("id;name\n1;a,b\n2;\n", "a b.csv")
    session.sql(f"CREATE TABLE t USING csv OPTIONS({options.format(path)})")
    assert rows(session, "SELECT * FROM t ORDER BY id") == [[1, "a,b"], [2, None]]


def test_declared_columns_type_the_cells(session: vexact.Session, write) -> None:
    path = write("id,at,v,ok\n1,2024-01-02 03:04:05,[1 2],true\n")
    session.sql(
        f"CREATE TABLE t (id INT, at TIMESTAMP(3), v VECTOR(2), ok BOOLEAN) USING csv OPTIONS(path: '{path}')"
    )
    table = session.sql("SELECT * FROM t").to_arrow()
    assert table.schema.types == [pa.int32(), pa.timestamp("ms"), pa.list_(pa.float32(), 2), pa.bool_()]
    assert hits(session.vector_search("t", "v", [1, 2], 1, "l2")) == [(0, 0.0)]


def test_declared_columns_are_those_of_the_file(session: vexact.Session, write, tmp_path: Path) -> None:
    csv = write("Id,name\n1,a\n2,b\n")
    lines = write('{"id": 1, "name": "a"}\n', "a.jsonl")
    pq.write_table(pa.table({"id": [1], "name": ["a"]}), tmp_path / "a.parquet")
    for declared, using, path, expected in [
        ("id INT, name STRING", "csv", csv, 'columns: declared are [id, name], the file has [Id, name]; a name with upper case is declared in quotes, as "Id"'),
        ('"Id" INT', "csv", csv, "columns: declared are [Id], the file has [Id, name]"),
        ('"Id" INT, name INT', "csv", csv, 'line 2, column "name": expected Int32, got "a"'),
        ("id INT, nam STRING", "json", lines, 'column "nam" is declared, the file has [id, name]'),
        ("id INT, name INT", "json", lines, 'line 1, column "name": expected Int32, got "a"'),
        ("id INT, name STRING", "parquet", tmp_path / "a.parquet", 'column "id": declared is Int32, the file has Int64'),
        ("id BIGINT", "parquet", tmp_path / "a.parquet", "columns: declared are [id], the file has [id, name]"),
    ]:
        with pytest.raises(vexact.InvalidRequestError, match=re.escape(f"{path}: {expected}") + "$"):
            session.sql(f"CREATE TABLE t ({declared}) USING {using} OPTIONS(path: '{path}')")
    with pytest.raises(vexact.InvalidRequestError):
        session.sql("SELECT * FROM t")


def test_a_table_is_created_once_replaced_or_kept(session: vexact.Session, write) -> None:
    one, two = write("n\n1\n", "1.csv"), write("n\n2\n", "2.csv")
    create = "TABLE {} t USING csv OPTIONS(path: '{}')"
    session.sql("CREATE " + create.format("", one))
    with pytest.raises(vexact.InvalidRequestError, match='table "t" exists already'):
        session.sql("CREATE " + create.format("", two))
    session.sql("CREATE " + create.format("IF NOT EXISTS", two))
    assert rows(session, "SELECT n FROM t") == [[1]]
    session.sql("CREATE OR REPLACE " + create.format("", two))
    assert rows(session, "SELECT n FROM t") == [[2]]
    session.sql("DROP TABLE t")
    assert one.exists() and two.exists()
    with pytest.raises(vexact.InvalidRequestError, match="t"):
        session.sql("SELECT n FROM t")


def test_statements_that_cannot_be_met_are_refused(session: vexact.Session, write) -> None:
    path = write("n\n1\n")
    for sql, expected in [
        (f"CREATE TABLE t USING excel OPTIONS(path: '{path}')", "unknown format \"excel\": expected one of csv, tsv, json"),
        (f"CREATE TABLE t USING csv OPTIONS(path: '{path}', heading: true)", 'unknown option "heading": USING csv takes path, delimiter'),
        ("CREATE TABLE t USING csv", "option path: expected a value, got none"),
        (f"CREATE TABLE t USING csv OPTIONS(path: '{path}', delimiter: ';;')", "option delimiter: expected one character"),
        ("CREATE TABLE t (a INT PRIMARY KEY)", "expected no PRIMARY KEY and no UNIQUE"),
        ("CREATE TABLE t USING csv OPTIONS(path 1 2)", "Expected: ), found: 2 at Line: 1"),
    ]:
        with pytest.raises(vexact.InvalidRequestError, match=re.escape(expected)):
            session.sql(sql)
    with pytest.raises(FileNotFoundError, match="nowhere.csv"):
        session.sql("CREATE TABLE t USING csv OPTIONS(path: 'nowhere.csv')")
    for change in ("UPDATE t SET n = 1", "DELETE FROM t", "MERGE INTO t USING t AS s ON t.n = s.n WHEN MATCHED THEN DELETE"):
        with pytest.raises(vexact.InvalidRequestError, match=f"{change.split()[0]} is refused"):
            session.sql(change)


TYPES = "id BIGINT, name STRING, x DOUBLE, at TIMESTAMP(6), ok BOOLEAN, v VECTOR(2)"
VALUES = [
    "(1, 'a, \"b\"\n', 0.1, '2024-01-02T03:04:05.000006', true, to_vector('[1.5, -2]'))",
    "(2, NULL, NULL, NULL, NULL, NULL)",
    "(3, 'ü', 1e300, '1969-12-31T23:59:59', false, to_vector('[1e-30 3]'))",
]


@pytest.mark.parametrize(("using", "name"), [("csv", "t.csv"), ("tsv", "t.tsv"), ("json", "t.jsonl"), ("parquet", "parts")])
def test_what_is_inserted_is_read_back(session: vexact.Session, tmp_path: Path, using: str, name: str) -> None:
    path = tmp_path / name
    session.sql(f"CREATE TABLE t ({TYPES}) USING {using} OPTIONS(path: '{path}')")
    session.sql(f"CREATE TABLE expected ({TYPES})")
    for value in VALUES:
        for table in ("t", "expected"):
            assert rows(session, f"INSERT INTO {table} VALUES {value}") == [[1]]
    assert rows(session, "INSERT INTO t SELECT * FROM t WHERE id = 1") == [[1]]
    assert rows(session, "INSERT INTO expected SELECT * FROM expected WHERE id = 1") == [[1]]
    got, expected = (session.sql(f"SELECT * FROM {table} ORDER BY id").to_arrow() for table in ("t", "expected"))
    assert got.to_pylist() == expected.to_pylist()
    assert len(got) == 4
    # Another session reads what is there; nothing else is.
    again = vexact.Session()
    again.sql(f"CREATE TABLE t ({TYPES}) USING {using} OPTIONS(path: '{path}')")
    assert again.sql("SELECT * FROM t ORDER BY id").to_arrow().to_pylist() == expected.to_pylist()
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_an_insert_keeps_what_is_in_the_file(session: vexact.Session, write) -> None:
    path = write('n;text\r\n1;"a\nb"\r\n2;c', "old.csv")
    session.sql(f"CREATE TABLE t USING csv OPTIONS(path: '{path}', delimiter: ';')")
    session.sql("INSERT INTO t VALUES (3, 'd;e')")
    assert path.read_bytes() == b'n;text\r\n1;"a\nb"\r\n2;c\n3;"d;e"\n'
    path.write_text("n;other\n")
    with pytest.raises(vexact.InvalidRequestError, match=r"declared are \[n, text\], the file has \[n, other\]"):
        session.sql("INSERT INTO t VALUES (4, 'x')")
    assert path.read_text() == "n;other\n"


def test_an_insert_that_fails_changes_nothing(session: vexact.Session, write, tmp_path: Path) -> None:
    path = write("n\n" + "1\n" * 20_000 + "x\n", "in.csv")
    session.sql(f"CREATE TABLE bad USING csv OPTIONS(path: '{path}')")
    targets = {"csv": tmp_path / "out.csv", "json": tmp_path / "out.jsonl", "parquet": tmp_path / "out"}
    for using, target in targets.items():
        session.sql(f"CREATE TABLE {using}_t (n BIGINT) USING {using} OPTIONS(path: '{target}')")
    session.sql("CREATE TABLE memory_t (n BIGINT)")
    for using in (*targets, "memory"):
        session.sql(f"INSERT INTO {using}_t VALUES (7)")
        with pytest.raises(vexact.InvalidRequestError, match='in.csv: line 20002, column "n": expected Int64, got "x"'):
            session.sql(f"INSERT INTO {using}_t SELECT n FROM bad")
        assert rows(session, f"SELECT n FROM {using}_t") == [[7]]
    with pytest.raises(vexact.InvalidRequestError, match='"x": expected finite numbers in a JSON file'):
        session.sql(f"CREATE TABLE f (x DOUBLE) USING json OPTIONS(path: '{tmp_path / 'f.jsonl'}')")
        session.sql("INSERT INTO f VALUES ('NaN'::DOUBLE)")
    assert not [file for file in tmp_path.rglob("*") if file.name.endswith(".tmp")]


def test_formats_that_take_no_insert_say_why(session: vexact.Session, write, tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1]}), tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, pa.schema({"n": pa.int64()})) as writer:
        writer.write_table(pa.table({"n": [1]}))
    write("1\n", "a.log")
    write('[{"n": 1}]', "a.json")
    for using, name, reason in [
        ("parquet", "a.parquet", "a Parquet file is whole: expected the path of a folder"),
        ("arrow", "a.arrow", "an Arrow file is whole"),
        ("line", "a.log", "USING line says how lines are read"),
        ("json", "a.json", "a JSON array ends with its bracket: expected format json_lines"),
    ]:
        columns = "(n BIGINT)" if using == "line" else ""
        session.sql(f"CREATE OR REPLACE TABLE t {columns} USING {using} OPTIONS(path: '{tmp_path / name}')")
        assert rows(session, "SELECT n FROM t") == [[1]]
        with pytest.raises(vexact.InvalidRequestError, match=f"INSERT is refused: {reason}"):
            session.sql("INSERT INTO t VALUES (2)")
    session.create_temp_view("v", session.read_csv(write("n\n1\n")))
    with pytest.raises(vexact.InvalidRequestError, match="INSERT is refused: the table was read from a file"):
        session.sql("INSERT INTO v VALUES (2)")


def test_explain_inserts_nothing(session: vexact.Session) -> None:
    session.sql("CREATE TABLE t (n INT)")
    session.explain_sql("INSERT INTO t VALUES (1)")
    session.sql("EXPLAIN INSERT INTO t VALUES (1)").to_rows()
    assert rows(session, "SELECT count(*) FROM t") == [[0]]
    frame = session.sql("INSERT INTO t VALUES (1)")
    assert frame.to_rows() == frame.to_rows() == {"schema": ["count"], "rows": [[1]]}
    assert rows(session, "SELECT count(*) FROM t") == [[1]]
    with pytest.raises(vexact.InvalidRequestError, match="expected a query or INSERT"):
        session.explain_sql("CREATE TABLE u (n INT)")


@pytest.mark.parametrize("using", ["memory", "csv", "json", "parquet"])
def test_readers_see_whole_statements_and_writers_lose_nothing(tmp_path: Path, using: str) -> None:
    """Four writers insert 8 statements of 3 rows each, two of them in sessions of their own over the same file."""
    options = "" if using == "memory" else f"USING {using} OPTIONS(path: '{tmp_path / 'data'}')"
    create = f"CREATE TABLE t (writer BIGINT, n BIGINT) {options}"
    shared = vexact.Session()
    shared.sql(create)
    shared.sql("INSERT INTO t VALUES (0, 0), (0, 0), (0, 0)")
    done, counts, failures = threading.Event(), [], []

    def insert(writer: int) -> None:
        session = shared
        if writer % 2 and using != "memory":
            session = vexact.Session()
            session.sql(create)
        for n in range(8):
            session.sql(f"INSERT INTO t VALUES ({writer}, {n}), ({writer}, {n}), ({writer}, {n})")

    def read() -> None:
        try:
            while not done.is_set():
                counts.append(rows(shared, "SELECT count(*) FROM t")[0][0])
        except vexact.VexactError as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=insert, args=(writer,)) for writer in range(1, 5)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert not failures
    assert all(count % 3 == 0 for count in counts) and counts == sorted(counts)
    found = rows(shared, "SELECT writer, count(*), count(DISTINCT n) FROM t WHERE writer > 0 GROUP BY writer ORDER BY 1")
    assert found == [[writer, 24, 8] for writer in range(1, 5)]


def test_tables_in_memory_are_searched(session: vexact.Session) -> None:
    rng = np.random.default_rng(7)
    data = rng.standard_normal((300, 8)).astype(np.float32)
    frame = session.create_dataframe_from_arrow(pa.table({"id": range(300), "v": vectors(data)}))
    session.create_temp_view("source", frame)
    session.sql("CREATE TABLE t AS SELECT * FROM source WHERE id < 100")
    session.sql("INSERT INTO t SELECT * FROM source WHERE id >= 100 ORDER BY id")
    query = rng.standard_normal(8)
    expected = search("cosine", data, query, 9)
    assert hits(session.vector_search("t", "v", query, 9)) == expected
    found = rows(session, f"SELECT id FROM vector_search('t', 'v', '{query.tolist()}', 9)")
    assert [row[0] for row in found] == [row for row, _ in expected]
    assert "chunks" in session.explain_vector_search("t", "v", query).physical.lower()


def test_defaults_and_not_null_hold_in_memory(session: vexact.Session) -> None:
    session.sql("CREATE TABLE t (a INT NOT NULL, b INT DEFAULT 5)")
    session.sql("INSERT INTO t (a) VALUES (1)")
    assert rows(session, "SELECT * FROM t") == [[1, 5]]
    with pytest.raises(vexact.VexactError, match="(?i)null"):
        session.sql("INSERT INTO t VALUES (NULL, 1)")
    assert rows(session, "SELECT count(*) FROM t") == [[1]]


def test_lines_are_tables(session: vexact.Session, write) -> None:
    path = write("10:00|INFO|12\n10:01|WARN|7\n", "a.log")
    session.sql(f"CREATE TABLE a (at STRING, level STRING, ms INT) USING line OPTIONS(path '{path}', split_delimiter '|')")
    session.sql(f"CREATE TABLE b USING line OPTIONS(path '{path}', split_delimiter '|', mappings 'ms:2, level:1:STRING')")
    pattern = r"^(?P<at>[^|]+).*\|(?P<ms>\d+)$"
    session.sql(f"CREATE TABLE c (ms BIGINT, at STRING) USING line OPTIONS(path '{path}', regex_pattern '{pattern}')")
    assert rows(session, "SELECT a.ms, b.ms, b.level, c.at FROM a JOIN b USING (level) JOIN c USING (at) ORDER BY 1") == [
        [7, 7, "WARN", "10:01"],
        [12, 12, "INFO", "10:00"],
    ]
    with pytest.raises(vexact.InvalidRequestError, match='a.log: line 1: column "level": expected Int32, got "INFO"'):
        session.sql(f"CREATE TABLE d (at STRING, level INT) USING line OPTIONS(path '{path}', split_delimiter '|')")


def test_json_tables_read_lists_as_vectors(session: vexact.Session, write) -> None:
    path = write("".join(json.dumps({"id": i, "v": [i, 0.5]}) + "\n" for i in range(5)), "a.jsonl")
    session.sql(f"CREATE TABLE t USING json OPTIONS(path: '{path}')")
    session.sql("INSERT INTO t VALUES (9, to_vector('[9, 0.5]'))")
    assert hits(session.vector_search("t", "v", [9, 0.5], 1, "l2")) == [(5, 0.0)]
    session.sql(f"CREATE TABLE u (id INT, v VECTOR(2)) USING json OPTIONS(path: '{path}')")
    assert session.sql("SELECT v FROM u").schema.types == [pa.list_(pa.float32(), 2)]


def test_parameters_are_inserted_as_the_columns_types(session: vexact.Session, tmp_path: Path) -> None:
    for table, options in (("a", ""), ("b", f"USING csv OPTIONS(path: '{tmp_path / 'b.csv'}')")):
        session.sql(f"CREATE TABLE {table} (id INT, v VECTOR(2)) {options}")
        session.sql(f"INSERT INTO {table} VALUES ($1, $2)", [7, np.array([0.5, 2.0])])
        found = session.sql(f"SELECT * FROM {table}").to_arrow()
        assert found.schema.types == [pa.int32(), pa.list_(pa.float32(), 2)]
        assert found.to_pylist() == [{"id": 7, "v": [0.5, 2.0]}]
        with pytest.raises(vexact.VexactError, match="different size"):
            session.sql(f"INSERT INTO {table} VALUES ($1, $2)", [8, np.ones(3)])
        assert session.sql(f"SELECT * FROM {table}").count() == 1
